// The page: what people do (draw, load, choose, point) and what is shown then. The network answers while they draw.
const page = JSON.parse(find("page").textContent);
const program = JSON.parse(find("program").textContent);
const weights = decode(find("weights").textContent).buffer;
const network = new Network(program, weights);
const shape = program.input;
const drawing = new Drawing(shape, page.style);
const SCREEN = 392; // pixels of the drawing's longer side
const IDLE = 400; // milliseconds without a change, after which the heat map is computed
const SLICE = 12; // milliseconds of its computation at a time
const SLOW = 25; // milliseconds; a network that takes longer rests as long as it works, so that drawing stays smooth
const now = {
  language: page.language, stroke: null, isErasing: false, colour: page.style.ink, cursor: null, screen: null,
  pixels: null, placement: IN_PLACE, values: null, range: [0, 1], layer: -1, layout: null, map: 0, cell: null,
  cost: 0, frame: 0, answering: 0, heating: 0, speaking: 0,
};

function decode(text) {
  return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
}

/* Texts */

function say(key, values = {}) {
  const known = { ...page.facts, ...shape, ...values };
  return page.texts[now.language][key].replace(/\{(\w+)\}/g, (_, name) => String(known[name]));
}

const formatNumber = (value, digits) => value.toLocaleString(now.language === "pt" ? "pt-BR" : "en", {
  minimumFractionDigits: digits, maximumFractionDigits: digits,
});

// A share such as 98.3 %; what would wrongly round to 0 or 100 is said to be less or more.
function formatShare(share, digits = 1) {
  const step = 10 ** -digits;
  const rounded = Number((100 * share).toFixed(digits));
  const [sign, value] = share > 0 && rounded === 0 ? ["< ", step]
    : share < 1 && rounded === 100 ? ["> ", 100 - step] : ["", rounded];
  return say("percent", { number: sign + formatNumber(value, digits) });
}

// A screen reader says it when nothing else was announced for a while.
function announce(text) {
  clearTimeout(now.speaking);
  now.speaking = setTimeout(() => { find("status").textContent = text; }, 500);
}

function translate(language) {
  now.language = language;
  document.documentElement.lang = language === "pt" ? "pt-BR" : "en";
  document.title = say("title");
  const accuracy = page.accuracy === null ? "" : say("accuracy", { share: formatShare(page.accuracy) });
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = say(element.dataset.text, { accuracy, count: MOST_BARS, total: page.classes.length });
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", button.dataset.language === language);
  }
  [...find("samples").children].forEach((button, at) => {
    const { places, labels } = page.samples;
    button.title = say("sample", { index: places[at], name: page.classes[labels[at]] });
    button.setAttribute("aria-label", button.title);
  });
  describeFilters();
  if (now.layout) labelMaps();
  refresh();
}

/* The drawing */

// Shows the drawing in the next frame, and has the network answer it.
function refresh() {
  now.frame ||= requestAnimationFrame(() => {
    now.frame = 0;
    fillPixels(find("paper"), now.screen.data, now.screen);
    const { state } = drawing;
    find("undo").disabled = !drawing.past.length;
    find("clear").disabled = drawing.isEmpty;
    if (find("centre")) find("centre").disabled = Boolean(state.picture);
    find("invert").hidden = !state.isReversed;
    find("message").textContent = state.isReversed ? say("reversed")
      : state.picture && find("centre") ? say("unchanged") : "";
    find("truth").textContent = state.picture && !state.strokes.length && state.label !== undefined
      ? say("truth", { name: page.classes[state.label] }) : "";
    scheduleAnswer();
  });
}

// Paints all of the drawing anew, because more has changed than the end of a stroke.
function repaint() {
  now.screen = drawing.paint(Math.max(2, Math.round(SCREEN / Math.max(shape.height, shape.width))));
  refresh();
}

function startStroke([x, y], isErasing = now.isErasing) {
  const radius = isErasing ? Math.max(page.style.pen, 1) : page.style.pen / 2;
  const colour = isErasing ? page.style.paper : now.colour;
  now.stroke = drawing.startStroke(x, y, { colour, radius, isEraser: isErasing });
  paintStroke(now.screen, now.stroke, IN_PLACE);
  refresh();
}

