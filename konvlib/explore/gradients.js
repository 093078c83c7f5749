// <kv-gradients>: an output's gradient flows to the inputs and the weights; beside it the two convolutions that this makes.
import { conv2d, inputGrad, one, pixel, range, resized, sizesOf, tradedGrads, weightGrad, windowOf } from "./arithmetic.js";
import { choice, counted, define, el, Explorable, grid, list, minus, numbers, product, Refusal, sum, table, whole } from "./kit.js";

const shapeOf = (values) => [values.length, values[0].length];
const same = (a, b) => String(a) === String(b);
const layerOf = ({ stride, dilation, padding }) => ({ stride, dilation, before: [padding[0][0], padding[1][0]], after: [padding[0][1], padding[1][1]], groups: 1, mode: "zeros" });
const NEW = { x: pixel, w: one, dy: one };
const MOST = { x: [5, 6], w: [3, 3] };
const MOST_TERMS = 12;
const WIDER = [[1, 3, 2, 0, 4], [2, 0, 1, 3, 1], [0, 4, 2, 1, 2], [3, 1, 0, 2, 5]];

class Gradients extends Explorable {
  static word = "gradients";
  static title = "Gradients: what an output sends back";
  static choosing = ["at", "show"];
  static fields = {
    x: table([1, 5], [1, 6]), w: table([1, 3], [1, 3]), dy: table([1, 9], [1, 10]), stride: numbers(2, 2, 1, 3), padding: table([2, 2], [2, 2], 0, 2), dilation: numbers(2, 2, 1, 3),
    show: choice("dy", "dx", "dw"), at: whole(0, 99),
  };
  static start = {
    x: [[1, 3, 2], [2, 0, 1], [0, 4, 2]], w: [[2, 1], [0, 3]], dy: [[1, -1], [2, 1]], stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1], show: "dy", at: 0,
  };
  static presets = {
    "The running example": {},
    "One axis": { x: [[1, 3, 2, 0, 4]], w: [[2, 1, -1]], dy: [[1, -1, 2]] },
    "Stride 2, padding 1": { x: [[1, 3, 2, 0, 4]], w: [[2, 1, -1]], dy: [[1, -1, 2]], stride: [1, 2], padding: [[0, 0], [1, 1]] },
    "Stride 2 on both axes": { x: WIDER, dy: [[1, -1], [2, 1]], stride: [2, 2] },
    "Dilation 2": { x: WIDER, dy: [[1, -1, 2], [2, 1, 0]], dilation: [2, 2] },
    "Same size": { x: [[1, 3, 2, 0], [2, 0, 1, 4], [0, 4, 2, 1]], w: [[1, 2, 1], [0, 3, 0], [-1, 0, 2]], dy: [[1, -1, 0, 2], [2, 1, 1, 0], [0, 3, -1, 1]], padding: [[1, 1], [1, 1]] },
  };
  static tasks = {
    silent: {
      text: "Leave x, w and the layer as they are. Choose dy, with no entry 0, so that the gradient of the middle input, dx[1, 1], is 0.",
      why: "3 · dy[0, 0] + 0 · dy[0, 1] + 1 · dy[1, 0] + 2 · dy[1, 1] must be 0. What dy[0, 1] is makes no difference: the weight on its way is 0.",
      done: ({ state: { x, w, dy, stride, padding, dilation }, dx }) => {
        const given = Gradients.start;
        return same(x, given.x) && same(w, given.w) && same([stride, padding, dilation], [given.stride, given.padding, given.dilation]) && !dy.flat().includes(0) && dx[1][1] === 0;
      },
    },
    column: {
      text: "Four rows, five columns, a kernel of two by two, no padding, dilation 1: choose the stride so that one column of dx is 0 whatever dy and w are, and nothing else.",
      start: { x: WIDER, dy: [[1, -1, 2, 1], [2, 1, 1, -1], [1, 2, -1, 1]], stride: [1, 1] },
      why: "That column is read by no window. Across, stride 2 leaves the last column unread, stride 3 the one between two windows; down, stride 3 would leave two rows.",
      done: ({ state: { x, w, padding, dilation }, reached }) => same(shapeOf(x), [4, 5]) && same(shapeOf(w), [2, 2]) && !padding.flat().some(Boolean) && same(dilation, [1, 1])
        && range(5).filter((c) => reached.every((row) => !row[c])).length === 1 && reached.flat().filter((count) => !count).length === 4,
    },
  };

  controls() {
    const size = (name, a) => {
      const length = shapeOf(this.state[name])[a], line = a ? "column" : "row";
      return this.several(`${line}s of ${name}`, ...this.stepper(name, `${line} `, length, length > 1, length < MOST[name][a], (by) => this.resize(name, a, by)));
    };
    return [...["x", "w"].flatMap((name) => [size(name, 0), size(name, 1)]), this.pair("stride", "stride s₀, s₁"), this.pair("dilation", "dilation d₀, d₁"), this.sides("padding")];
  }
  resize(name, a, by) {
    this.set({ [name]: resized(this.state[name], shapeOf(this.state[name]).map((length, axis) => length + (axis === a ? by : 0)), NEW[name]) });
  }
  // A change of the layer gives dy the size of the new output: entries that are kept, and 1 where there was none. A link is taken as it is.
  set(part) {
    const now = { ...this.state, ...part }, more = {};
    try {
      const m = sizesOf([now.x], [[now.w]], layerOf(now));
      if (!same(m, shapeOf(now.dy))) more.dy = resized(now.dy, m, NEW.dy);
    } catch (error) { if (!(error instanceof Refusal)) throw error; }
    super.set({ ...part, ...more });
  }
  paint() {
    const height = this.picture.offsetHeight;
    super.paint();
    this.picture.style.minHeight = this.model ? "" : `${height}px`; // a refusal does not move what stands below
  }
  build() {
    super.build();
    // What the pointer is over, and what the keyboard is on, is chosen; a question is not disturbed.
    const look = (event) => {
      const found = event.target.closest?.("[data-go]")?.dataset.go;
      if (found && this.model && !this.asking) this.choose(...found.split(" "));
    };
    for (const type of ["pointerover", "focusin", "click"]) this.picture.addEventListener(type, look);
  }
  choose(show, at) {
    if (show !== this.state.show || Number(at) !== this.at) { this.pause(); this.set({ show, at: Number(at) }); }
  }

  compute(state) {
    const { show, at, ...rest } = state, key = JSON.stringify(rest);
    if (this.known?.key === key) return { ...this.known, state };
    const { x, w, dy } = state, layer = layerOf(state), size = shapeOf(x), kernel = shapeOf(w);
    const m = sizesOf([x], [[w]], layer), given = shapeOf(dy);
    if (!same(m, given)) throw new Refusal(`dy must have the convolution's output shape (1, 1, ${m.join(", ")}), got (1, 1, ${given.join(", ")}); if dy is right, then input_size, kernel_size, stride, padding or dilation is not`);
    // Every product of the forward sum: the output i, the weight u, and the place that the tap stands on.
    const ways = range(m[0]).flatMap((a) => range(m[1]).flatMap((b) => windowOf([a, b], kernel, size, layer).map((tap) => ({ ...tap, i: [a, b] }))));
    const reached = resized([], size, () => 0);
    for (const { source } of ways) if (source) reached[source[0]][source[1]] += 1;
    const axes = size[0] === 1 && kernel[0] === 1 && m[0] === 1 ? 1 : 2;
    this.known = {
      key, x, w, dy, layer, size, kernel, m, ways, reached, axes, y: conv2d([x], [[w]], layer)[0], traded: tradedGrads(dy, w, x, layer),
      dx: inputGrad([dy], [[w]], [x], layer)[0], dw: weightGrad([dy], [[w]], [x], layer)[0][0],
    };
    return { ...this.known, state };
  }
  countOf({ state: { show }, m, size, kernel }) { return { dy: m, dx: size, dw: kernel }[show]; }
  steps(model) { return this.countOf(model).reduce((a, b) => a * b); }
  // The place that is chosen, and the products it takes part in.
  chosen(model) {
    const { show } = model.state, place = [Math.floor(this.at / this.countOf(model)[1]), this.at % this.countOf(model)[1]];
    return { show, place, meets: model.ways.filter(({ i, u, source }) => same({ dy: i, dx: source, dw: u }[show], place)) };
  }
  // What is asked for: the gradient that is chosen; of an entry of dy, the input to which most send besides it.
  asked(model) {
    const { show, place, meets } = this.chosen(model);
    if (show !== "dy") return { name: show, place };
    const [best] = meets.filter(({ source }) => source).sort((a, b) => model.reached[b.source[0]][b.source[1]] - model.reached[a.source[0]][a.source[1]]);
    return best ? { name: "dx", place: best.source } : { name: "dw", place: [0, 0] };
  }
  called(name, place) { return `${name}[${(this.model.axes === 1 ? place.slice(1) : place).map(minus).join(", ")}]`; }

  // The cells are made where sizes change, and afterwards only written on: what one types in stays.
  draw(model) {
    const { size, kernel, m, layer: { before, after }, axes } = model;
    const wide = Math.max(280, this.clientWidth || 700) - (this.clientWidth < 480 ? 25 : 34), gap = wide < 450 ? 26 : 62, padded = size.map((n, a) => n + before[a] + after[a]);
    const fit = (cells, gaps) => Math.min(40, Math.floor((wide - gaps) / cells) - 2), both = 2 * Math.max(m[1], kernel[1]);
    const layouts = [["across", fit(padded[1] + m[1] + kernel[1], 2 * gap)], ["down", fit(Math.max(2 * padded[1], both), 24)], ["narrow", fit(Math.max(padded[1], both), 34)]];
    const [layout, side] = layouts.slice(axes === 1 ? 1 : 0).find(([, cell]) => cell >= 24) ?? ["narrow", 24];
    const made = JSON.stringify([size, kernel, m, model.state.padding, model.traded.from, layout, side, gap]);
    if (this.made !== made || this.flow?.parentElement !== this.picture) this.make(model, padded, side);
    this.made = made;
    this.flow.className = `flow ${layout} ${side < 32 ? "tight" : ""}`;
    this.flow.style.setProperty("--gap", `${gap}px`);
    this.write(model);
    this.lead(model, layout, padded[1]);
  }
  make(model, padded, side) {
    const { x, y, w, dy, dw, dx, size, kernel, m, layer: { before }, traded: { spread, turned, from } } = model, none = [0, 0];
    this.cells = [];
    this.middles = new Map();
    const keep = (cell, name, spot, within, go) => {
      if (go) cell.setAttribute("data-go", go); else for (const attribute of ["tabindex", "aria-selected"]) cell.removeAttribute(attribute);
      this.cells.push({ cell, holder: cell.localName === "input" ? cell.parentElement : cell, base: cell.className, name, spot, within });
    };
    const area = (name, title, role, values, length, shift, edited) => {
      const label = { x: "Input x", y: "Output y", w: "Kernel w" }[name] ?? `Gradient ${name}`, go = { x: "dx", y: "dy", w: "dw" }[name] ?? name, columns = values[0].length;
      const at = (index) => [Math.floor(index / columns) - shift[0], (index % columns) - shift[1]], inside = (spot) => spot.every((j, a) => j >= 0 && j < length[a]);
      const pick = (to) => {
        const [r, c] = at(to).map((j, a) => Math.max(0, Math.min(length[a] - 1, j)));
        if (!this.asking) this.choose(go, r * length[1] + c);
        this.picture.querySelector(`[data-key="${label} ${(r + shift[0]) * columns + c + shift[1]}"]`)?.focus();
      };
      const node = grid(this, { label, role, values, side, say: () => "", ...(edited ? { field: (r, c) => (inside([r - shift[0], c - shift[1]]) ? `${name}.${r - shift[0]}.${c - shift[1]}` : null) } : { pick }) });
      node.querySelectorAll("[data-key]").forEach((cell, index) => keep(cell, name, at(index), inside(at(index)), inside(at(index)) ? `${go} ${at(index)[0] * length[1] + at(index)[1]}` : null));
      return el("div", { style: `grid-area:${name}`, class: `area-${name}` }, el("div", { class: `l ${{ in: "i", out: "o", ker: "k" }[role] ?? "d"}` }, title), node);
    };
    const frame = range(padded[0]).map(() => range(padded[1]).map(() => ""));
    this.ways = el("svg", { class: "ways", "aria-hidden": "true" });
    this.flow = el("div", { class: "flow" }, this.ways, el("div", { class: "areas" },
      area("x", "input x", "in", frame, size, before, true), area("w", "kernel w", "ker", w, kernel, none, true), area("y", "output y", "out", y, m, none), area("dy", "dy", "grad", dy, m, none, true),
      area("dx", "dx", "grad", frame, size, before), area("dw", "dw", "grad", dw, kernel, none)));
    // The two convolutions: small, for the eye and the pointer.
    const plate = (label, role, name, values, spotOf, go) => {
      const node = el("div", { class: `grid ${role}`, role: "img", "aria-label": label, style: `grid-template-columns:repeat(${values[0].length},24px);--side:24px;--digits:12px` });
      values.forEach((row, r) => row.forEach((_, c) => {
        const cell = el("div", { class: "g still" }), spot = spotOf(r, c);
        keep(cell, name, [r, c], spot, spot && `${go[0]} ${spot[0] * go[1] + spot[1]}`);
        node.append(cell);
      }));
      return node;
    };
    const entry = (r, c) => [r + from[0], c + from[1]].map((j, a) => j / model.layer.stride[a]), real = (length, spot) => (spot.every((j, a) => Number.isInteger(j) && j >= 0 && j < length[a]) ? spot : null);
    const panel = (name, title, a, b, note) => el("div", { class: "panel" }, el("div", {}, el("span", { class: "d" }, name), ` = ${title}`), el("div", { class: "row pair" }, a, el("span", { class: "sign", "aria-hidden": "true" }, "⋆"), b), note);
    [this.first, this.second, this.corners] = range(3).map(() => el("div", { class: "note" }));
    this.picture.className = "pic pad";
    this.picture.replaceChildren(this.flow, el("div", { class: "rule two" },
      panel("dx", "transposed convolution of dy with w", plate("dy, spread and padded", "grad", "spread", spread, (r, c) => real(m, entry(r, c)), ["dy", m[1]]),
        plate("w turned by 180 degrees", "ker", "turned", turned, (r, c) => [kernel[0] - 1 - r, kernel[1] - 1 - c], ["dw", kernel[1]]), this.first),
      panel("dw", "correlation of x with dy", plate("x with its padding", "in", "padded", frame, (r, c) => real(size, [r - before[0], c - before[1]]), ["dx", size[1]]),
        plate("dy as a kernel", "grad", "kernel", dy, (i, j) => [i, j], ["dy", m[1]]), this.second)), this.corners);
  }
  write(model) {
    const { x, y, w, dy, kernel, m, layer: { before, stride, dilation }, reached, axes, traded } = model, { show, place, meets } = this.chosen(model);
    const asked = this.asking ? this.asked(model) : null, spot = String(place), hidden = (name, at) => asked?.name === name && same(asked.place, at);
    const lit = { x: new Map(), w: new Map(), y: new Map() }, partner = { dx: "x", dw: "w", dy: "y", x: "x", w: "w", y: "y" };
    for (const way of meets) for (const [name, at] of [["x", way.place], ["w", way.u], ["y", way.i]]) lit[name].set(String(at), way);
    const look = (name, at) => (partner[name] === partner[show] && String(at) === spot ? "on" : lit[partner[name]].has(String(at)) ? "fill" : "");
    // In the corner of a cell: what arrives there, or the number on the way.
    const corner = (name, at) => {
      const way = lit[partner[name]].get(String(at));
      if (!way || hidden(name, at)) return "";
      if (show === "dy") return name === "dx" ? minus(this.sent(model, way) * this.weight(model, way)) : name === "dw" ? minus(this.sent(model, way) * this.input(model, way)) : "";
      return name === "dy" ? minus(show === "dx" ? this.weight(model, way) : this.input(model, way)) : "";
    };
    // Where the window of the one layer lies, and that of the other.
    const taps = (count, step, begin) => new Set(range(count[0]).flatMap((a) => range(count[1]).map((b) => String([a, b].map((n, axis) => step[axis] * n + begin[axis])))));
    const window = show === "dx" ? taps(kernel, dilation, place) : null, shifts = show === "dw" ? taps(m, stride, place.map((u, a) => dilation[a] * u)) : null;
    const put = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };
    const { activeElement } = this.shadowRoot;
    for (const { cell, holder, base, name, spot: at, within } of this.cells) {
      let looks, value;
      if (name === "spread") [value, looks] = [traded.spread[at[0]][at[1]], `${within ? look("dy", within) : "zero"} ${window?.has(String(at)) ? "fill" : ""}`];
      else if (name === "turned") [value, looks] = [w[within[0]][within[1]], look("w", within)];
      else if (name === "padded") [value, looks] = [within ? x[within[0]][within[1]] : 0, `${within ? "" : "padc"} ${shifts ? (shifts.has(String(at)) ? "fill" : "") : look("x", [at[0] - before[0], at[1] - before[1]])}`];
      else if (name === "kernel") [value, looks] = [dy[at[0]][at[1]], look("dy", at)];
      else {
        const covered = within && hidden(name, at), here = within && name !== "dy" && partner[name] === partner[show] && String(at) === spot;
        value = !within ? (name === "x" ? 0 : "") : covered ? "?" : model[name][at[0]][at[1]];
        looks = `${!within ? "padc" : partner[name] === "x" && !reached[at[0]][at[1]] ? "unread" : ""} ${look(name, at)}`;
        put(cell, "aria-label", within ? this.speak(model, name, at, covered ? null : value) : "padding");
        put(holder, "data-met", corner(name, at));
        if (cell.hasAttribute("aria-selected")) {
          put(cell, "aria-selected", String(here));
          put(cell, "tabindex", here || (partner[name] !== partner[show] && within && !at[0] && !at[1]) ? "0" : "-1");
        }
      }
      if (cell.className !== `${base} ${looks}`) cell.className = `${base} ${looks}`;
      if (cell.localName !== "input") { if (cell.textContent !== minus(value)) cell.textContent = minus(value); } else if (cell !== activeElement || !cell.value) cell.value = value;
    }
    const few = (values) => (axes === 1 ? String(values[1]) : values[0] === values[1] ? String(values[0]) : values.join(", ")), { around, places } = traded;
    this.first.textContent = `Zeros in dy: s − 1 = ${few(stride.map((s) => s - 1))} between its entries, d(k − 1) − p = ${few(around.map(([first]) => minus(first)))} before, ${few(around.map(([, last]) => minus(last)))} behind${around.flat().some((zeros) => zeros < 0) ? " (below 0: cut off)" : ""}; w turned. Stride 1, dilation ${few(dilation)}.`;
    this.second.textContent = `Stride and dilation trade places: stride ${few(dilation)}, which was the dilation, and dilation ${few(stride)}, which was the stride.${same(places, kernel) ? "" : ` Of ${places.join(" × ")} places the first ${kernel.join(" × ")}.`}`;
    const total = asked ? "?" : minus(dy.flatMap((row, i) => row.map((value, j) => value * y[i][j])).reduce((a, b) => a + b));
    this.corners.replaceChildren({ dy: "In the corners: what arrives, dy · w by the orange ways and dy · x by the blue ones. ", dx: "In the corners of dy: the weight on the way. ", dw: "In the corners of dy: the input on the way. " }[show], el("span", {}, `Σ dy · y = Σ dx · x = Σ dw · w = ${total}.`));
  }
  sent({ dy }, { i }) { return dy[i[0]][i[1]]; }
  weight({ w }, { u }) { return w[u[0]][u[1]]; }
  input({ x }, { source }) { return source ? x[source[0]][source[1]] : 0; }

  // The ways from dy, between the cells where they have come to stand.
  lead(model, layout, columns) {
    const { m, kernel, layer: { before } } = model, { show, meets } = this.chosen(model), across = layout === "across";
    let box = null;
    const middle = (name, [r, c], wide) => {
      const key = `.area-${name} [data-key$=" ${r * wide + c}"]`;
      if (this.middles.has(key)) return [...this.middles.get(key)];
      box ??= this.flow.getBoundingClientRect();
      const found = this.flow.querySelector(key).getBoundingClientRect(), at = [found.x - box.x + found.width / 2, found.y - box.y + found.height / 2];
      if (box.width) this.middles.set(key, [...at]);
      return at;
    };
    const curve = (way, name, at, wide, by, rank) => {
      const from = middle("dy", way.i, m[1]), to = middle(name, at, wide);
      to[across ? 1 : 0] += rank;
      const half = (from[across ? 0 : 1] + to[across ? 0 : 1]) / 2, bend = across ? `${half},${from[1]} ${half},${to[1]}` : `${from[0]},${half} ${to[0]},${half}`;
      return el("path", { class: `ribbon on way ${name} ${by < 0 ? "neg" : ""} ${by ? "" : "nil"}`, pathLength: 100, "stroke-width": by ? 1 + 1.1 * Math.min(4, Math.log2(1 + Math.abs(by))) : 1, d: `M${from}C${bend} ${to}` });
    };
    const fan = ({ u }) => (show === "dy" ? 4 * (u[across ? 1 : 0] - (kernel[across ? 1 : 0] - 1) / 2) : 0);
    this.ways.replaceChildren(
      ...(show === "dw" ? [] : meets.map((way) => curve(way, "dx", way.place.map((j, a) => j + before[a]), columns, way.source ? this.weight(model, way) : 0, fan(way)))),
      ...(show === "dx" ? [] : meets.map((way) => curve(way, "dw", way.u, kernel[1], this.input(model, way), -fan(way)))));
  }
  speak(model, name, place, value) {
    const called = this.called(name, place);
    if (value == null) return `${called}, hidden`;
    const { dy, x, w, ways } = model;
    const terms = name === "dx" ? ways.filter(({ source }) => same(source, place)).map(({ i, u }) => `${dy[i[0]][i[1]]} times ${w[u[0]][u[1]]}`)
      : name === "dw" ? ways.filter(({ u, source }) => source && same(u, place)).map(({ i, source }) => `${dy[i[0]][i[1]]} times ${x[source[0]][source[1]]}`) : null;
    return `${called}: ${value}${!terms ? "" : terms.length ? ` = ${terms.join(" plus ")}` : ", no product"}`;
  }
  say(model) {
    const { x, w, dy, y, dx, dw, layer: { stride, dilation, before }, m, kernel, axes } = model, { show, place, meets } = this.chosen(model), [a, b] = place;
    const rows = (values) => (axes === 1 ? list(values[0]) : `[${values.map(list).join(", ")}]`), subs = axes === 1 ? [""] : ["₀", "₁"];
    const times = (step, letter) => `${step > 1 ? step : ""}${letter}`, index = (terms, shift) => `${terms}${shift ? ` ${shift > 0 ? "+" : "−"} ${Math.abs(shift)}` : ""}`;
    const over = (make) => subs.map((sub, n) => make(sub, axes === 1 ? 1 : n)), any = (letter) => subs.map((sub) => `${letter}${sub}`).join(", ");
    const terms = (pairs) => sum(pairs.slice(0, MOST_TERMS).map(([p, q]) => product(p, q))) + (pairs.length > MOST_TERMS ? ` + … (${counted(pairs.length, "product")})` : "");
    if (show === "dy") {
      const lost = meets.filter(({ source }) => !source).length, seen = range(kernel[0]).map((u) => range(kernel[1]).map((v) => {
        const { source } = meets[u * kernel[1] + v];
        return source ? x[source[0]][source[1]] : 0;
      }));
      const value = minus(dy[a][b]);
      return `<span class="d">${this.called("dy", place)}</span> = <b>${value}</b>: for each 1 that <span class="o">${this.called("y", place)}</span> = ${minus(y[a][b])} grows, the loss changes by ${value}. Each product x · w of that sum sends `
        + `dy · w to its input: ${value} · <span class="k">${rows(w)}</span>; and dy · x to its weight: ${value} · <span class="i">${rows(seen)}</span>.${lost ? ` What goes to the padding (${counted(lost, "product")}) is dropped.` : ""}`;
    }
    if (show === "dx") {
      const called = `<span class="d">${this.called("dx", place)}</span>`;
      if (!meets.length) return `${called} = <b>0</b>: no window reads <span class="i">${this.called("x", place)}</span>, so no output sends anything.`;
      const where = over((sub, n) => `${index(`${times(stride[n], `i${sub}`)} + ${times(dilation[n], `u${sub}`)}`, -before[n])} = ${place[n]}`).join(" and ");
      return `${called} = Σ <span class="d">dy[${any("i")}]</span> <span class="k">w[${any("u")}]</span>, where ${where}, = ${terms(meets.map(({ i, u }) => [dy[i[0]][i[1]], w[u[0]][u[1]]]))} = <b>${minus(dx[a][b])}</b>. `
        + `${counted(meets.length, "output")} read <span class="i">${this.called("x", place)}</span>, and ${meets.length === 1 ? "this one sends" : "each sends"} its dy times the weight that it used.`.replace("1 output read", "1 output reads");
    }
    const where = over((sub, n) => index(times(stride[n], `i${sub}`), dilation[n] * place[n] - before[n])).join(", ");
    return `<span class="d">${this.called("dw", place)}</span> = Σ <span class="d">dy[${any("i")}]</span> <span class="i">x[${where}]</span> = ${terms(meets.map(({ i, source }) => [dy[i[0]][i[1]], source ? x[source[0]][source[1]] : 0]))} = <b>${minus(dw[a][b])}</b>. `
      + `All ${m[0] * m[1]} outputs used <span class="k">${this.called("w", place)}</span>, each with another input.`.replace("All 1 outputs", "One output");
  }
  question(model) {
    const { name, place } = this.asked(model);
    return { name: this.called(name, place), answer: model[name][place[0]][place[1]] };
  }
  result({ y, dx, dw }) { return [y, dx, dw]; }

  numpy({ x, w, dy, layer: { stride, dilation, before, after }, size }) {
    const code = (values) => JSON.stringify(values).replaceAll(",", ", ");
    return `import numpy as np

x = np.array(${code(x)})
w = np.array(${code(w)})
dy = np.array(${code(dy)})
(s0, s1), (d0, d1) = (${stride.join(", ")}), (${dilation.join(", ")})
padded = np.pad(x, [(${before[0]}, ${after[0]}), (${before[1]}, ${after[1]})])
m0, m1 = dy.shape
y, dx, dw = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(w)
for u, v in np.ndindex(w.shape):
    # where the tap (u, v) stands, in all windows
    there = np.ix_(d0 * u + s0 * np.arange(m0), d1 * v + s1 * np.arange(m1))
    y += padded[there] * w[u, v]
    dx[there] += dy * w[u, v]
    dw[u, v] = (dy * padded[there]).sum()
dx = dx[${before[0]} : ${before[0] + size[0]}, ${before[1]} : ${before[1] + size[1]}]
print([values.tolist() for values in (y, dx, dw)])
`;
  }
  torch({ x, w, dy, layer: { stride, dilation, before, after } }) {
    const floats = (values) => JSON.stringify(values).replaceAll(/\d+/g, "$&.").replaceAll(",", ", ");
    return `import torch
from torch.nn.functional import conv2d, pad

x = torch.tensor([[${floats(x)}]], requires_grad=True)
w = torch.tensor([[${floats(w)}]], requires_grad=True)
dy = torch.tensor([[${floats(dy)}]])
padded = pad(x, (${before[1]}, ${after[1]}, ${before[0]}, ${after[0]}))
y = conv2d(padded, w, stride=(${stride.join(", ")}), dilation=(${dilation.join(", ")}))
y.backward(dy)
print([values[0, 0].int().tolist() for values in (y, x.grad, w.grad)])
`;
  }
  static css = `.flow { position:relative; width:max-content; margin:0 auto } .areas { position:relative; display:grid; justify-items:center; align-items:center }
.across .areas { grid-template-areas:"x y w" "dx dy dw"; gap:.8rem var(--gap) } .down .areas { grid-template-areas:"x dx" "y dy" "w dw"; gap:1.5rem 24px }
.narrow .areas { grid-template-areas:"x x" "dx dx" "y dy" "w dw"; gap:1.4rem 34px } .flow:not(.across) :is(.area-dy,.area-dw) { position:relative } .flow:not(.across) :is(.area-dy,.area-dw) .l { position:absolute; right:calc(100% + 6px); top:50%; translate:0 -50%; margin:0 }
.flow svg.ways { position:absolute; inset:0; width:100%; height:100%; overflow:visible; pointer-events:none } .way.dw:not(.nil) { stroke:var(--in) } .flow .way { opacity:.75 }
.l.i { color:var(--t-in) } .l.k { color:var(--t-ker) } .l.o { color:var(--t-out) } .l.d, .panel .d { color:var(--t-grad) } .panel .d { font-weight:650 } .note span { white-space:nowrap }
[data-met] { position:relative } [data-met]::after { content:attr(data-met); position:absolute; right:3px; bottom:1px; font-size:9.5px; line-height:1; font-weight:700; color:var(--t-grad); pointer-events:none }
.tight [data-met]:not([data-met=""]):is(.g), .tight [data-met]:not([data-met=""])>.g { padding:0 .55em .6em 0 } .two { display:flex; flex-wrap:wrap; gap:.8rem 2rem; margin:1rem 0 .5rem; padding-top:.7rem } .panel { flex:1 1 18rem; min-width:0; font-size:.87rem } .pair { gap:.5rem; align-items:center; margin:.4rem 0 }
@media (prefers-reduced-motion:no-preference) { .way { animation:flow .5s ease-out } } @keyframes flow { from { stroke-dasharray:0 100 } to { stroke-dasharray:100 0 } }`;
}
define("kv-gradients", Gradients);
