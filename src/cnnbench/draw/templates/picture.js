// A picture from a file, as `cnnbench predict` would prepare it: grey or colour, resized as Pillow does it.
const MOST_PIXELS = 50_000_000; // a larger picture is refused, as by the commands

// The pixels of a file in the network's size, uint8 (C, H, W). Throws if the browser cannot read the file.
async function readPicture(file, shape, decoding) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new RangeError("too large");
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = `rgb(${decoding.background.join(" ")})`; // shows through transparent parts
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const toPlane = (value) => {
    const plane = new Uint8Array(width * height);
    for (let at = 0; at < plane.length; at++) plane[at] = value(4 * at);
    return { data: plane, width, height };
  };
  // ITU-R 601 with the rounding of Pillow.
  const luma = (at) => (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16;
  const planes = shape.channels === 1 ? [luma] : [0, 1, 2].map((c) => (at) => data[at + c]);
  const background = shape.channels === 1
    ? [(decoding.background[0] * 19595 + decoding.background[1] * 38470 + decoding.background[2] * 7471 + 0x8000) >> 16]
    : decoding.background;
  const pixels = new Uint8Array(shape.channels * shape.height * shape.width);
  planes.forEach((value, c) => {
    const fitted = fit(toPlane(value), shape, decoding.resize, background[c]);
    pixels.set(fitted, c * shape.height * shape.width);
  });
  return pixels;
}

// A plane in the wanted size: stretched, padded with background, or its largest central part.
function fit(plane, shape, how, background) {
  const { width, height } = plane;
  const [wide, tall] = [shape.width, shape.height];
  const isWider = width * tall > height * wide;
  const hasForm = width * tall === height * wide;
  const scaleSide = (side, longest, size) => Math.max(1, Math.floor((2 * side * size + longest) / (2 * longest)));
  if (how === "pad" && !hasForm) {
    const inner = isWider ? [wide, scaleSide(height, width, wide)] : [scaleSide(width, height, tall), tall];
    const part = resize(plane, ...inner);
    const whole = new Uint8Array(wide * tall).fill(background);
    const [left, top] = [Math.floor((wide - inner[0]) / 2), Math.floor((tall - inner[1]) / 2)];
    for (let y = 0; y < inner[1]; y++) {
      whole.set(part.subarray(y * inner[0], (y + 1) * inner[0]), (top + y) * wide + left);
    }
    return whole;
  }
  if (how === "crop") {
    const [across, down] = isWider ? [scaleSide(wide, tall, height), height] : [width, scaleSide(tall, wide, width)];
    return resize(cut(plane, Math.floor((width - across) / 2), Math.floor((height - down) / 2), across, down), wide, tall);
  }
  return resize(plane, wide, tall);
}

function cut(plane, left, top, width, height) {
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const start = (top + y) * plane.width + left;
    data.set(plane.data.subarray(start, start + width), y * width);
  }
  return { data, width, height };
}

// Bilinear, antialiased: first along rows, then along columns, each rounded to bytes.
function resize(plane, width, height) {
  const rows = resizeRows(plane.data, plane.width, plane.height, width);
  return transpose(resizeRows(transpose(rows, width, plane.height), plane.height, width, height), height, width);
}

function transpose(data, width, height) {
  const turned = new Uint8Array(data.length);
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++) turned[x * height + y] = data[at++];
  return turned;
}

function resizeRows(data, width, height, wanted) {
  if (width === wanted) return data;
  const scale = width / wanted;
  const support = Math.max(scale, 1);
  const found = new Uint8Array(wanted * height);
  for (let x = 0; x < wanted; x++) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const last = Math.min(width, Math.floor(centre + support + 0.5));
    const weights = [];
    for (let at = first; at < last; at++) weights.push(Math.max(0, 1 - Math.abs(at + 0.5 - centre) / support));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let y = 0; y < height; y++) {
      let sum = 0;
      for (let at = first; at < last; at++) sum += data[y * width + at] * weights[at - first];
      found[y * wanted + x] = Math.floor(sum / total + 0.5);
    }
  }
  return found;
}

// Whether a grey image is dark on light where the training images are light on dark, or the reverse; see
// `cnnbench.data.polarity`.
function hasOtherPolarity(pixels, { height, width }, polarity) {
  const border = [];
  for (let x = 0; x < width; x++) border.push(pixels[x], pixels[(height - 1) * width + x]);
  for (let y = 1; y < height - 1; y++) border.push(pixels[y * width], pixels[(y + 1) * width - 1]);
  border.sort((a, b) => a - b);
  const median = border[(border.length - 1) >> 1] + border[border.length >> 1];
  const low = pixels.reduce((a, b) => Math.min(a, b));
  const high = pixels.reduce((a, b) => Math.max(a, b));
  const contrast = (median - low - high) / Math.max(high - low, 1);
  return (polarity === "light_on_dark" ? contrast : -contrast) >= 0.1;
}
