// What the page shows of the network's work: bars, feature maps, filters, the heat map. Names are set as text only.
const MOST_BARS = 12; // with more classes, only the likeliest are shown
const MOST_MAPS = 64;
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
  [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const BLUE_TO_RED = [[5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]];
const [FOR, AGAINST] = [[213, 94, 0], [0, 114, 178]];

const find = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

// A colour between those of a scale, for a share from 0 to 1.
function mix(scale, share) {
  const place = Math.max(0, Math.min(1, share || 0)) * (scale.length - 1);
  const below = Math.min(scale.length - 2, Math.floor(place));
  return scale[below].map((value, c) => value + (scale[below + 1][c] - value) * (place - below));
}

// Fills a canvas of one pixel a cell; `colour` gives [red, green, blue] for the index of a cell, or null for a clear one.
function fillCells(canvas, height, width, colour) {
  Object.assign(canvas, { height, width });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let at = 0; at < height * width; at++) {
    const cell = colour(at);
    if (cell) image.data.set([...cell, 255], 4 * at);
  }
  context.putImageData(image, 0, 0);
}

// Fills a canvas with pixels (C, H, W), which are grey or coloured.
function fillPixels(canvas, pixels, { height, width }) {
  Object.assign(canvas, { height, width });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const size = height * width;
  const [green, blue] = pixels.length === size ? [0, 0] : [size, 2 * size];
  for (let at = 0, to = 0; at < size; at++) {
    image.data[to++] = pixels[at];
    image.data[to++] = pixels[green + at];
    image.data[to++] = pixels[blue + at];
    image.data[to++] = 255;
  }
  context.putImageData(image, 0, 0);
}

// Outlines rows and columns, from the first to behind the last, of a picture that fills the outline's parent.
function outline(element, field, { height, width }) {
  element.hidden = !field;
  if (!field) return;
  const sides = { left: field.left / width, top: field.top / height };
  sides.width = (field.right - field.left) / width;
  sides.height = (field.bottom - field.top) / height;
  for (const [side, share] of Object.entries(sides)) element.style[side] = `${100 * share}%`;
}

function showBars(list, names, probabilities, formatShare) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  let order = [...names.keys()];
  if (order.length > MOST_BARS) order = order.sort((a, b) => probabilities[b] - probabilities[a]).slice(0, MOST_BARS);
  while (list.children.length < order.length) {
    const bar = make("span", { className: "bar" }, make("i"));
    list.append(make("li", {}, make("bdi"), bar, make("span", { className: "number" })));
  }
  order.forEach((label, row) => {
    const [name, bar, number] = list.children[row].children;
    list.children[row].classList.toggle("best", label === best && probabilities[best] > 0);
    name.textContent = name.title = names[label];
    bar.firstChild.style.width = `${100 * probabilities[label]}%`;
    number.textContent = formatShare(probabilities[label]);
  });
}

// How a layer's output is laid out: maps of rows and columns, or one map whose cells are the units of a dense layer.
function layOut({ shape }) {
  const [count, rows = 1, columns = 1] = shape;
  if (rows * columns > 1) return { maps: count, rows, columns, units: rows * columns, isDense: false };
  const across = count <= 16 ? count : Math.ceil(Math.sqrt(2 * count));
  return { maps: 1, rows: Math.ceil(count / across), columns: across, units: count, isDense: true };
}

// Draws one map; all maps of a layer share a scale from `low` to `high`.
function fillMap(canvas, layout, values, map, [low, high]) {
  const start = map * layout.units;
  fillCells(canvas, layout.rows, layout.columns, (at) => (
    at < layout.units ? mix(VIRIDIS, (values[start + at] - low) / (high - low || 1)) : null
  ));
}

function findRange(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return [low, high];
}

// The part of the image that a cell sees, cut at the image's border.
function findField({ receptive_field: field }, { height, width }, row, column) {
  if (!field) return { top: 0, left: 0, bottom: height, right: width, isWhole: true };
  const [top, left] = [field.rows.start + row * field.rows.stride, field.columns.start + column * field.columns.stride];
  const clip = (value, most) => Math.max(0, Math.min(most, value));
  return {
    top: clip(top, height), bottom: clip(top + field.rows.size, height),
    left: clip(left, width), right: clip(left + field.columns.size, width),
  };
}

// The first layer with weights, if it reads the image itself: { layer, filters: [Float32Array], shape: [C, h, w] }.
function findFilters(program, weights) {
  const layer = program.layers.find((one) => one.kind === "conv" || one.kind === "linear");
  let source = layer?.inputs[0];
  while (source >= 0 && program.layers[source].kind === "reshape") [source] = program.layers[source].inputs;
  if (source !== -1) return null;
  const { channels, height, width } = program.input;
  const count = layer.shape[0];
  const [start, length] = layer.weights;
  const shape = layer.kind === "conv" ? [channels / (layer.groups ?? 1), ...layer.kernel] : [channels, height, width];
  const size = shape.reduce((product, side) => product * side);
  if (size * count !== length) return null;
  const filters = Array.from({ length: Math.min(count, MOST_MAPS) }, (_, k) => (
    weights.subarray(start + k * size, start + (k + 1) * size)
  ));
  return { layer, filters, shape, count };
}

// Draws filters of three channels in colour, others from blue to red.
function fillFilter(canvas, filter, [channels, height, width], limit) {
  const size = height * width;
  const own = filter.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  fillCells(canvas, height, width, (at) => {
    const values = Array.from({ length: channels }, (_, c) => filter[c * size + at]);
    if (channels === 3) return values.map((value) => 127.5 * (value / own + 1));
    return mix(BLUE_TO_RED, (values.reduce((sum, value) => sum + value, 0) / channels / limit + 1) / 2);
  });
}

// Draws what the network got, with orange where the answer rests on it and blue where it speaks against it.
function fillHeat(canvas, pixels, heat, { channels, height, width }) {
  const size = height * width;
  const limit = heat ? heat.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1 : 1;
  fillCells(canvas, height, width, (at) => {
    let grey = 0;
    for (let c = 0; c < channels; c++) grey += pixels[c * size + at] / channels;
    const share = heat ? 0.8 * Math.abs(heat[at]) / limit : 0;
    const colour = heat && heat[at] < 0 ? AGAINST : FOR;
    return colour.map((value) => grey + (value - grey) * share);
  });
}
