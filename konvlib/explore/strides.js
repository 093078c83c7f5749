// <kv-strides>: layers with strides, and the one layer that replaces them.
import { compose, layer1d, range } from "./arithmetic.js";
import { counted, define, el, Explorable, list, minus, numbers, Sheet, sum, whole } from "./kit.js";

const layersOf = ({ w1, w2, w3, s1, s2, s3, d1, d2, d3, p }) => [
  { w: w1, stride: s1, dilation: d1, pad: 0 }, { w: w2, stride: s2, dilation: d2, pad: p }, { w: w3, stride: s3, dilation: d3, pad: 0 },
].filter(({ w }) => w.length);
const SMALL = ["₁", "₂", "₃"];

class Strides extends Explorable {
  static word = "strides";
  static title = "Layers with strides, and the one layer that replaces them";
  static fields = {
    w1: numbers(1, 4), w2: numbers(1, 4), w3: numbers(0, 3), s1: whole(1, 4), s2: whole(1, 4), s3: whole(1, 4), d1: whole(1, 3), d2: whole(1, 3), d3: whole(1, 3),
    p: whole(0, 2), x: numbers(1, 20), at: whole(0, 99), m: whole(0, 99),
  };
  static start = { w1: [2, 1, -1], w2: [2, 1, -1], w3: [], s1: 2, s2: 2, s3: 2, d1: 1, d2: 1, d3: 1, p: 0, x: [3, 1, 0, 2, 1, 4, 2, 0, 1, 3, 1], at: 2, m: 0 };
  static presets = {
    "Chapter 6": {},
    Smoothing: { w1: [1, 2, 1], w2: [1, 2, 1] },
    "Three layers": { w1: [1, 1], w2: [1, 1], w3: [1, 1], x: [3, 1, 0, 2, 1, 4, 2, 0, 1, 3, 1, 2, 5, 1, 0] },
    Dilation: { w1: [1, 2], w2: [2, 1, -1], s1: 1, s2: 1, d2: 2 },
    "Padding between": { w1: [1, 1, 1], w2: [1, 2, 1], s1: 1, s2: 2, p: 1 },
  };
  static tasks = {
    zero: {
      text: "Two layers with stride 2: choose w₁ and w₂ with three entries each, none of them 0, so that entry 2 of the one kernel is 0.",
      start: { w1: [1, 2, 1], w2: [1, 2, 1] },
      why: "Two paths reach that input, and their products cancel.",
      done: ({ layers, kernel }) => layers.length === 2 && layers.every(({ w, stride }) => w.length === 3 && stride === 2 && !w.includes(0)) && kernel.w[2] === 0,
    },
    field: {
      text: "Make two layers of three taps each see exactly 9 inputs, with stride 1 in both and no padding.",
      start: { w1: [1, 1, 1], w2: [1, 1, 1], s1: 1, s2: 1 },
      why: "Dilation 3 in the second layer adds 3 · 2 to the 3 of the first; so does 3 in the first and 1 in the second.",
      done: ({ layers, kernel, state }) => layers.length === 2 && state.p === 0 && layers.every(({ w, stride }) => w.length === 3 && stride === 1) && kernel.w.length === 9,
    },
  };

  controls() {
    const { w3 } = this.state;
    const of = (n, name) => this.group(this.sequence(`w${n}`, `${name} kernel, w${SMALL[n - 1]}`, "ker"), this.select(`s${n}`, `stride s${SMALL[n - 1]}`), this.select(`d${n}`, `dilation d${SMALL[n - 1]}`));
    return [of(1, "First"), of(2, "Second"), w3.length ? of(3, "Third") : this.sequence("w3", "Third kernel: none", "ker"), this.select("p", "padding between 1 and 2"), this.sequence("x", "Input, x", "in")];
  }

  compute(state) {
    const layers = layersOf(state), rows = [state.x];
    for (const { w, stride, dilation, pad } of layers) rows.push(layer1d(rows.at(-1), w, { stride, dilation, before: pad, after: pad }));
    const kernel = compose(layers), edge = state.p * state.s1;
    const once = layer1d(state.x, kernel.w, { stride: kernel.stride, before: edge, after: edge });
    return { state, layers, rows, kernel, once, edge, y: rows.at(-1) };
  }
  steps({ kernel }) { return kernel.w.length; }

  // The ways from one entry of the one kernel down through the layers: a tap of each.
  paths({ layers }, n) {
    let found = [{ taps: [], place: 0, jump: 1 }];
    for (const { w, stride, dilation } of layers) found = found.flatMap(({ taps, place, jump }) => w.map((_, u) => ({ taps: [...taps, u], place: place + jump * dilation * u, jump: jump * stride })));
    return found.filter(({ place }) => place === n);
  }

