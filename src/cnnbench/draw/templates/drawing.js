// The drawing: strokes on paper or on a picture, painted without a canvas, so that every browser gives the same pixels.
const SUPERSAMPLING = 4; // painted pixels along each side of a pixel of the network's input
const MOST_ZOOM = 4; // of a small drawing that is scaled like the training images

// An image of `scale` painted pixels to a pixel of the input: { data: Uint8ClampedArray (C, H, W), height, width, scale }.
function makeImage(shape, scale, paper, picture = null) {
  const [channels, height, width] = [shape.channels, shape.height * scale, shape.width * scale];
  const data = new Uint8ClampedArray(channels * height * width);
  for (let c = 0, at = 0; c < channels; c++) {
    if (!picture) data.fill(paper[c], c * height * width, (c + 1) * height * width);
    for (let y = 0; picture && y < height; y++) {
      const row = (c * shape.height + Math.floor(y / scale)) * shape.width;
      for (let x = 0; x < width; x++) data[at++] = picture[row + Math.floor(x / scale)];
    }
  }
  return { data, channels, height, width, scale };
}

// Paints the parts of a stroke from point `first` on. Its points are pixels of the input, moved by `placement`.
function paintStroke(image, stroke, placement, first = 0) {
  const { points } = stroke;
  // A pen keeps its width when the drawing is scaled; an eraser must clear what it cleared.
  const radius = stroke.radius * image.scale * (stroke.isEraser ? placement.zoom : 1);
  const place = (at) => [
    (points[2 * at] * placement.zoom + placement.x) * image.scale,
    (points[2 * at + 1] * placement.zoom + placement.y) * image.scale,
  ];
  for (let at = Math.max(0, first - 1); at < points.length / 2; at++) {
    if (at === 0 && points.length > 2) continue; // the first segment paints this point, too
    paintSegment(image, place(Math.max(0, at - 1)), place(at), radius, stroke.colour);
  }
}

// Paints a line with round ends; pixels at its edge are mixed by the share of them that it covers.
function paintSegment(image, [x0, y0], [x1, y1], radius, colour) {
  const { data, width, height, channels } = image;
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy || 1;
  const reach = radius + 1;
  const clip = (value, most) => Math.max(0, Math.min(most, value));
  const top = clip(Math.floor(Math.min(y0, y1) - reach), height);
  const bottom = clip(Math.ceil(Math.max(y0, y1) + reach), height);
  const left = clip(Math.floor(Math.min(x0, x1) - reach), width);
  const right = clip(Math.ceil(Math.max(x0, x1) + reach), width);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - x0;
      const py = y + 0.5 - y0;
      const along = clip((px * dx + py * dy) / length, 1);
      const across = (px - along * dx) ** 2 + (py - along * dy) ** 2;
      const covered = clip(radius + 0.5 - Math.sqrt(across), 1); // Math.hypot is several times slower
      if (!covered) continue;
      for (let c = 0, at = y * width + x; c < channels; c++, at += width * height) {
        data[at] += (colour[c] - data[at]) * covered;
      }
    }
  }
}

// The image in the network's size: each of its pixels is the mean of those painted for it.
function reduce(image) {
  const { data, scale, channels } = image;
  const [height, width] = [image.height / scale, image.width / scale];
  const sums = new Float32Array(channels * height * width);
  for (let c = 0, at = 0; c < channels; c++) {
    for (let y = 0; y < image.height; y++) {
      const row = (c * height + Math.floor(y / scale)) * width;
      for (let x = 0; x < image.width; x++) sums[row + Math.floor(x / scale)] += data[at++];
    }
  }
  return Uint8Array.from(sums, (sum) => Math.round(sum / (scale * scale)));
}

// Where there is ink: the box around it and its centre of mass, in pixels of the input; null on empty paper.
function findInk(image, paper) {
  const { data, width, height, channels, scale } = image;
  const [size, box] = [width * height, { left: width, top: height, right: 0, bottom: 0 }];
  let [mass, x, y] = [0, 0, 0];
  for (let at = 0; at < size; at++) {
    let ink = 0;
    for (let c = 0; c < channels; c++) ink = Math.max(ink, Math.abs(data[c * size + at] - paper[c]));
    if (ink < 32) continue;
    const row = Math.floor(at / width);
    const column = at % width;
    box.left = Math.min(box.left, column);
    box.right = Math.max(box.right, column + 1);
    box.top = Math.min(box.top, row);
    box.bottom = Math.max(box.bottom, row + 1);
    mass += ink;
    x += ink * (column + 0.5);
    y += ink * (row + 0.5);
  }
  if (!mass) return null;
  for (const side of Object.keys(box)) box[side] /= scale;
  return { box, mass: [x / mass / scale, y / mass / scale] };
}

const IN_PLACE = { zoom: 1, x: 0, y: 0 };

class Drawing {
  // `shape`: channels, height, width. `style`: paper, pen (a width), and `fit`, how the training images are centred.
  constructor(shape, style) {
    Object.assign(this, { shape, style, past: [], isCentred: Boolean(style.fit) });
    this.state = { picture: null, strokes: [] };
  }

  get isEmpty() {
    return !this.state.picture && !this.state.strokes.length;
  }

  // Samples and loaded pictures have the form of the training images already.
  get canCentre() {
    return Boolean(this.style.fit) && !this.state.picture;
  }

  replace(state) {
    this.past.push(this.state);
    this.state = state;
  }

  startStroke(x, y, { colour, radius, isEraser }) {
    const stroke = { points: [x, y], colour, radius, isEraser };
    this.replace({ ...this.state, strokes: [...this.state.strokes, stroke] });
    return stroke;
  }

  show(picture) {
    this.replace({ picture, strokes: [] });
  }

  clear() {
    if (!this.isEmpty) this.show(null);
  }

  undo() {
    this.state = this.past.pop() ?? this.state;
  }

  paint(scale, placement = IN_PLACE) {
    const image = makeImage(this.shape, scale, this.style.paper, this.state.picture);
    for (const stroke of this.state.strokes) paintStroke(image, stroke, placement);
    return image;
  }

  // How the drawing is scaled and moved, so that it lies in the input as the training images do.
  findPlacement() {
    const ink = this.isCentred && this.canCentre ? findInk(this.paint(SUPERSAMPLING), this.style.paper) : null;
    if (!ink) return IN_PLACE;
    const { fit, pen } = this.style;
    const { left, top, right, bottom } = ink.box;
    const length = Math.max(right - left, bottom - top) - pen; // of the pen's path, which alone is scaled
    const zoom = fit.size ? Math.min(MOST_ZOOM, Math.max(1, fit.size - pen) / Math.max(length, 0.01)) : 1;
    const [x, y] = fit.by === "mass" ? ink.mass : [(left + right) / 2, (top + bottom) / 2];
    return { zoom, x: fit.centre[0] - x * zoom, y: fit.centre[1] - y * zoom };
  }

  // The pixels that the network gets, uint8 (C, H, W), and the placement of the drawing in them.
  prepare() {
    const placement = this.findPlacement();
    return { pixels: reduce(this.paint(SUPERSAMPLING, placement)), placement };
  }
}
