/* The layers of a compiled network: each kernel takes a layer, the arrays and shapes of its inputs, the array of its
   output and `read`, which gives its weights. It prepares all it needs, and returns a function that evaluates the layer.

   Sums are in float64, the numbers of JavaScript, and every output is rounded to float32 once: nearer to the exact result
   than torch, and not slower. */

const KERNELS = {
  conv({ layer, inputs: [input], shapes: [[channels, height, width]], output, read }) {
    const [filters, rows, columns] = layer.shape;
    const [top, left] = layer.padding;
    const [down, right] = layer.stride;
    const [highRows, wideColumns] = [height + 2 * top, width + 2 * left];
    // Zeros around the image, so that every tap of a filter lies at a fixed distance from the place of its output.
    const padded = new Float64Array(channels * highRows * wideColumns);
    const depth = channels / layer.groups;
    const distances = [];
    for (let channel = 0; channel < depth; channel++) {
      for (let row = 0; row < layer.kernel[0]; row++) {
        for (let column = 0; column < layer.kernel[1]; column++) {
          distances.push((channel * highRows + row * layer.dilation[0]) * wideColumns + column * layer.dilation[1]);
        }
      }
    }
    const bank = new FilterBank(Int32Array.from(distances), read(layer.weights), read(layer.bias), filters, layer.groups);
    const grid = { rows, columns, down: down * wideColumns, right };
    return () => {
      for (let channel = 0; channel < channels; channel++) {
        for (let row = 0; row < height; row++) {
          let to = (channel * highRows + row + top) * wideColumns + left;
          let from = (channel * height + row) * width;
          for (let column = 0; column < width; column++) padded[to++] = input[from++];
        }
      }
      bank.apply(padded, depth * highRows * wideColumns, output, grid);
    };
  },

  linear({ layer, inputs: [input], output, read }) {
    const exact = new Float64Array(input.length);
    const distances = Int32Array.from(exact, (_, index) => index);
    const bank = new FilterBank(distances, read(layer.weights), read(layer.bias), output.length, 1);
    const grid = { rows: 1, columns: 1, down: 0, right: 0 };
    return () => {
      exact.set(input);
      bank.apply(exact, 0, output, grid);
    };
  },

  activation({ layer, inputs: [input], output }) {
    const [a, b, c] = layer.values;
    const compute = ACTIVATIONS[layer.function];
    return () => {
      for (let i = 0; i < output.length; i++) output[i] = compute(input[i], a, b, c);
    };
  },

  affine({ layer, inputs: [input], output, read }) {
    const [scale, shift] = [read(layer.weights), read(layer.bias)];
    const plane = output.length / scale.length;
    return () => {
      for (let channel = 0; channel < scale.length; channel++) {
        for (let i = channel * plane; i < (channel + 1) * plane; i++) output[i] = input[i] * scale[channel] + shift[channel];
      }
    };
  },

  group_norm({ layer, inputs: [input], shapes: [[channels]], output, read }) {
    const [scale, shift] = [read(layer.weights), read(layer.bias)];
    const [length, plane] = [output.length / layer.groups, output.length / channels];
    return () => {
      for (let start = 0; start < output.length; start += length) {
        let mean = 0;
        for (let i = start; i < start + length; i++) mean += input[i] / length;
        let variance = 0;
        for (let i = start; i < start + length; i++) variance += (input[i] - mean) ** 2 / length;
        const factor = 1 / Math.sqrt(variance + layer.eps);
        for (let i = start; i < start + length; i++) {
          const channel = (i / plane) | 0;
          const normal = (input[i] - mean) * factor;
          output[i] = scale ? normal * scale[channel] + shift[channel] : normal;
        }
      }
    };
  },

  max_pool(given) {
    return pool(given, false);
  },

  average_pool(given) {
    return pool(given, true);
  },

  add({ inputs: [left, right], output }) {
    return () => {
      for (let i = 0; i < output.length; i++) output[i] = left[i] + right[i];
    };
  },

  sub({ inputs: [left, right], output }) {
    return () => {
      for (let i = 0; i < output.length; i++) output[i] = left[i] - right[i];
    };
  },

  mul({ inputs: [left, right], output }) {
    return () => {
      for (let i = 0; i < output.length; i++) output[i] = left[i] * right[i];
    };
  },

  div({ inputs: [left, right], output }) {
    return () => {
      for (let i = 0; i < output.length; i++) output[i] = left[i] / right[i];
    };
  },

  concat({ layer, inputs, output }) {
    const together = layer.lengths.reduce((sum, length) => sum + length);
    const pieces = [];
    for (let at = 0; at < output.length; at += together) {
      let to = at;
      layer.lengths.forEach((length, index) => {
        const from = (at / together) * length;
        pieces.push([inputs[index].subarray(from, from + length), to]);
        to += length;
      });
    }
    return () => {
      for (const [piece, to] of pieces) output.set(piece, to);
    };
  },

  /* Output (i, j, …) has the value of the input at the sum of the axes' offsets; where an axis has −1, `fill`. */
  gather({ layer, inputs: [input], output }) {
    let places = [0];
    for (const offsets of layer.offsets) {
      places = places.flatMap((place) => offsets.map((offset) => (place < 0 || offset < 0 ? -1 : place + offset)));
    }
    const sources = Int32Array.from(places);
    return () => {
      for (let i = 0; i < output.length; i++) output[i] = sources[i] < 0 ? layer.fill : input[sources[i]];
    };
  },

  reshape() {
    return null; // its output is its input
  },

  constant({ layer, output, read }) {
    output.set(read(layer.weights));
    return null;
  },
};