  draw(model) {
    const { layers, rows, kernel, once, edge, y, state } = model;
    const n = this.at, m = Math.min(state.m, y.length - 1), paths = this.paths(model, n), spot = m * kernel.stride + n - edge;
    const width = Math.max(300, this.clientWidth || 700), gut = width < 480 ? 8 : 74;
    const pitch = Math.min(46, (width - 2 * gut) / state.x.length), side = Math.min(34, pitch - 4), gap = width < 480 ? 58 : 70;
    const left = (width - pitch * state.x.length) / 2, depth = layers.length;
    const level = range(depth + 1).map((r) => 30 + gap * (depth - r)), below = 30 + gap * (depth + 1);
    // Where the middle of a window stands: affine in its number, layer by layer.
    const places = [{ a: 1, b: 0 }];
    for (const { w, stride, dilation, pad } of layers) {
      const { a, b } = places.at(-1);
      places.push({ a: a * stride, b: b + a * ((dilation * (w.length - 1)) / 2 - pad) });
    }
    const at = (r, i) => left + (places[r].a * i + places[r].b + 0.5) * pitch;
    const sheet = new Sheet(width, below + 30, "The layers above the input, the one layer below it");
    const half = side / 2, chosen = this.chosen(model, m, paths);
    layers.forEach(({ w, stride, dilation, pad }, r) => rows[r + 1].forEach((_, q) => w.forEach((value, u) => {
      const j = q * stride + dilation * u - pad;
      if (j >= 0 && j < rows[r].length) sheet.ribbon(at(r, j), level[r] - half, at(r + 1, q), level[r + 1] + half, value, chosen.some((path) => path[r + 1] === q && path[r] === j));
    })));
    once.forEach((_, q) => kernel.w.forEach((value, u) => {
      const j = q * kernel.stride + u - edge;
      if (j >= 0 && j < state.x.length) sheet.ribbon(at(0, j), level[0] + half, at(depth, q), below - half, value, q === m && u === n);
    }));
    const touch = (act) => ({ ...this.hover(act), onclick: act });
    rows.forEach((row, r) => row.forEach((value, i) => {
      const last = r === depth, onPath = chosen.some((path) => path[r] === i);
      if (last) sheet.cell(at(r, i), level[r], side, this.asking && i === m ? "?" : value, `out ${i === m ? "on" : "dim"}`, touch(() => this.choose(n, i)));
      else if (r) sheet.cell(at(r, i), level[r], side, value, `plain ${onPath ? "on" : "dim"}`);
      else {
        const u = i - m * kernel.stride + edge, inside = u >= 0 && u < kernel.w.length;
        sheet.cell(at(0, i), level[0], side, value, `in ${i === spot ? "on" : inside ? "" : "dim"}`, inside ? touch(() => this.choose(u, m)) : {});
      }
    }));
    once.forEach((value, q) => sheet.cell(at(depth, q), below, side, this.asking && q === m ? "?" : value, `out ${q === m ? "on" : "dim"} ${value === y[q] ? "" : "differs"}`, touch(() => this.choose(n, q))));
    if (gut > 60) {
      rows.forEach((_, r) => sheet.name(16, level[r], r === depth ? "y" : r ? (depth > 2 ? `hidden ${r}` : "hidden") : "x"));
      sheet.name(16, below, "y at once");
    }
    this.picture.replaceChildren(sheet.svg, el("div", { class: "rule" }), this.adding(model, n, m, width, gut));
  }
  // For each path the sample that it touches in every row, from the input to the output m.
  chosen({ layers }, m, paths) {
    return paths.map(({ taps }) => {
      const path = [m];
      for (let r = layers.length - 1; r >= 0; r -= 1) path.unshift(path[0] * layers[r].stride + layers[r].dilation * taps[r] - layers[r].pad);
      return path;
    });
  }
  choose(n, m) { if (n !== this.at || m !== this.state.m) this.set({ at: n, m }); }

