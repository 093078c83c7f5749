// The definitions, index by index, as in konvlib's naive. Integers stay exact. No drawing in this file.
// Arrays are nested; x[c][i][j] are channels, rows, columns. A layer is {stride, dilation, before, after, groups, mode} with
// pairs (rows, columns) for all but the last two.
import { Refusal } from "./kit.js";

export const zeros = (...shape) => (shape.length ? Array.from({ length: shape[0] }, () => zeros(...shape.slice(1))) : 0);
export const range = (count) => Array.from({ length: Math.max(0, count) }, (_, i) => i);
export const modulo = (a, n) => ((a % n) + n) % n;

// An array of another size: what was there stays, what is new is filled.
export const resized = (values, [rows, columns], fill) => range(rows).map((r) => range(columns).map((c) => values[r]?.[c] ?? fill(r, c)));
export const pixel = (r, c) => (3 * r + 2 * c + 1) % 5;
export const one = () => 1;

// Sequences
export const convolve = (f, g) => {
  const y = zeros(f.length + g.length - 1);
  f.forEach((a, m) => g.forEach((b, u) => { y[m + u] += a * b; }));
  return y;
};
export const reverse = (g) => [...g].reverse();
// Where a mode begins in the full result, and how many entries it has. NumPy correlates a shorter f the other way round.
export const part = (N, M, mode, correlation = false) => {
  const length = { full: N + M - 1, same: Math.max(N, M), valid: Math.max(N, M) - Math.min(N, M) + 1 }[mode];
  if (correlation && mode === "same" && N < M) return { start: Math.floor(N / 2), length };
  return { start: Math.floor((N + M - 1 - length) / 2), length };
};
export const circular = (f, g, P) => {
  const y = zeros(P);
  f.forEach((a, m) => g.forEach((b, u) => { y[(m + u) % P] += a * b; }));
  return y;
};
export const dilate = (g, step) => {
  const y = zeros((g.length - 1) * step + 1);
  g.forEach((value, u) => { y[u * step] = value; });
  return y;
};

// Sizes, with the engine's refusals
export const span = (k, d) => d * (k - 1) + 1;
export const outputSize = (n, k, { stride = 1, before = 0, after = 0, dilation = 1 } = {}) => {
  const padded = n + before + after, covered = span(k, dilation);
  if (padded < covered && k <= padded) throw new Refusal(`dilation must let the kernel fit the padded input of ${padded} samples, got ${dilation}, with which a kernel_size of ${k} covers ${covered}`);
  if (padded < covered) throw new Refusal(`kernel_size must fit the padded input of ${padded} samples, got a kernel that covers ${covered}`);
  return Math.floor((padded - covered) / stride) + 1;
};
export const transposedSize = (m, k, { stride = 1, before = 0, after = 0, dilation = 1, extra = 0 } = {}) => {
  if (extra >= Math.max(stride, dilation)) throw new Refusal(`output_padding must be less than stride or dilation, got ${extra} with stride ${stride} and dilation ${dilation}`);
  const whole = (m - 1) * stride + span(k, dilation) + extra;
  if (whole - before - after < 1) throw new Refusal(`padding must leave an output, got (${before}, ${after}) of ${whole} samples`);
  return whole - before - after;
};
export const sourceIndex = (index, size, mode) => {
  if (index >= 0 && index < size) return index;
  if (mode === "reflect") {
    const place = modulo(index, Math.max(2 * (size - 1), 1));
    return Math.min(place, 2 * (size - 1) - place);
  }
  if (mode === "replicate") return index < 0 ? 0 : size - 1;
  return mode === "circular" ? modulo(index, size) : null;
};

// Layers
export const LAYER = { stride: [1, 1], dilation: [1, 1], before: [0, 0], after: [0, 0], groups: 1, mode: "zeros" };
const axis = (layer, a) => ({ stride: layer.stride[a], before: layer.before[a], after: layer.after[a], dilation: layer.dilation[a] });
export const sizesOf = (x, w, layer) => [0, 1].map((a) => outputSize(a ? x[0][0].length : x[0].length, a ? w[0][0][0].length : w[0][0].length, axis(layer, a)));
export const checkGroups = (channels, outputs, groups) => {
  for (const [name, count] of [["in_channels", channels], ["out_channels", outputs]]) if (count % groups) throw new Refusal(`${name} must be divisible by groups, got ${count} channels in ${groups} groups`);
};
// The taps of the window at an output: each with the padded place and the input that it shows, or null for a zero.
export const windowOf = (i, kernel, size, layer) => range(kernel[0]).flatMap((u) => range(kernel[1]).map((v) => {
  const place = [0, 1].map((a) => layer.stride[a] * i[a] + layer.dilation[a] * (a ? v : u) - layer.before[a]);
  const source = place.map((index, a) => sourceIndex(index, size[a], layer.mode));
  return { u: [u, v], place, source: source.includes(null) ? null : source };
}));
const sizeOf = (x) => [x[0].length, x[0][0].length];
const kernelOf = (w) => [w[0][0].length, w[0][0][0].length];
const each = (sizes, act) => range(sizes[0]).forEach((i) => range(sizes[1]).forEach((j) => act(i, j)));