function extendStroke(points) {
  const first = now.stroke.points.length / 2;
  now.stroke.points.push(...points.flat());
  paintStroke(now.screen, now.stroke, IN_PLACE, first);
  refresh();
}

function undo() {
  now.stroke = null;
  drawing.undo();
  repaint();
}

function show(pixels, facts) {
  now.stroke = null;
  drawing.replace({ picture: pixels, strokes: [], ...facts });
  repaint();
}

async function load(file) {
  try {
    const pixels = await readPicture(file, shape, page.decoding);
    show(pixels, { isReversed: Boolean(page.polarity) && hasOtherPolarity(pixels, shape, page.polarity) });
  } catch {
    find("message").textContent = say("unreadable", { name: file.name });
  }
}

/* The answer */

function scheduleAnswer() {
  find("answer").setAttribute("aria-busy", "true");
  clearTimeout(now.heating);
  now.answering ||= setTimeout(answer, now.cost > SLOW ? now.cost : 0);
}

function answer() {
  now.answering = 0;
  Object.assign(now, drawing.prepare());
  const started = performance.now();
  const { probabilities, activations } = network.run(now.pixels);
  now.cost = performance.now() - started;
  now.values = Float32Array.from(activations[now.layer]); // the heat map's computation overwrites them
  showAnswer(drawing.isEmpty ? new Float32Array(probabilities.length) : probabilities);
  fillPixels(find("input"), now.pixels, shape);
  fillPixels(find("patch"), now.pixels, shape);
  fillHeat(find("heat"), now.pixels, null, shape);
  showMaps();
  find("answer").setAttribute("aria-busy", "false");
}

function showAnswer(probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  const [name, share] = [page.classes[best], formatShare(probabilities[best], 0)];
  find("label").textContent = drawing.isEmpty ? "" : name;
  find("share").textContent = drawing.isEmpty ? say("draw_first") : share;
  find("answer").classList.toggle("empty", drawing.isEmpty);
  showBars(find("bars"), page.classes, probabilities, formatShare);
  if (drawing.isEmpty) {
    if (drawing.past.length) announce(say("blank"));
    return;
  }
  if (!now.cursor || !now.stroke) announce(say("spoken", { name, share }));
  now.heating = setTimeout(startHeat, IDLE, best);
}

function startHeat(label) {
  const side = Math.min(shape.height, shape.width);
  const [size, stride] = [4, 8].map((part) => Math.max(1, Math.round(side / part)));
  const windows = network.occlusion(now.pixels, label, size, stride);
  const work = () => {
    const started = performance.now();
    let step = windows.next();
    while (!step.done && performance.now() - started < SLICE) step = windows.next();
    if (step.done) fillHeat(find("heat"), now.pixels, step.value.map, shape);
    else now.heating = setTimeout(work);
  };
  work();
}

/* Feature maps and filters */

function chooseLayer(place) {
  Object.assign(now, { layer: place, layout: layOut(program.layers[place]), map: 0, cell: null });
  const shown = Math.min(now.layout.maps, MOST_MAPS);
  find("maps").replaceChildren(...Array.from({ length: shown }, (_, map) => (
    make("button", { type: "button", className: "map", tabIndex: map ? -1 : 0 }, make("canvas"))
  )));
  find("maps").classList.toggle("dense", now.layout.isDense);
  labelMaps();
  refresh();
}

function labelMaps() {
  [...find("maps").children].forEach((button, map) => button.setAttribute("aria-label", nameMap(map)));
  find("large-caption").textContent = say(now.layout.isDense ? "units" : "large");
  find("maps-count").textContent = now.layout.maps > MOST_MAPS
    ? say("maps_count", { shown: MOST_MAPS, total: now.layout.maps }) : "";
}

const nameMap = (map) => (now.layout.isDense ? say("units") : say("map", { map: map + 1 }));

