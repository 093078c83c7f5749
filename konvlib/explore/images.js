// <kv-images>: a layer of images: input, kernel and output as grids; each cell of each grid shows what it touches.
import { checkGroups, conv2d, one, pixel, range, resized, span, unreadOf, windowOf } from "./arithmetic.js";
import { choice, counted, define, el, Explorable, grid, list, minus, numbers, product, Refusal, sum, table, whole } from "./kit.js";

// What a second channel, and kernels that are added, begin with: those of the chapter.
const PIXELS = [[1, 3, 2], [2, 0, 1], [0, 4, 2]], SECOND = [[0, 1, 0], [2, 1, 0], [1, 0, 3]];
const KERNELS = [[[2, 1], [0, 3]], [[1, 0], [1, -1]], [[0, 1], [1, 0]], [[1, 1], [1, 1]]];
const cut = (rows, count) => range(count).map((b) => rows.slice((b * rows.length) / count, ((b + 1) * rows.length) / count));
const depthOf = ({ channels, groups }) => Math.max(1, Math.floor(channels / groups));
const indices = (values) => values.map(minus).join(", ");
const AXES = ["rows", "columns"], COUNTS = ["channels", "outputs", "groups"];

class Images extends Explorable {
  static word = "images";
  static title = "A layer of images: input, kernel, output";
  static choosing = ["at", "show", "cell"];
  static fields = {
    x: table([1, 10], [1, 6]), w: table([1, 12], [1, 3]), stride: numbers(2, 2, 1, 3), padding: table([2, 2], [2, 2], 0, 3), dilation: numbers(2, 2, 1, 3),
    padding_mode: choice("zeros", "reflect", "replicate", "circular"), channels: whole(1, 2), outputs: whole(1, 2), groups: whole(1, 2),
    at: whole(0, 999), show: choice("y", "x", "w"), cell: numbers(3, 3, -9, 9),
  };
  static start = {
    x: PIXELS, w: KERNELS[0], stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1],
    padding_mode: "zeros", channels: 1, outputs: 1, groups: 1, at: 0, show: "y", cell: [0, 0, 0],
  };
  static presets = {
    "Chapter 2": {},
    "Two strides": { padding: [[1, 1], [1, 1]], stride: [2, 1] },
    "Unread pixels": { x: resized(PIXELS, [5, 6], pixel), stride: [2, 2], dilation: [2, 2] },
    "Same size": { x: [[1, 3, 2, 0], [2, 0, 1, 4], [0, 4, 2, 1]], w: [[1, 2, 1], [2, 4, 2], [1, 2, 1]], padding: [[1, 1], [1, 1]], padding_mode: "reflect" },
    "Two channels": { x: [...PIXELS, ...SECOND], w: KERNELS.flat(), channels: 2, outputs: 2 },
    "Two groups": { x: [...PIXELS, ...SECOND], w: [...KERNELS[0], ...KERNELS[1]], channels: 2, outputs: 2, groups: 2 },
  };
  static tasks = {
    corners: {
      text: "Three by three pixels, a kernel of two by two, no padding: make a layer that reads the four corners and no other pixel.",
      why: "With dilation 2 on both axes the kernel covers the whole picture, and its taps stand on the corners.",
      done: ({ size, kernel, state: { channels, padding }, unread }) => String(size) === "3,3" && String(kernel) === "2,2" && channels === 1 && !padding.flat().some(Boolean) && String(unread) === "0,1,1,0,1,1,1,2,2,1",
    },
    moved: {
      text: "Make the output this picture, moved one place to the right: as many rows and columns, zeros in the first column, the last column lost.",
      start: { x: [[1, 3, 2, 5], [2, 0, 1, 3], [4, 4, 2, 1]], w: [[1, 0], [0, 0]] },
      why: "An output must meet, with the weight 1, the pixel on its left: the weight stands on the left in the kernel, and padding on the left of the picture.",
      done: ({ x, y }) => String(x) === "1,3,2,5,2,0,1,3,4,4,2,1" && y.length === 1 && JSON.stringify(y[0]) === JSON.stringify(x[0].map((row) => [0, ...row.slice(0, -1)])),
    },
  };

  controls() {
    const { channels, outputs } = this.state;
    const size = (name, axis) => {
      const blocks = name === "x" ? channels : outputs * depthOf(this.state), most = name === "x" ? [5, 6][axis] : 3;
      const length = axis ? this.state[name][0].length : this.state[name].length / blocks, line = axis ? "column" : "row";
      return this.several(`${line}s of ${name}`, ...this.stepper(name, `${line} `, length, length > 1, length < most, (by) => this.resize(name, blocks, axis, by)));
    };
    return [
      ...["x", "w"].flatMap((name) => [size(name, 0), size(name, 1)]), this.pair("stride", "stride s₀, s₁"), this.pair("dilation", "dilation d₀, d₁"),
      this.sides("padding"), this.select("padding_mode", "padding mode"),
      ...COUNTS.map((name) => this.select(name, name)),
    ];
  }
  resize(name, blocks, axis, by) {
    const length = this.state[name].length / blocks, columns = this.state[name][0].length;
    this.set({ [name]: cut(this.state[name], blocks).flatMap((block) => resized(block, [length + (axis ? 0 : by), columns + (axis ? by : 0)], name === "x" ? pixel : one)) });
  }
  // Where channels, outputs or groups change, x and w get the rows that they need.
  set(part) {
    const before = this.state, now = { ...before, ...part }, more = {};
    if (COUNTS.some((name) => now[name] !== before[name]) && !part.x) {
      const x = cut(before.x, before.channels), w = cut(before.w, before.outputs * depthOf(before));
      more.x = range(now.channels).flatMap((c) => x[c] ?? resized(SECOND, [x[0].length, x[0][0].length], pixel));
      more.w = range(now.outputs).flatMap((o) => range(depthOf(now)).flatMap((d) => (o < before.outputs && w[o * depthOf(before) + d]) || resized(KERNELS[2 * o + d], [w[0].length, w[0][0].length], one)));
    }
    super.set({ ...part, ...more });
  }
  go(at) { this.set({ at: Math.max(0, Math.min(at, this.steps(this.model) - 1)), show: "y" }); }
  ask(asking, repaint = true) {
    if (asking) this.state.show = "y";
    super.ask(asking, repaint);
  }
  controlled(state) { return COUNTS.map((name) => state[name]); }
  paint() {
    const height = this.picture.offsetHeight;
    super.paint();
    this.picture.style.minHeight = this.model ? "" : `${height}px`; // a refusal does not move what stands below
  }
  build() {
    super.build();
    // What the pointer is over, and what the keyboard is on, is chosen; a question is not disturbed.
    const look = (event) => {
      const key = event.target.closest?.("[data-key]")?.dataset.key;
      if (key && this.model && !this.asking) this.choose(key);
    };
    for (const type of ["pointerover", "focusin"]) this.picture.addEventListener(type, look);
  }
  choose(key) {
    const { name, head, place } = this.byKey.get(key), { m, depth } = this.model;
    const part = name === "y" ? { show: "y", at: (head[0] * m[0] + place[0]) * m[1] + place[1] } : { show: name, cell: [name === "w" ? head[0] * depth + head[1] : head[0], ...place] };
    if (Object.entries(part).some(([field, value]) => String(value) !== String(this.state[field]))) { this.pause(); this.set(part); }
  }

  compute(state) {
    const { channels, outputs, groups, stride, dilation, padding, padding_mode: mode } = state, depth = depthOf(state);
    const key = JSON.stringify({ ...state, at: 0, show: 0, cell: 0 });
    if (this.known?.key === key) return { ...this.known, state };
    if (state.x.length % channels) throw new Refusal(`x must have as many rows in each of ${channels} channels, got ${state.x.length} rows`);
    if (state.w.length % (outputs * depth)) throw new Refusal(`w must have as many rows in each of ${outputs * depth} kernels, got ${state.w.length} rows`);
    checkGroups(channels, outputs, groups);
    const x = cut(state.x, channels), w = cut(cut(state.w, outputs * depth), outputs);
    const layer = { stride, dilation, before: [padding[0][0], padding[1][0]], after: [padding[0][1], padding[1][1]], groups, mode };
    const y = conv2d(x, w, layer), size = [x[0].length, x[0][0].length], kernel = [w[0][0].length, w[0][0][0].length], m = [y[0].length, y[0][0].length];
    // Every tap of every window, once for all channels.
    const taps = range(m[0]).flatMap((i) => range(m[1]).flatMap((j) => windowOf([i, j], kernel, size, layer).map((tap) => ({ ...tap, i: [i, j] }))));
    this.known = { key, x, w, y, layer, size, kernel, m, depth, taps, unread: unreadOf(x, w, layer) };
    return { ...this.known, state };
  }
  steps({ y, m }) { return y.length * m[0] * m[1]; }

  // Names with as many indices as are needed.
  x([c, ...place]) { return `x[${indices(this.model.x.length > 1 ? [c, ...place] : place)}]`; }
  w([o, d, ...u]) { return `w[${indices(this.model.w.length * this.model.depth > 1 ? [o, d, ...u] : u)}]`; }
  y([o, ...i]) { return `y[${indices(this.model.y.length > 1 ? [o, ...i] : i)}]`; }
  // What is chosen: the output, or the pixel or weight where there is such a one.
  chosen({ state: { show, cell }, m, x, w, depth, kernel, size, layer: { before, after } }) {
    const [first, ...place] = cell, kernels = w.length * depth;
    if (show === "x" && first >= 0 && first < x.length && place.every((j, a) => j >= -before[a] && j < size[a] + after[a])) return { show, c: first, place };
    if (show === "w" && first >= 0 && first < kernels && place.every((u, a) => u >= 0 && u < kernel[a])) return { show, o: Math.floor(first / depth), d: first % depth, place };
    return this.output(m);
  }
  output([rows, columns]) {
    const row = Math.floor(this.at / columns);
    return { show: "y", o: Math.floor(row / rows), place: [row % rows, this.at % columns] };
  }
  inside(place, size) { return place.every((j, a) => j >= 0 && j < size[a]); }
  first(o) { return Math.floor(o / (this.model.w.length / this.model.layer.groups)) * this.model.depth; }
  // All products that a cell takes part in: output o, channel c, tap.
  meeting(model, { show, o, d, c, place }) {
    const { taps, x, w, depth, size } = model, same = (a, b) => a[0] === b[0] && a[1] === b[1];
    const real = show === "x" && this.inside(place, size);
    const found = taps.filter((tap) => (!show || (show === "y" ? same(tap.i, place) : show === "w" ? same(tap.u, place) : real ? tap.source && same(tap.source, place) : same(tap.place, place))));
    return range(w.length).filter((at) => o == null || at === o).flatMap((at) => range(depth).filter((e) => (d == null || e === d) && (c == null || this.first(at) + e === c)).flatMap((e) => found.map((tap) => ({
      ...tap, o: at, d: e, c: this.first(at) + e, x: tap.source ? x[this.first(at) + e][tap.source[0]][tap.source[1]] : 0, w: w[at][e][tap.u[0]][tap.u[1]],
    }))));
  }

  // The grids are built anew only where their shapes change: a cell in which someone types stays.
  draw(model) {
    const { x, w, y, size, kernel, m, depth, layer: { before, after, groups } } = model, padded = size.map((n, a) => n + before[a] + after[a]);
    const width = Math.max(280, this.clientWidth || 700) - (this.clientWidth < 480 ? 25 : 34);
    // As large as fits beside each other, names included; if nothing does, one below the other.
    const wide = (side) => Math.max(70, padded[1] * (side + 2)) + Math.max(groups > 1 ? 96 : 0, depth * (12 + Math.max(52, kernel[1] * (side + 2)))) + Math.max(80, m[1] * (side + 2)) + 76;
    const fits = range(width < 480 ? 13 : 19).map((less) => 44 - less).find((side) => wide(side) <= width);
    const side = fits ?? Math.max(24, Math.min(36, Math.floor((width - 16) / Math.max(x.length * padded[1], y.length * m[1])) - 2));
    const shape = JSON.stringify([size, before, after, kernel, m, x.length, w.length, depth, groups, side, fits]);
    if (this.laid !== shape || !this.picture.querySelector(".images")) {
      this.laid = shape;
      this.lay(model, padded, side, fits);
      this.filled = null;
    }
    const filled = `${model.key} ${this.asking ? this.at : ""}`;
    if (this.filled !== filled) this.fill(model);
    this.filled = filled;
    this.mark(model);
  }
  lay({ x, w, y, size, kernel, m, depth, layer: { before, groups } }, padded, side, fits) {
    this.cells = [];
    const block = (name, role, title, label, [rows, columns], head, offset, field) => {
      const node = grid(this, { label, role, side, field, values: range(rows).map(() => Array(columns).fill(0)), pick: (to) => this.focusOn(`${label} ${to}`) });
      node.querySelectorAll("[data-key]").forEach((cell, index) => {
        const place = [Math.floor(index / columns) - offset[0], (index % columns) - offset[1]], input = cell.localName === "input";
        this.cells.push({ node: cell, held: input ? cell.parentElement : cell, input, name, head, place, key: String([...head, ...place]), label });
      });
      return el("div", {}, el("div", { class: `l ${role}` }, title), node);
    };
    const many = w.length * depth > 1, here = (place) => this.inside(place, size), stack = (...nodes) => el("div", { class: "stack" }, ...nodes);
    const inputs = x.map((_, c) => block("x", "in", x.length > 1 ? `input x[${c}]` : "input x", `Input ${x.length > 1 ? `x, channel ${c}` : "x"}`, padded, [c], before,
      (r, q) => (here([r - before[0], q - before[1]]) ? `x.${c * size[0] + r - before[0]}.${q - before[1]}` : null)));
    const kernels = w.map((parts, o) => el("div", { class: "kernels" }, ...parts.map((_, d) => block("w", "ker", many ? `w[${o}, ${d}]${groups > 1 ? ` on x[${this.first(o) + d}]` : ""}` : "kernel w",
      `Kernel ${many ? `w, output ${o}, channel ${this.first(o) + d}` : "w"}`, kernel, [o, d], [0, 0], (u, v) => `w.${(o * depth + d) * kernel[0] + u}.${v}`))));
    const outputs = y.map((_, o) => block("y", "out", y.length > 1 ? `output y[${o}]` : "output y", `Output ${y.length > 1 ? `y, channel ${o}` : "y"}`, m, [o], [0, 0], null));
    const sign = (text) => el("div", { class: "sign", "aria-hidden": "true" }, text);
    this.picture.className = "pic pad";
    this.picture.replaceChildren(el("div", { class: `row images ${fits ? "" : "narrow"}` }, stack(...inputs), sign("⋆"), stack(...kernels), sign("="), stack(...outputs)), (this.sizes = el("div", { class: "sizes" })));
    this.byKey = new Map(this.cells.map((cell) => [cell.node.dataset.key, cell]));
  }
  // Numbers, and what is said of them.
  fill(model) {
    const { x, w, y, size, kernel, m, layer: { stride, dilation, before, after } } = model, nowhere = new Set(model.unread.map(String)), sums = new Map();
    for (const one of this.meeting(model, {})) sums.set(String([one.o, ...one.i]), [...(sums.get(String([one.o, ...one.i])) ?? []), `${one.x} times ${one.w}`]);
    for (const cell of this.cells) {
      const { node, name, head: [first, d], place: [a, b], key } = cell, here = this.inside(cell.place, size);
      const hidden = name === "y" && this.asking && (first * m[0] + a) * m[1] + b === this.at;
      const value = name === "x" ? this.pixel(model, first, cell.place) : name === "w" ? w[first][d][a][b] : y[first][a][b];
      cell.look = name === "x" ? (here ? (nowhere.has(String(cell.place)) ? "unread" : "") : "padc") : "";
      if (cell.input) node.value = value;
      else node.textContent = hidden ? "?" : minus(value);
      const named = name === "x" && !here ? `padding, row ${minus(a)}, column ${minus(b)}` : this[name]([...cell.head, a, b]);
      node.setAttribute("aria-label", `${named}: ${hidden ? "hidden" : minus(value)}${name === "y" && !hidden ? ` = ${sums.get(key).join(" plus ")}` : cell.look === "unread" ? ", read by no window" : ""}`);
    }
    this.sizes.replaceChildren(...range(2).map((a) => {
      const i = "₀₁"[a], numerator = `${size[a]} + ${before[a]} + ${after[a]} − ${span(kernel[a], dilation[a]) - 1} − 1`;
      return el("div", {}, el("b", {}, `${AXES[a]}: `), `m${i} = ⌊(n${i} + p${i} + p′${i} − d${i}(k${i} − 1) − 1) / s${i}⌋ + 1 = ⌊(${numerator}) / ${stride[a]}⌋ + 1 = `, el("b", {}, String(m[a])));
    }));
  }
  // What is chosen and what it touches. The number that meets a cell stands in its corner.
  mark(model) {
    const chosen = this.chosen(model), one = { x: [chosen.c], w: [chosen.o, chosen.d], y: [chosen.o] }[chosen.show], on = String([...one, ...chosen.place]), keys = { x: {}, w: {}, y: {} };
    for (const { o, c, d, i, u, place, x, w } of this.meeting(model, chosen)) {
      for (const [name, key, text] of [["x", [c, ...place], w], ["w", [o, d, ...u], x], ["y", [o, ...i], w]]) (keys[name][key] ??= []).push(text);
    }
    const shown = { y: ["x", "w"], x: ["y"], w: [] }[chosen.show], stops = new Map();
    for (const { node, held, input, name, key, look, label } of this.cells) {
      const is = name === chosen.show && key === on, found = keys[name][key];
      node.className = `g ${look} ${is ? "on" : found ? "fill" : ""}`;
      held.setAttribute("data-met", shown.includes(name) && found?.length === 1 ? minus(found[0]) : "");
      held.setAttribute("aria-selected", String(is));
      node.setAttribute("tabindex", "-1");
      if (is || !stops.has(label + input)) stops.set(label + input, node); // a stop for the numbers, one for their padding
    }
    for (const node of stops.values()) node.setAttribute("tabindex", "0");
  }
  focusOn(key) {
    this.choose(key);
    this.byKey.get(key).node.focus();
  }
  // The pixel that a place shows, or null.
  shown({ layer, size }, place) {
    const [{ source }] = windowOf([0, 0], [1, 1], size, { ...layer, before: place.map((j) => -j) });
    return source;
  }
  pixel(model, c, place) {
    const source = this.shown(model, place);
    return source ? model.x[c][source[0]][source[1]] : 0;
  }
  say(model) {
    const { y, x, w, depth, size, layer, unread, m } = model, chosen = this.chosen(model), { show, place, o, c, d } = chosen, meets = this.meeting(model, chosen);
    const never = unread.length ? `Hatched: ${counted(unread.length, "pixel")} that no window reads.` : "Every pixel is read by some window.";
    if (show === "y") {
      const at = place.map((i, a) => {
        const begin = layer.stride[a] * i - layer.before[a], step = `${layer.dilation[a] > 1 ? layer.dilation[a] : ""}u${"₀₁"[a]}`;
        return begin ? `${minus(begin)} + ${step}` : step;
      });
      const many = w.length * depth > 1, c_ = layer.groups > 1 ? [minus(this.first(o))] : ["c"];
      const formula = `Σ <span class="i">x[${[...(x.length > 1 ? c_ : []), ...at].join(", ")}]</span> <span class="k">w[${[...(many ? [o, depth > 1 ? "c" : 0] : []), "u₀", "u₁"].join(", ")}]</span>`;
      const each = depth > 1 ? ` (${range(depth).map((e) => `${minus(meets.filter((one) => one.d === e).reduce((total, one) => total + one.x * one.w, 0))} from channel ${e}`).join(", ")})` : "";
      return `<span class="o">${this.y([o, ...place])}</span> = ${formula} = ${sum(meets.map((one) => product(one.x, one.w)))} = <b>${minus(y[o][place[0]][place[1]])}</b>${each}. ${never}`;
    }
    if (show === "w") {
      const met = meets.length > 36 ? "" : `, and meets <span class="i">${list(meets.map((one) => one.x))}</span> there`;
      return `<span class="k">${this.w([o, d, ...place])}</span> = <b>${minus(w[o][d][place[0]][place[1]])}</b> is in ${meets.length > 1 ? `all ${m[0]} × ${m[1]} outputs` : "the only output"}${y.length > 1 ? ` of y[${o}]` : ""}${met}. ${never}`;
    }
    const source = this.shown(model, place), pixel = source ? `<span class="i">${this.x([c, ...source])}</span> = <b>${minus(this.pixel(model, c, place))}</b>` : "";
    const what = this.inside(place, size) ? pixel : `This place in the padding ${source ? `shows ${pixel}` : "is <b>0</b>"}, and`;
    if (!meets.length) return `${what} is read by no window. ${never}`;
    const uses = meets.map((one) => `<span class="o">${this.y([one.o, ...one.i])}</span> with <span class="k">${this.w([one.o, one.d, ...one.u])}</span> = ${minus(one.w)}`);
    return `${what} is read ${meets.length === 1 ? "once" : meets.length === 2 ? "twice" : `${meets.length} times`}: by ${uses.length > 1 ? `${uses.slice(0, -1).join(", ")} and ${uses.at(-1)}` : uses[0]}. ${never}`;
  }
  question({ y, m }) {
    const { o, place: [i, j] } = this.output(m);
    return { name: this.y([o, i, j]), answer: y[o][i][j] };
  }
  result({ y, unread }) { return [y, unread]; }

  numpy({ x, w, layer: { stride, dilation, groups, mode, before, after }, size }) {
    const named = { zeros: "constant", reflect: "reflect", replicate: "edge", circular: "wrap" }[mode], code = (values) => JSON.stringify(values).replaceAll(",", ", ");
    return `import numpy as np

x = np.array(${code(x)})
w = np.array(${code(w)})
groups, (s0, s1), (d0, d1) = ${groups}, (${stride.join(", ")}), (${dilation.join(", ")})
padding = [(${before[0]}, ${after[0]}), (${before[1]}, ${after[1]})]


def windows(image):
    padded = np.pad(image, [(0, 0), *padding], mode="${named}")
    spans = (d0 * (w.shape[2] - 1) + 1, d1 * (w.shape[3] - 1) + 1)
    found = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(1, 2))
    return found[:, ::s0, ::s1, ::d0, ::d1]


pairs = zip(np.split(windows(x), groups), np.split(w, groups))
y = np.concatenate([np.einsum("cijuv,ocuv->oij", part, kernels) for part, kernels in pairs])
number = 1 + np.arange(${size[0]} * ${size[1]}).reshape(1, ${size[0]}, ${size[1]})  # 0 is padding
read = np.isin(number[0], windows(number))
print([y.tolist(), np.argwhere(~read).tolist()])
`;
  }
  torch({ x, w, layer: { stride, dilation, groups, mode, before, after }, size }) {
    const floats = (values) => JSON.stringify(values).replaceAll(/\d+/g, "$&.").replaceAll(",", ", "), plain = mode === "zeros";
    const even = before.every((p, a) => p === after[a]), sides = [before[1], after[1], before[0], after[0]], none = !sides.some(Boolean);
    const fits = mode === "replicate" || sides.every((p, side) => p <= size[side < 2 ? 1 : 0] - (mode === "reflect" ? 1 : 0));
    const index = (a) => `[${range(size[a] + before[a] + after[a]).map((j) => this.shown(this.model, a ? [0, j - before[1]] : [j - before[0], 0])?.[a] ?? 0).join(", ")}]`;
    let padded = "x";
    if (!none && !plain) padded = fits ? `pad(x, (${sides.join(", ")}), mode="${mode}")` : `x[:, :, ${index(0)}][..., ${index(1)}]`;
    else if (!none && !even) padded = `pad(x, (${sides.join(", ")}))`;
    const given = [`stride=(${stride.join(", ")})`, ...(plain && even && !none ? [`padding=(${before.join(", ")})`] : []), `dilation=(${dilation.join(", ")})`, ...(groups > 1 ? [`groups=${groups}`] : [])].join(", ");
    return `import torch
from torch.nn.functional import conv2d${padded.startsWith("pad") ? ", pad" : ""}

x = torch.tensor([${floats(x)}], requires_grad=True)
w = torch.tensor(${floats(w)})
settings = dict(${given})
y = conv2d(${padded}, w, **settings)
conv2d(${padded}, torch.ones_like(w), **settings).sum().backward()
unread = (x.grad[0, 0] == 0).nonzero()  # what no window reads has the gradient 0
print([y[0].int().tolist(), unread.tolist()])
`;
  }
  static css = `.images { align-items:center; justify-content:center; flex-wrap:nowrap; gap:.7rem } .images.narrow { flex-wrap:wrap; align-items:flex-start; justify-content:flex-start; gap:.7rem 1rem }
.images.narrow .sign { display:none } .images.narrow .stack { flex-direction:row; flex-wrap:wrap } .images .l { white-space:nowrap }
.say { min-height:4.9em } .stack { display:flex; flex-direction:column; gap:.7rem } .kernels { display:flex; gap:.7rem } .sign { color:var(--muted); font-size:1.5rem; padding-top:1.2rem }
.l.in { color:var(--t-in) } .l.ker { color:var(--t-ker) } .l.out { color:var(--t-out) }
.sizes { color:var(--muted); font-size:.87rem; padding-top:.8rem; overflow-wrap:anywhere } .sizes b { color:var(--ink); font-weight:600 }
[data-met] { position:relative } [data-met]::after { content:attr(data-met); position:absolute; right:3px; bottom:1px; font-size:9.5px; line-height:1; font-weight:700; color:var(--t-ker); pointer-events:none }
.ker [data-met]::after { color:var(--t-in) }`;
}
define("kv-images", Images);