// One product of the layer's sum after the other: (o, i, j) of the output, (c, source) of the input, (o, d, u) of the weight.
export const products = (x, w, layer, act) => {
  checkGroups(x.length, w.length, layer.groups);
  const sizes = sizesOf(x, w, layer), depth = x.length / layer.groups, width = w.length / layer.groups;
  w.forEach((_, o) => each(sizes, (i, j) => range(depth).forEach((d) => windowOf([i, j], kernelOf(w), sizeOf(x), layer).forEach(({ u, source }) => {
    if (source) act(o, i, j, Math.floor(o / width) * depth + d, source, d, u);
  }))));
  return sizes;
};
export const conv2d = (x, w, layer = LAYER) => {
  const y = zeros(w.length, ...sizesOf(x, w, layer));
  products(x, w, layer, (o, i, j, c, [a, b], d, [u, v]) => { y[o][i][j] += x[c][a][b] * w[o][d][u][v]; });
  return y;
};
// The places [row, column] of the input that no window reads.
export const unreadOf = (x, w, layer = LAYER) => {
  const read = new Set();
  products(x, w, layer, (o, i, j, c, source) => read.add(String(source)));
  return range(sizeOf(x)[0]).flatMap((a) => range(sizeOf(x)[1]).map((b) => [a, b])).filter((place) => !read.has(String(place)));
};
export const inputGrad = (dy, w, x, layer = LAYER) => {
  const dx = zeros(x.length, ...sizeOf(x));
  products(x, w, layer, (o, i, j, c, [a, b], d, [u, v]) => { dx[c][a][b] += dy[o][i][j] * w[o][d][u][v]; });
  return dx;
};
export const weightGrad = (dy, w, x, layer = LAYER) => {
  const dw = zeros(w.length, w[0].length, ...kernelOf(w));
  products(x, w, layer, (o, i, j, c, [a, b], d, [u, v]) => { dw[o][d][u][v] += dy[o][i][j] * x[c][a][b]; });
  return dw;
};
// The same gradients of one channel as two layers. dx: dy with zeros between and around it, by w turned, stride 1. dw: x by dy,
// stride and dilation in each other's place. from: where the spread dy begins; around: the zeros before and behind it.
export const tradedGrads = (dy, w, x, { stride, dilation, before, after }) => {
  const size = [x.length, x[0].length], kernel = [w.length, w[0].length], m = [dy.length, dy[0].length], reach = kernel.map((k, a) => dilation[a] * (k - 1));
  const from = reach.map((d, a) => before[a] - d), long = size.map((n, a) => n + reach[a]);
  const spread = range(long[0]).map((r) => range(long[1]).map((c) => dy[(r + from[0]) / stride[0]]?.[(c + from[1]) / stride[1]] ?? 0));
  const turned = reverse(w).map(reverse), padded = range(size[0] + before[0] + after[0]).map((r) => range(size[1] + before[1] + after[1]).map((c) => x[r - before[0]]?.[c - before[1]] ?? 0));
  const around = from.map((first, a) => [-first, long[a] + first - stride[a] * (m[a] - 1) - 1]);
  const dw = conv2d([padded], [[dy]], { ...LAYER, stride: dilation, dilation: stride })[0];
  return { spread, turned, from, around, dx: conv2d([spread], [[turned]], { ...LAYER, dilation })[0], places: [dw.length, dw[0].length], dw: dw.slice(0, kernel[0]).map((row) => row.slice(0, kernel[1])) };
};
export const matrix = (x, w, layer = LAYER) => {
  const [rows, columns] = sizesOf(x, w, layer), [height, wide] = sizeOf(x);
  const K = zeros(w.length * rows * columns, x.length * height * wide);
  products(x, w, layer, (o, i, j, c, [a, b], d, [u, v]) => { K[(o * rows + i) * columns + j][(c * height + a) * wide + b] += w[o][d][u][v]; });
  return K;
};
// im2col: a row for each (channel, tap), a column for each output.
export const columns = (x, w, layer = LAYER) => {
  const sizes = sizesOf(x, w, layer), [height, wide] = kernelOf(w);
  const found = zeros(x.length * height * wide, sizes[0] * sizes[1]);
  each(sizes, (i, j) => x.forEach((channel, c) => windowOf([i, j], kernelOf(w), sizeOf(x), layer).forEach(({ u: [u, v], source }) => {
    if (source) found[(c * height + u) * wide + v][i * sizes[1] + j] = channel[source[0]][source[1]];
  })));
  return found;
};
// The transpose scatters: x[c][i] times w[c][o] is added where the layer would have read. extra is output_padding.
export const convTranspose = (x, w, layer = LAYER, extra = [0, 0]) => {
  const [rows, wide] = [0, 1].map((a) => transposedSize(sizeOf(x)[a], kernelOf(w)[a], { ...axis(layer, a), extra: extra[a] }));
  const y = zeros(w[0].length, rows, wide), counts = zeros(rows, wide);
  each(sizeOf(x), (i, j) => each(kernelOf(w), (u, v) => {
    const [a, b] = [i, j].map((at, n) => layer.stride[n] * at + layer.dilation[n] * (n ? v : u) - layer.before[n]);
    if (a < 0 || b < 0 || a >= rows || b >= wide) return;
    counts[a][b] += 1;
    x.forEach((channel, c) => w[c].forEach((kernel, o) => { y[o][a][b] += channel[i][j] * kernel[u][v]; }));
  }));
  return { y, counts };
};