function showMaps() {
  now.range = findRange(now.values);
  [...find("maps").children].forEach((button, map) => {
    fillMap(button.firstChild, now.layout, now.values, map, now.range);
    button.setAttribute("aria-pressed", map === now.map);
  });
  fillMap(find("large"), now.layout, now.values, now.map, now.range);
  showCell();
}

function chooseMap(map) {
  [...find("maps").children].forEach((button, other) => {
    button.tabIndex = other === map ? 0 : -1;
    button.setAttribute("aria-pressed", other === map);
  });
  now.map = map;
  fillMap(find("large"), now.layout, now.values, map, now.range);
}

// Shows the cell that is pointed at: its value, and the part of the drawing that it sees.
function showCell() {
  const { cell, layout, placement } = now;
  const layer = program.layers[now.layer];
  const unit = cell && cell.row * layout.columns + cell.column;
  const isThere = Boolean(cell) && unit < layout.units;
  const field = isThere ? findField(layer, shape, cell.row, cell.column) : null;
  const back = (value, offset) => (value - offset) / placement.zoom;
  const onDrawing = field && {
    left: back(field.left, placement.x), right: back(field.right, placement.x),
    top: back(field.top, placement.y), bottom: back(field.bottom, placement.y),
  };
  outline(find("board-field"), onDrawing, shape);
  outline(find("patch-field"), field, shape);
  const box = isThere && { left: cell.column, right: cell.column + 1, top: cell.row, bottom: cell.row + 1 };
  outline(find("unit-field"), box || null, { height: layout.rows, width: layout.columns });
  find("unit").textContent = isThere ? describeCell(field, unit) : nameMap(now.map);
}

function describeCell(field, unit) {
  const { cell, layout, map, values } = now;
  const value = formatNumber(values[map * layout.units + unit], 3);
  const place = layout.isDense ? say("unit", { unit: unit + 1, value })
    : say("cell", { map: nameMap(map), row: cell.row + 1, column: cell.column + 1, value });
  const size = { height: field.bottom - field.top, width: field.right - field.left };
  return `${place}; ${field.isWhole ? say("whole") : say("field", size)}`;
}

function showFilters() {
  const found = findFilters(program, new Float32Array(weights));
  find("filters-section").hidden = !found;
  if (!found) return;
  const limit = found.filters.reduce((most, one) => one.reduce((a, b) => Math.max(a, Math.abs(b)), most), 0) || 1;
  for (const filter of found.filters) {
    const canvas = make("canvas");
    fillFilter(canvas, filter, found.shape, limit);
    find("filters").append(canvas);
  }
  now.filters = found;
}

function describeFilters() {
  if (!now.filters) return;
  const { layer, filters, shape: [channels], count } = now.filters;
  const isDense = layer.kind === "linear";
  const counted = `${isDense ? "units" : "filters"}_${filters.length < count ? "some" : "all"}`;
  const some = say(counted, { shown: filters.length, total: count });
  const key = isDense ? "filters_dense" : channels === 3 ? "filters_colour" : "filters_note";
  find("filters-note").textContent = say(key, { some, layer: layer.name });
}

function start() {
  const layers = program.layers.map((layer, place) => ({ layer, place })).filter(({ layer }) => layer.show);
  find("layer").append(...layers.map(({ layer, place }) => (
    make("option", { value: place, textContent: `${layer.name} · ${layer.shape.join(" × ")}` })
  )));
  find("samples-section").hidden = !page.samples.labels.length;
  const samples = decode(page.samples.pixels);
  const size = shape.channels * shape.height * shape.width;
  page.samples.labels.forEach((label, index) => {
    const pixels = samples.subarray(index * size, (index + 1) * size);
    const button = make("button", { type: "button", onclick: () => show(pixels, { label }) }, make("canvas"));
    fillPixels(button.firstChild, pixels, shape);
    find("samples").append(button);
  });
  find("top").hidden = page.classes.length <= MOST_BARS;
  find("board").style.aspectRatio = find("paper").style.aspectRatio = `${shape.width} / ${shape.height}`;
  showFilters();
  repaint();
  chooseLayer(layers[0].place);
  translate(page.language);
  listen();
}
