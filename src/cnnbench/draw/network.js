/* Evaluates a network that `cnnbench.draw.program` has compiled, with the kernels of kernels.js. A plain script without
   modules or requests, so that a page that holds it works from a file. All memory is allocated by the constructor. */

class Network {
  /* program: the description; weights: an ArrayBuffer of float32 (little-endian, as all browsers' processors are). */
  constructor(program, weights) {
    const { channels, height, width, mean, std } = program.input;
    this.program = program;
    this.image = new Float32Array(channels * height * width);
    this.scale = Float64Array.from(std, (value) => 1 / (255 * value));
    this.shift = Float64Array.from(std, (value, channel) => mean[channel] / value);
    const values = new Float32Array(weights);
    const read = (place) => place && values.subarray(place[0], place[0] + place[1]);
    const outputs = [];
    this.steps = [];
    for (const layer of program.layers) {
      const inputs = layer.inputs.map((index) => (index < 0 ? this.image : outputs[index]));
      const shapes = layer.inputs.map((index) => (index < 0 ? [channels, height, width] : program.layers[index].shape));
      const length = layer.shape.reduce((product, side) => product * side, 1);
      const output = layer.kind === "reshape" ? inputs[0] : new Float32Array(length);
      const step = KERNELS[layer.kind]({ layer, inputs, shapes, output, read });
      if (step) this.steps.push(step);
      outputs.push(output);
    }
    this.result = { probabilities: new Float32Array(program.classes.length), activations: outputs };
  }

  /* pixels: Uint8Array (C, H, W). Returns the probabilities and the output of every layer, in arrays that the next run
     overwrites. */
  run(pixels) {
    this._read(pixels);
    return this._evaluate();
  }

  /* How far the label's probability falls where a window of the image is covered (Zeiler and Fergus, arXiv:1311.2901,
     section 4.2): for each pixel the mean over all windows that cover it. A covered pixel has the mean of the training
     images. Negative: the network is surer without it. */
  occlude(pixels, label, size, stride) {
    const windows = this.occlusion(pixels, label, size, stride);
    let step = windows.next();
    while (!step.done) step = windows.next();
    return step.value;
  }

  /* The same, a window a step, so that a page can compute it while it is idle. */
  *occlusion(pixels, label, size, stride) {
    const { channels, height, width } = this.program.input;
    const drops = new Float64Array(height * width);
    const covers = new Float64Array(height * width);
    const whole = this.run(pixels).probabilities[label];
    const last = (length) => Math.ceil(Math.max(0, length - size) / stride) * stride; // it may stick out
    for (let top = 0; top <= last(height); top += stride) {
      for (let left = 0; left <= last(width); left += stride) {
        yield;
        const places = [];
        for (let row = top; row < Math.min(top + size, height); row++) {
          for (let column = left; column < Math.min(left + size, width); column++) places.push(row * width + column);
        }
        this._read(pixels);
        for (const place of places) {
          for (let channel = 0; channel < channels; channel++) this.image[channel * height * width + place] = 0;
        }
        const drop = whole - this._evaluate().probabilities[label];
        for (const place of places) {
          drops[place] += drop;
          covers[place] += 1;
        }
      }
    }
    return { map: Float32Array.from(drops, (sum, place) => sum / Math.max(1, covers[place])), height, width };
  }

  _read(pixels) {
    const plane = this.image.length / this.scale.length;
    for (let i = 0; i < this.image.length; i++) {
      const channel = (i / plane) | 0;
      this.image[i] = pixels[i] * this.scale[channel] - this.shift[channel];
    }
  }

  _evaluate() {
    for (const step of this.steps) step();
    const { probabilities, activations } = this.result;
    softmax(activations[activations.length - 1], this.program.temperature, probabilities);
    return this.result;
  }
}

function softmax(logits, temperature, output) {
  let largest = -Infinity;
  for (let i = 0; i < logits.length; i++) largest = Math.max(largest, logits[i]);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] - largest) / temperature);
  for (let i = 0; i < logits.length; i++) output[i] = Math.exp((logits[i] - largest) / temperature) / sum;
}