const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  leaky_relu: (x, slope) => (x > 0 ? x : x * slope),
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  silu: (x) => x / (1 + Math.exp(-x)),
  elu: (x, alpha, scale, steepness) => (x > 0 ? x * scale : scale * alpha * Math.expm1(x * steepness)),
  hardtanh: (x, lowest, highest) => Math.min(Math.max(x, lowest), highest),
  square: (x) => x * x,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
};

/* The error function, within 1.5e-7: Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

/* The filters of a convolution, or the units of a dense layer: sums of products of values that lie at `distances` from
   the place of an output. Four filters are evaluated together, so that each value is read once for four products; their
   weights lie side by side. A group of one filter, as in a depthwise convolution, is evaluated alone. */
class FilterBank {
  constructor(distances, weights, bias, filters, groups) {
    const taps = distances.length;
    const perGroup = filters / groups;
    const lanes = perGroup === 1 ? 1 : 4;
    this.distances = distances;
    this.evaluate = perGroup === 1 ? evaluateOne : evaluateFour;
    this.blocks = [];
    for (let group = 0; group < groups; group++) {
      for (let first = group * perGroup; first < (group + 1) * perGroup; first += lanes) {
        const used = Math.min(lanes, (group + 1) * perGroup - first);
        const packed = new Float64Array(taps * lanes);
        const start = new Float64Array(lanes);
        for (let lane = 0; lane < used; lane++) {
          if (bias) start[lane] = bias[first + lane];
          for (let tap = 0; tap < taps; tap++) packed[tap * lanes + lane] = weights[(first + lane) * taps + tap];
        }
        this.blocks.push({ group, first, used, packed, start });
      }
    }
  }

  /* source: Float64Array. grid: where the outputs of a group are: rows and columns, and the distances between them. */
  apply(source, groupLength, output, grid) {
    for (const block of this.blocks) this.evaluate(source, block.group * groupLength, this.distances, block, output, grid);
  }
}

function evaluateOne(source, begin, distances, { first, packed, start }, output, { rows, columns, down, right }) {
  let to = first * rows * columns;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const place = begin + row * down + column * right;
      let sum = start[0];
      for (let tap = 0; tap < distances.length; tap++) sum += source[place + distances[tap]] * packed[tap];
      output[to++] = sum;
    }
  }
}

/* Two outputs beside each other together, so that each weight is read once for both. */
function evaluateFour(source, begin, distances, { first, used, packed, start }, output, { rows, columns, down, right }) {
  const plane = rows * columns;
  let to = first * plane;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column += 2) {
      const step = column + 1 < columns ? 1 : 0; // the last one of an odd number is computed twice
      const place = begin + row * down + column * right;
      const neighbour = place + step * right;
      let a0 = start[0], b0 = start[1], c0 = start[2], d0 = start[3];
      let a1 = a0, b1 = b0, c1 = c0, d1 = d0;
      for (let tap = 0, at = 0; tap < distances.length; tap++, at += 4) {
        const value0 = source[place + distances[tap]];
        const value1 = source[neighbour + distances[tap]];
        a0 += value0 * packed[at];
        a1 += value1 * packed[at];
        b0 += value0 * packed[at + 1];
        b1 += value1 * packed[at + 1];
        c0 += value0 * packed[at + 2];
        c1 += value1 * packed[at + 2];
        d0 += value0 * packed[at + 3];
        d1 += value1 * packed[at + 3];
      }
      output[to] = a0;
      output[to + step] = a1;
      if (used > 1) {
        output[to + plane] = b0;
        output[to + plane + step] = b1;
      }
      if (used > 2) {
        output[to + 2 * plane] = c0;
        output[to + 2 * plane + step] = c1;
      }
      if (used > 3) {
        output[to + 3 * plane] = d0;
        output[to + 3 * plane + step] = d1;
      }
      to += 1 + step;
    }
  }
}

/* Maxima or means of windows; `rows` and `columns` have the first position of each window, the one after its last, and
   how many of them a mean counts. */
function pool({ layer, inputs: [input], shapes: [[channels, height, width]], output }, isMean) {
  const [rows, columns] = [layer.rows, layer.columns].map((spans) => Int32Array.from(spans.flat()));
  const [down, right] = layer.steps;
  return () => {
    let to = 0;
    for (let channel = 0; channel < channels; channel++) {
      for (let row = 0; row < rows.length; row += 3) {
        for (let column = 0; column < columns.length; column += 3) {
          let found = isMean ? 0 : -Infinity;
          for (let y = rows[row]; y < rows[row + 1]; y += down) {
            const line = (channel * height + y) * width;
            for (let x = columns[column]; x < columns[column + 1]; x += right) {
              const value = input[line + x];
              found = isMean ? found + value : value > found ? value : found;
            }
          }
          output[to++] = isMean ? found / (rows[row + 2] * columns[column + 2]) : found;
        }
      }
    }
  };
}