  // The sum that makes the one kernel: a row for each tap of the last layer, moved, and their sum.
  adding({ layers, kernel }, n, m, width, gut) {
    const inner = compose(layers.slice(0, -1)), last = layers.at(-1), length = kernel.w.length;
    const pitch = Math.min(46, (width - 2 * gut) / Math.max(length, 5)), side = Math.min(32, pitch - 4), lift = side + 8, left = (width - pitch * length) / 2;
    const x = (u) => left + (u + 0.5) * pitch, base = 12 + lift * last.w.length + side / 2;
    const sheet = new Sheet(width, base + side / 2 + 10, "The one kernel, entry by entry");
    sheet.cells.setAttribute("role", "listbox");
    sheet.cells.setAttribute("aria-label", "Entries of the one kernel");
    const before = layers.length > 2 ? "w₁₂" : "w₁";
    last.w.forEach((value, u) => {
      const moved = inner.stride * last.dilation * u, y = 6 + lift * u + side / 2;
      if (gut > 60) sheet.name(16, y, `${minus(value)} × ${before}, moved ${moved}`);
      inner.w.forEach((entry, e) => sheet.cell(x(e + moved), y, side, entry * value, `ker ${entry * value ? "" : "zero"} ${e + moved === n ? "on" : "dim"}`, { "aria-hidden": "true", onclick: () => this.choose(e + moved, m) }));
    });
    sheet.line(left - 4, base - side / 2 - 6, left + pitch * length + 4, base - side / 2 - 6);
    if (gut > 60) sheet.name(16, base, "w, the one kernel");
    kernel.w.forEach((value, u) => {
      const cell = sheet.cell(x(u), base, side, this.asking && u === n ? "?" : value, `ker ${value ? "" : "zero"} ${u === n ? "on" : ""}`, {
        role: "option", tabindex: u === n ? 0 : -1, "aria-selected": String(u === n), "aria-label": this.entry(u), "data-key": `w${u}`,
      });
      this.roving(cell, u, length, (to) => { this.choose(to, m); this.picture.querySelector(`[data-key="w${to}"]`)?.focus(); });
    });
    return sheet.svg;
  }
  terms(model, n) {
    const { layers } = model;
    return this.paths(model, n).map(({ taps }) => taps.map((u, r) => layers[r].w[u]));
  }
  entry(n) {
    if (this.asking && n === this.at) return `entry ${n}, hidden`;
    const words = this.terms(this.model, n).map((values) => values.join(" times ")).join(" plus ");
    return `entry ${n}: ${this.model.kernel.w[n]}${words ? ` = ${words}` : ", no path"}`;
  }
  say(model) {
    const { kernel, once, y, state, edge } = model, n = this.at, m = Math.min(state.m, y.length - 1);
    const terms = this.terms(model, n), differ = y.flatMap((value, i) => (value === once[i] ? [] : [i]));
    const products = terms.map((values) => values.slice(1).reduce((text, value) => `${text} · ${value < 0 ? `(${minus(value)})` : value}`, minus(values[0])));
    const strides = model.layers.map(({ stride }) => stride).join(" · ");
    const same = `One layer with this kernel and stride ${strides} = <b>${kernel.stride}</b>`;
    return `<span class="i">x[${minus(m * kernel.stride + n - edge)}]</span> reaches <span class="o">y[${m}]</span> by ${counted(terms.length, "path")}: <span class="k">w[${n}]</span> = ${sum(products)} = <b>${minus(kernel.w[n])}</b>. `
      + (differ.length
        ? `${same}, with ${counted(edge, "zero")} before and after, differs at ${differ.map((i) => `y[${i}]`).join(", ")}: padding between the layers is zero where the one layer still sums inputs.`
        : `${same} gives the same output, <span class="o">${list(once)}</span>, and sees <b>${counted(kernel.w.length, "input")}</b>.`);
  }
  question({ kernel }) { return { name: `w[${this.at}]`, answer: kernel.w[this.at] }; }
  result({ y, kernel, once }) { return [y, kernel.w, once]; }

  numpy({ layers, state, edge }) {
    const rows = layers.map(({ w, stride, dilation, pad }) => `([${w.join(", ")}], ${stride}, ${dilation}, ${pad})`);
    return `import numpy as np


def dilated(w, step):
    spread = np.zeros((len(w) - 1) * step + 1, dtype=int)
    spread[::step] = w
    return spread


def layer(x, w, stride, padding):
    return np.correlate(np.pad(x, padding), w, mode="valid")[::stride]


x = np.array([${state.x.join(", ")}])
layers = [${rows.join(", ")}]  # weights, stride, dilation, padding
y, kernel, step = x, np.array([1]), 1
for w, stride, dilation, padding in layers:
    y = layer(y, dilated(w, dilation), stride, padding)
    kernel = np.convolve(kernel, dilated(w, dilation * step))
    step *= stride
print([y.tolist(), kernel.tolist(), layer(x, kernel, step, ${edge}).tolist()])
`;
  }
  torch({ layers, state, edge, kernel }) {
    const tensor = (values) => `torch.tensor([[[${values.map((value) => `${value}.`).join(", ")}]]])`;
    const calls = layers.map(({ w, stride, dilation, pad }) => `y = conv1d(y, ${tensor(w)}, stride=${stride}, padding=${pad}, dilation=${dilation})`);
    return `import torch
from torch.nn.functional import conv1d

x = ${tensor(state.x)}
y = x
${calls.join("\n")}
kernel = ${tensor(kernel.w)}
once = conv1d(x, kernel, stride=${kernel.stride}, padding=${edge})
print([values.int().flatten().tolist() for values in (y, kernel, once)])
`;
  }
}
define("kv-strides", Strides);