// Chains on one axis: layers {w, stride, dilation}. The one layer that replaces them, and how many inputs it sees.
export const layer1d = (x, w, { stride = 1, dilation = 1, before = 0, after = 0 } = {}) => {
  const size = outputSize(x.length, w.length, { stride, dilation, before, after });
  return range(size).map((i) => w.reduce((sum, value, u) => sum + value * (x[stride * i + dilation * u - before] ?? 0), 0));
};
export const compose = (layers) => {
  let w = [1], stride = 1;
  for (const layer of layers) {
    w = convolve(w, dilate(layer.w, (layer.dilation ?? 1) * stride));
    stride *= layer.stride;
  }
  return { w, stride };
};

// Konvolution: the polynomials of a basis by their recurrence, and the layer of one channel.
const STEPS = {
  // a and c as integers over one divisor: what is exact stays exact.
  monomial: () => [1, 0, 1], chebyshev: (n) => [n ? 2 : 1, 1, 1], chebyshev2: () => [2, 1, 1], legendre: (n) => [2 * n + 1, n, n + 1], hermite: (n) => [1, n, 1],
};
export const BASES = Object.keys(STEPS);
export const basisValues = (basis, t, degree) => {
  const p = [1];
  for (const n of range(degree)) {
    const [a, c, divisor] = STEPS[basis](n);
    p.push((a * t * p[n] - (n ? c * p[n - 1] : 0)) / divisor);
  }
  return p;
};
export const phi = (basis, kappa, t) => basisValues(basis, t, kappa.length - 1).reduce((sum, value, degree) => sum + kappa[degree] * value, 0);
// A picture with zeros around it, and its expansion: a channel for each degree.
export const padded = (x, p) => range(x.length + 2 * p).map((a) => range(x[0].length + 2 * p).map((b) => x[a - p]?.[b - p] ?? 0));
export const expand = (basis, x, degree) => range(degree + 1).map((delta) => x.map((row) => row.map((t) => basisValues(basis, t, degree)[delta])));
// What each tap adds to an output, kappa[degree][tap]: φ of the sample that it shows. In the padding it adds φ(0) where the
// input is padded (pad "input"), and 0 where the expanded input is ("basis").
export const konvTaps = (basis, x, kappa, kernel, padding, pad, i) => windowOf(i, kernel, sizeOf([x]), { ...LAYER, before: [padding, padding] }).map(({ u, place, source }, tap) => {
  const t = source ? x[source[0]][source[1]] : 0;
  return { u, tap, place, source, t, value: source || pad === "input" ? phi(basis, kappa.map((row) => row[tap]), t) : 0 };
});
export const konv2d = (basis, x, kappa, kernel, padding, pad) => {
  const [rows, wide] = sizeOf([x]).map((size, a) => outputSize(size, kernel[a], { before: padding, after: padding }));
  return range(rows).map((i) => range(wide).map((j) => konvTaps(basis, x, kappa, kernel, padding, pad, [i, j]).reduce((sum, { value }) => sum + value, 0)));
};
