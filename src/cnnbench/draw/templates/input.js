// What the page listens to: pointers, keys, buttons, files. The last script: it starts the page.

// Where an event points to on an element, in units of `height` and `width`.
function locate(event, element, { height, width }) {
  const box = element.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
}

function listenToPaper(paper) {
  let drawer = null; // the pointer that draws; a second finger does not
  const lift = (event) => {
    if (event.pointerId !== drawer) return;
    drawer = now.stroke = null;
  };
  paper.addEventListener("pointerdown", (event) => {
    const hasEraser = event.pointerType === "pen" && event.button === 5;
    if (drawer !== null || (event.button !== 0 && !hasEraser)) return;
    drawer = event.pointerId;
    paper.setPointerCapture(drawer);
    moveCursor(null);
    startStroke(locate(event, paper, shape), now.isErasing || hasEraser);
  });
  paper.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawer || !now.stroke) return;
    const parts = event.getCoalescedEvents?.() ?? [];
    extendStroke((parts.length ? parts : [event]).map((part) => locate(part, paper, shape)));
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) paper.addEventListener(kind, lift);
  paper.addEventListener("keydown", drawWithKeys);
  paper.addEventListener("blur", () => {
    if (!now.cursor) return;
    now.stroke = null;
    moveCursor(null);
  });
}

function moveCursor(place) {
  now.cursor = place;
  const box = place && { left: place[0] - 0.5, right: place[0] + 0.5, top: place[1] - 0.5, bottom: place[1] + 0.5 };
  outline(find("cursor"), box, shape);
  find("cursor").classList.toggle("down", Boolean(now.stroke));
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function drawWithKeys(event) {
  const step = STEPS[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey || (!step && event.key !== " ")) return;
  event.preventDefault();
  const clip = (value, most) => Math.max(0.5, Math.min(most - 0.5, value));
  const [x, y] = now.cursor ?? [shape.width / 2, shape.height / 2];
  const place = step ? [clip(x + step[0], shape.width), clip(y + step[1], shape.height)] : [x, y];
  if (step && now.stroke && now.cursor) extendStroke([place]);
  if (!step && !event.repeat) {
    if (now.stroke) now.stroke = null;
    else startStroke(place);
    announce(say(now.stroke ? "pen_down" : "pen_up"));
    refresh();
  }
  moveCursor(place);
}

function listenToTools() {
  const choose = (isErasing) => {
    now.isErasing = isErasing;
    now.stroke = null;
    find("pen").setAttribute("aria-pressed", !isErasing);
    find("eraser").setAttribute("aria-pressed", isErasing);
  };
  find("pen").addEventListener("click", () => choose(false));
  find("eraser").addEventListener("click", () => choose(true));
  find("undo").addEventListener("click", undo);
  find("clear").addEventListener("click", () => {
    now.stroke = null;
    drawing.clear();
    repaint();
  });
  find("load").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", () => {
    if (find("file").files.length) load(find("file").files[0]);
    find("file").value = ""; // so that the same file can be loaded again
  });
  find("invert").addEventListener("click", () => show(drawing.state.picture.map((value) => 255 - value), {}));
  find("centre")?.addEventListener("change", () => {
    drawing.isCentred = find("centre").checked;
    refresh();
  });
  const colour = find("colour");
  if (!colour) return;
  colour.value = `#${page.style.ink.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  colour.addEventListener("input", () => {
    now.colour = [1, 3, 5].map((at) => parseInt(colour.value.slice(at, at + 2), 16));
    choose(false);
  });
}

// Pointing at a cell shows what it sees. Pressing or touching a map keeps it while the pointer goes elsewhere.
function listenToMaps(maps, large) {
  const point = (event, canvas) => {
    const [x, y] = locate(event, canvas, { height: now.layout.rows, width: now.layout.columns });
    const clip = (value, most) => Math.max(0, Math.min(most - 1, Math.floor(value)));
    now.cell = { row: clip(y, now.layout.rows), column: clip(x, now.layout.columns) };
    showCell();
  };
  const leave = (event) => {
    if (event.pointerType === "touch") return; // a finger leaves when it is lifted
    now.cell = null;
    showCell();
  };
  const findMap = (event) => [...maps.children].indexOf(event.target.closest(".map"));
  let isKept = false;
  maps.addEventListener("pointermove", (event) => {
    const map = findMap(event);
    if (map < 0 || (isKept && map !== now.map)) return;
    if (map !== now.map) chooseMap(map);
    point(event, maps.children[map].firstChild);
  });
  maps.addEventListener("click", (event) => {
    const map = findMap(event);
    if (map < 0) return;
    isKept = map !== now.map || !isKept;
    chooseMap(map);
    maps.classList.toggle("kept", isKept);
    if (event.detail) point(event, maps.children[map].firstChild); // not for a key
  });
  maps.addEventListener("pointerleave", leave);
  maps.addEventListener("focusin", (event) => {
    const map = findMap(event);
    if (map >= 0 && event.target.matches(":focus-visible")) chooseMap(map);
    showCell();
  });
  maps.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const next = maps.children[findMap(event) + step];
    if (!step || !next) return;
    event.preventDefault();
    next.focus();
  });
  large.addEventListener("pointermove", (event) => point(event, large));
  large.addEventListener("pointerdown", (event) => point(event, large));
  large.addEventListener("pointerleave", leave);
  large.addEventListener("blur", leave);
  large.addEventListener("focus", () => moveCell([0, 0]));
  large.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    moveCell(step);
  });
}

function moveCell([across, down]) {
  const { rows, columns } = now.layout;
  const clip = (value, most) => Math.max(0, Math.min(most - 1, value));
  const { row, column } = now.cell ?? { row: rows >> 1, column: columns >> 1 };
  now.cell = { row: clip(row + down, rows), column: clip(column + across, columns) };
  showCell();
  announce(find("unit").textContent);
}

function listen() {
  listenToPaper(find("paper"));
  listenToTools();
  listenToMaps(find("maps"), find("large"));
  find("layer").addEventListener("change", () => chooseLayer(Number(find("layer").value)));
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => translate(button.dataset.language));
  }
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
      event.preventDefault();
      undo();
    }
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("board").classList.add("wanted");
  });
  document.addEventListener("dragleave", () => find("board").classList.remove("wanted"));
  document.addEventListener("drop", (event) => {
    event.preventDefault(); // or the browser would leave the page for the file
    find("board").classList.remove("wanted");
    if (event.dataTransfer.files.length) load(event.dataTransfer.files[0]);
  });
}

start();
