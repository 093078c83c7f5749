// <kv-matrices>: a layer beside its matrix, or beside the columns of its windows (im2col).
import { columns, conv2d, matrix, one, outputSize, pixel, range, resized, windowOf } from "./arithmetic.js";
import { choice, counted, define, el, Explorable, minus, numbers, product, Refusal, sum, table, whole } from "./kit.js";

const MOST_ROWS = 36, MOST_INPUTS = 16;
const PAD = [[0, 0], [0, 0]];
const NINE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]];
const FOUR = [[1, 3, 2, 0], [2, 0, 1, 4], [0, 4, 2, 1], [3, 1, 0, 2]];
const FILL = { x: pixel, w: one };
const AXIS = ["rows", "columns"];

class Matrices extends Explorable {
  static word = "matrices";
  static title = "A layer, its matrix, and its columns";
  static choosing = ["at", "j", "u", "show"];
  static fields = {
    x: table([1, 4], [1, 8]), w: table([1, 3], [1, 3]), stride: numbers(2, 2, 1, 3), padding: table([2, 2], [2, 2], 0, 2), dilation: numbers(2, 2, 1, 3),
    view: choice("matrix", "columns"), show: choice("output", "input", "tap", "entry"), at: whole(0, 99), j: whole(0, 99), u: whole(0, 99),
  };
  static start = { x: [[1, 3, 2], [2, 0, 1], [0, 4, 2]], w: [[2, 1], [0, 3]], stride: [1, 1], padding: PAD, dilation: [1, 1], view: "matrix", show: "output", at: 0, j: 4, u: 0 };
  static presets = {
    "The running example": {},
    "Its columns": { view: "columns" },
    "Three by three on four by four": { x: FOUR, w: NINE },
    "One axis: Toeplitz": { x: [[1, 3, 2, 0, 4]], w: [[2, 1, -1]], padding: [[0, 0], [1, 1]] },
    "Blocks of blocks": { x: FOUR.slice(0, 3), w: NINE, padding: [[1, 1], [1, 1]], show: "tap" },
    "A stride keeps rows": { x: FOUR, w: [[1, 2], [3, 4]], stride: [2, 2] },
    "Dilation spreads": { x: [[1, 3, 2, 0, 4, 1, 2]], w: [[2, 1, -1]], dilation: [1, 2] },
  };
  static tasks = {
    toeplitz: {
      text: "One axis: choose the size of x, the kernel and the padding so that K has the three rows (1 0), (2 1), (0 2).",
      start: { x: [[1, 3, 2]], w: [[1, 1]] },
      why: "Two columns are two inputs. Each diagonal is one weight, from the lower left corner to the upper right: 2, then 1. The first row and the last lack a weight that meets the padding.",
      done: ({ K }) => JSON.stringify(K) === "[[1,0],[2,1],[0,2]]",
    },
    once: {
      text: "Four by four pixels and a kernel of two by two: make a layer whose columns hold each pixel exactly once, and no zero of the padding.",
      start: { x: FOUR, w: [[1, 2], [3, 4]], view: "columns" },
      why: "The windows must not overlap, nor leave a pixel out: on each axis stride 2, or dilation 2 with stride 1. Then the columns only rearrange the pixels.",
      done: ({ n, k, windows }) => String(n) === "4,4" && String(k) === "2,2" && String(windows.flatMap((taps) => taps.map(({ j }) => j)).sort((a, b) => a - b)) === String(range(16)),
    },
  };

  controls() {
    const size = (name) => {
      const now = [this.state[name].length, this.state[name][0].length], field = this.constructor.fields[name];
      const count = (axis) => {
        const to = (by) => now.map((length, a) => length + (a === axis ? by : 0));
        const fits = ([rows, wide]) => rows > 0 && wide > 0 && rows <= field.rows[1] && wide <= field.columns[1] && rows * wide <= MOST_INPUTS;
        return this.stepper(name, `${AXIS[axis].slice(0, -1)} `, now[axis], fits(to(-1)), fits(to(1)), (by) => this.set({ [name]: resized(this.state[name], to(by), FILL[name]) }));
      };
      return this.several(`size of ${name}: rows × columns`, ...count(0), "×", ...count(1));
    };
    return [
      this.select("view", "view", { matrix: "matrix K", columns: "columns (im2col)" }), this.pair("stride", "stride s₀, s₁"), this.pair("dilation", "dilation d₀, d₁"), this.sides("padding"),
      size("x"), size("w"),
    ];
  }
  build() {
    super.build();
    // What the pointer is over, and what the keyboard is on, is chosen; a question is not disturbed.
    const look = (event) => {
      const found = event.target.closest?.("[data-pick]");
      if (found && this.model && !this.asking) this.choose(...found.dataset.pick.split(" "));
    };
    for (const type of ["pointerover", "focusin", "click"]) this.picture.addEventListener(type, look);
  }
  choose(show, at, other) {
    const part = { show }, matrixView = this.state.view === "matrix";
    if (show === "output" || show === "entry") part.at = Number(at);
    else part[show === "input" ? "j" : "u"] = Number(at);
    if (show === "entry") part[matrixView ? "j" : "u"] = Number(other);
    if (Object.entries(part).every(([name, value]) => this.state[name] === value)) return;
    this.pause();
    this.set(part);
  }
  go(at) { this.set({ at: Math.max(0, Math.min(at, this.steps(this.model) - 1)), show: "output" }); }

  compute(state) {
    const key = JSON.stringify({ ...state, at: 0, j: 0, u: 0, show: 0 });
    if (this.known?.key === key) return { ...this.known, state };
    const { x, w, stride, padding, dilation } = state;
    const n = [x.length, x[0].length], k = [w.length, w[0].length];
    const layer = { stride, dilation, before: padding.map(([before]) => before), after: padding.map(([, after]) => after), groups: 1, mode: "zeros" };
    const sizes = (steps) => [0, 1].map((a) => outputSize(n[a], k[a], { stride: steps[a], before: padding[a][0], after: padding[a][1], dilation: dilation[a] }));
    const m = sizes(stride), all = sizes([1, 1]);
    if (n[0] * n[1] > MOST_INPUTS) throw new Refusal(`x must have at most ${MOST_INPUTS} entries here, got ${n[0] * n[1]}`);
    if (all[0] * all[1] > MOST_ROWS) throw new Refusal(`K must have at most ${MOST_ROWS} rows at stride 1 here, got ${all[0] * all[1]}`);
    // The windows at stride 1, those that the stride keeps with their number; j is the pixel of a tap, or null in the padding.
    const every = range(all[0] * all[1]).map((row) => {
      const i = [Math.floor(row / all[1]), row % all[1]], stays = i.every((at, a) => at % stride[a] === 0);
      const taps = windowOf(i, k, n, { ...layer, stride: [1, 1] }).map(({ place, source }, u) => ({ u, place, j: source ? source[0] * n[1] + source[1] : null }));
      return { row, taps, meets: new Map(taps.map((tap) => [tap.j, tap])), i: stays ? (i[0] / stride[0]) * m[1] + i[1] / stride[1] : null };
    });
    const kept = every.filter(({ i }) => i !== null);
    this.known = {
      key, n, k, m, all, every, kept, windows: kept.map(({ taps }) => taps), flat: { x: x.flat(), w: w.flat() },
      y: conv2d([x], [[w]], layer)[0], K: matrix([x], [[w]], layer), cols: columns([x], [[w]], layer),
    };
    return { ...this.known, state };
  }
  steps({ m }) { return m[0] * m[1]; }

  // What is chosen, with what it touches: outputs, inputs, taps, and the meetings [i, u, j] of a window's tap and a pixel.
  chosen({ state, n, k, windows }) {
    const { show, view } = state, i = this.at, j = Math.min(state.j, n[0] * n[1] - 1), u = Math.min(state.u, k[0] * k[1] - 1);
    const meets = windows.flatMap((taps, at) => taps.filter((tap) => tap.j !== null).map((tap) => ({ i: at, u: tap.u, j: tap.j })));
    const here = meets.filter((one) => (show === "output" ? one.i === i : show === "input" ? one.j === j : show === "tap" ? one.u === u : one.i === i && (view === "matrix" ? one.j === j : one.u === u)));
    return { show, view, i, j, u, here, all: meets };
  }

  draw(model) {
    const width = this.clientWidth || 700, shape = JSON.stringify([model.n, model.k, model.all, model.state.stride, model.state.view, width]);
    if (shape !== this.drawn || !this.updates?.length || !this.updates[0].node.isConnected) {
      this.drawn = shape;
      this.updates = [];
      this.picture.replaceChildren(this.layer(model, width), el("div", { class: "rule" }), this.table(model, width));
    }
    const now = this.chosen(model), quiet = this.asking && now.show !== "output";
    this.now = { ...now, quiet, lit: { output: new Set(), input: new Set(), tap: new Set() } };
    if (!quiet) for (const { i, u, j } of now.here) { this.now.lit.output.add(i); this.now.lit.input.add(j); this.now.lit.tap.add(u); }
    for (const one of this.updates) {
      const { node, told } = one, { text, look, label, selected, stop } = (one.told = one.tell()), shown = minus(text);
      if (node.localName === "input") { if (this.shadowRoot.activeElement !== node) node.value = text; } else if (text !== told?.text) node.textContent = shown;
      if (look !== told?.look || text !== told.text) node.setAttribute("class", `${one.base} ${look} ${shown.length > 3 ? "long" : ""}`);
      if (label && label !== told?.label) node.setAttribute("aria-label", label);
      if (selected != null && selected !== told?.selected) node.setAttribute("aria-selected", String(selected));
      if (stop != null && stop !== told?.stop) node.setAttribute("tabindex", stop ? 0 : -1);
    }
    this.reveal();
  }
  // A cell that is told anew, at each change, what it shows.
  cell(node, base, tell) {
    this.updates.push({ node, base, tell });
    return node;
  }
  one(show, index, text) {
    const { now } = this, here = index === now[{ output: "i", input: "j", tap: "u" }[show]], entry = now.show === "entry";
    const on = here && (now.show === show || (entry && (show === "output" || (show === "input") === (now.view === "matrix"))));
    return { text, on, stop: here, look: on || (entry && now.lit[show].has(index)) ? "on" : now.lit[show].has(index) ? "fill" : "" };
  }
  output(i) {
    const { y, m } = this.model, hidden = this.asking && this.now.show === "output" && i === this.at, cell = this.one("output", i, hidden ? "?" : y[Math.floor(i / m[1])][i % m[1]]);
    return { ...cell, selected: cell.on, label: hidden ? `${this.name("y", i)}, hidden` : `${this.name("y", i)} = ${this.terms(i)} = ${minus(cell.text)}` };
  }
  input(j) {
    const cell = this.one("input", j, this.model.flat.x[j]);
    return { ...cell, label: `input ${this.name("x", j)}` };
  }
  tap(u) {
    const cell = this.one("tap", u, this.model.flat.w[u]);
    return { ...cell, label: `tap ${this.name("w", u)}` };
  }
  // Which entries a question asks for.
  hides(i, u, j) {
    const { quiet, show, view } = this.now;
    if (!quiet) return false;
    if (show === "tap" || (show === "input" && view === "columns")) return true;
    return show === "input" ? j === this.now.j : i === this.now.i && (view === "matrix" ? j === this.now.j : u === this.now.u);
  }
  // An entry of the matrix (row of a window, pixel j) or of the columns (tap u, column of a window).
  entry({ i, taps, meets }, other) {
    const { view, show } = this.now, { flat } = this.model;
    const tap = view === "matrix" ? meets.get(other) : taps[other], empty = view === "matrix" && !tap, pad = view === "columns" && tap.j === null;
    const u = tap?.u ?? null, j = view === "matrix" ? other : tap.j;
    const text = empty ? "" : view === "matrix" ? flat.w[u] : pad ? 0 : flat.x[j];
    if (i === null) return { text, look: `gone ${empty ? "none" : ""}` };
    const hidden = this.hides(i, u, j), matrixName = view === "matrix" ? `K[${i}, ${other}]` : `columns[${other}, ${i}]`;
    const chosen = show === "entry" && i === this.now.i && other === (view === "matrix" ? this.now.j : this.now.u);
    const line = (show !== "tap" && show !== "input" && i === this.now.i) || (view === "matrix" ? show !== "output" && show !== "tap" && j === this.now.j : (show === "tap" || show === "entry") && u === this.now.u);
    const lit = chosen || (!empty && show === "tap" && u === this.now.u) || (!empty && show === "output" && i === this.now.i) || (!empty && show === "input" && j === this.now.j);
    const what = view === "matrix" ? (empty ? "0, no tap" : `${minus(text)}, the weight ${this.name("w", u)}`) : pad ? "0, padding" : `${minus(text)}, the pixel ${this.name("x", j)}`;
    const looks = hidden ? [chosen ? "on" : ""] : [empty ? "none" : pad ? "padc" : "fill", lit ? "on" : line ? "line" : ""];
    return { text: hidden ? "?" : text, look: looks.join(" "), label: hidden ? `${matrixName}, hidden` : `${matrixName}: ${what}`, selected: chosen, stop: i === this.now.i && other === (view === "matrix" ? this.now.j : this.now.u) };
  }

  // The layer: input, kernel, output.
  layer({ n, k, m }, width) {
    const room = Math.min(width, 736) - (width < 480 ? 24 : 34);
    const block = (show, label, role, [rows, wide], field) => {
      const side = Math.max(24, Math.min(34, Math.floor(room / wide) - 2)), count = rows * wide;
      const lines = range(rows).map((r) => el("div", { role: "row" }, ...range(wide).map((c) => {
        const index = r * wide + c, pick = `${show} ${index}`;
        if (field) {
          const node = this.number(`${field}.${r}.${c}`, "", "", { "data-pick": pick, "data-key": pick });
          return el("div", { role: "gridcell" }, this.cell(node, "g", () => this[show](index)));
        }
        const node = this.roving(el("div", { role: "gridcell", "data-pick": pick, "data-key": pick }), index, count, (to) => this.move(show, to), wide);
        return this.cell(node, "g", () => this[show](index));
      })));
      return el("div", {}, el("span", { class: `l ${role}`, "aria-hidden": "true" }, label), el("div", { class: `grid ${role}`, role: "grid", "aria-label": label, style: `grid-template-columns:repeat(${wide},auto);--side:${side}px;--digits:${Math.min(15, side * 0.45)}px` }, ...lines));
    };
    const sign = (text) => el("span", { class: "sign", "aria-hidden": "true" }, text);
    return el("div", { class: "row layer" }, block("input", "input x", "in", n, "x"), sign("⋆"), block("tap", "kernel w", "ker", k, "w"), sign("="), block("output", "output y", "out", m));
  }

  // The matrix under the flat input and beside the flat output, or the columns beside the flat kernel and over the output:
  // each number stands in line with what it multiplies.
  table({ n, k, all, every, kept }, width) {
    const matrixView = this.state.view === "matrix";
    const [down, over] = matrixView ? [all, n] : [k, all], rows = down[0] * down[1], wide = over[0] * over[1];
    const narrow = width < 480, room = Math.min(width, 736) - (narrow ? 24 : 34), gut = matrixView && !narrow ? 44 : 0;
    const side = Math.max(24, Math.min(rows > 14 ? 27 : 34, Math.floor((room - gut - 12 - 6 * over[0]) / (wide + 1)) - 2));
    const column = (c) => 3 + c + Math.floor(c / over[1]), row = (r) => 4 + r + Math.floor(r / down[1]);
    const at = (node, r, c, tall = 1, long = 1) => { node.style.gridArea = `${r} / ${c} / span ${tall} / span ${long}`; return node; };
    const track = ([count, length]) => range(count).map(() => `repeat(${length},${side}px) 4px`).join(" ");
    const first = matrixView ? (narrow ? "0" : "40px") : `${side}px`, sheet = el("div", { class: "sheet", style: `--side:${side}px;--digits:${Math.max(10, Math.min(15, side * 0.44))}px;grid-template-columns:${first} ${matrixView && narrow ? "0" : "4px"} ${track(over)} auto;grid-template-rows:auto auto 4px ${track(down)} auto` });
    const still = (show, index, role, r, c) => sheet.append(at(this.cell(el("div", { "aria-hidden": "true", "data-pick": `${show} ${index}` }), `g ${role} ${show === "output" && matrixView ? "end" : ""}`, () => ({ ...this[show](index), label: null, selected: null, stop: null })), r, c));
    const word = (text, r, c, look) => sheet.append(at(el("span", { class: `l ${look}`, "aria-hidden": "true" }, text), r, c, 1, look === "in" ? 4 : 1));
    // Blocks: those of one row of outputs and one row of pixels, or of one row of taps and one row of outputs.
    for (const a of range(down[0])) for (const b of range(over[0])) {
      const full = !matrixView || every.slice(a * down[1], (a + 1) * down[1]).some(({ taps }) => taps.some(({ j }) => j !== null && Math.floor(j / over[1]) === b));
      sheet.append(at(el("div", { class: `block ${full ? "full" : ""}`, "aria-hidden": "true" }), row(a * down[1]), column(b * over[1]), down[1], over[1]));
    }
    if (matrixView) {
      sheet.append(at(el("div", { class: "back", "aria-hidden": "true" }), 1, column(wide), row(rows) - 1));
      range(wide).forEach((j) => still("input", j, "in", 2, column(j)));
      kept.forEach((window, i) => still("output", i, "out", row(window.row), column(wide)));
      if (narrow) word("flat x, over K", 1, 3, "in");
      else { word("flat x", 2, 1, "in"); word("K", row(0), 1, "ker"); }
      word("flat y", narrow ? 1 : 2, column(wide), "out end");
    } else {
      range(rows).forEach((u) => still("tap", u, "ker", row(u), 1));
      kept.forEach((window, i) => still("output", i, "out", row(rows), column(window.row)));
      word("w", 2, 1, "ker");
      word("columns", 2, 3, "in");
      word("y", row(rows), 1, "out");
    }
    const label = matrixView ? "Matrix K" : "Columns of windows", length = matrixView ? n[0] * n[1] : kept.length, count = matrixView ? kept.length * length : rows * length;
    // One listener for all entries: there may be hundreds.
    const near = (event) => {
      const [, i, other] = event.target.dataset.pick.split(" ").map(Number), index = matrixView ? i * length + other : other * length + i;
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, ArrowDown: index + length, ArrowUp: index - length, Home: 0, End: count - 1 }[event.key];
      if (to == null) return;
      event.preventDefault();
      const place = [Math.floor(to / length), to % length];
      if (to >= 0 && to < count) this.move("entry", ...(matrixView ? place : place.reverse()));
    };
    const grid = el("div", { role: "grid", "aria-label": label, class: `inner ${matrixView ? "ker" : "in"}`, onkeydown: near });
    const make = (window, other) => {
      const pick = `entry ${window.i} ${other}`, node = el("div", window.i === null ? { "aria-hidden": "true" } : { role: "gridcell", "data-pick": pick, "data-key": pick });
      return at(this.cell(node, "g", () => this.entry(this.model.every[window.row], other)), row(matrixView ? window.row : other), column(matrixView ? other : window.row));
    };
    if (matrixView) for (const window of every) grid.append(el("div", window.i === null ? { "aria-hidden": "true" } : { role: "row" }, ...range(wide).map((j) => make(window, j))));
    else for (const u of range(rows)) grid.append(el("div", { role: "row" }, ...every.map((window) => make(window, u))));
    sheet.append(grid);
    return el("div", { class: "scroll" }, sheet);
  }
  move(...where) {
    this.choose(...where);
    this.picture.querySelector(`[data-key="${where.join(" ")}"]`)?.focus({ preventScroll: true });
  }
  // On a narrow page the chosen column is scrolled into sight.
  reveal() {
    const scroll = this.picture.querySelector(".scroll"), { show, view, i, j, here } = this.now;
    if (!scroll || scroll.scrollWidth <= scroll.clientWidth) return;
    const row = here.map((one) => one.j), ends = view === "matrix" ? { output: [row.at(-1), row[0]], input: [j], entry: [j] }[show] : { output: [i], entry: [i], input: here.slice(0, 1).map((one) => one.i) }[show];
    for (const index of ends ?? []) {
      const cell = this.picture.querySelector(`[data-pick="${view === "matrix" ? `entry 0 ${index}` : `entry ${index} 0`}"]`);
      if (!cell) continue;
      const left = cell.getBoundingClientRect().left - scroll.getBoundingClientRect().left + scroll.scrollLeft, room = view === "matrix" ? 56 : 12;
      if (left < scroll.scrollLeft + 8) scroll.scrollLeft = left - 12;
      else if (left + cell.clientWidth > scroll.scrollLeft + scroll.clientWidth - room) scroll.scrollLeft = left + cell.clientWidth - scroll.clientWidth + room;
    }
  }

  // Names of places: two indices, or one where there is one axis.
  get line() { const { n, k, all } = this.model; return n[0] === 1 && k[0] === 1 && all[0] === 1; }
  name(letter, index) {
    const wide = { x: this.model.n, w: this.model.k, y: this.model.m }[letter][1];
    return this.line ? `${letter}[${index}]` : `${letter}[${Math.floor(index / wide)}, ${index % wide}]`;
  }
  span(letter, index) { return `<span class="${{ x: "i", w: "k", y: "o" }[letter]}">${this.name(letter, index)}</span>`; }
  terms(i) {
    const { windows, flat } = this.model;
    return sum(windows[i].filter(({ j }) => j !== null).map(({ u, j }) => product(flat.w[u], flat.x[j]))) + (windows[i].every(({ j }) => j === null) ? ", padding alone," : "");
  }
  say(model) {
    const { view, show, i, j, u, here, all } = this.now, { n, k, m, windows, kept, every, flat, K, state } = model, matrixView = view === "matrix";
    const many = (found, letter, key) => found.map((one) => this.span(letter, one[key])).join(", ");
    const value = model.y.flat()[i], count = kept.length, padded = state.padding.flat().some(Boolean);
    let about;
    if (show === "output") about = matrixView ? `${this.span("y", i)} is row ${i} of K times flat(x): ${this.terms(i)} = <b>${minus(value)}</b>.` : `${this.span("y", i)} is the kernel times column ${i}: ${this.terms(i)} = <b>${minus(value)}</b>.`;
    else if (show === "input") {
      const times = here.length === 1 ? "once" : here.length === 2 ? "twice" : `${here.length} times`;
      if (!here.length) about = `${this.span("x", j)} is read by no window: ${matrixView ? `column ${j} of K holds no weight` : "it stands nowhere in the columns"}.`;
      else about = matrixView ? `${this.span("x", j)} = ${minus(flat.x[j])} meets column ${j} of K, ${counted(here.length, "weight")}: ${many(here, "w", "u")}, for ${many(here, "y", "i")}.` : `${this.span("x", j)} = ${minus(flat.x[j])} stands <b>${times}</b> in the columns: beside ${many(here, "w", "u")}, for ${many(here, "y", "i")}.`;
    } else if (show === "tap") about = matrixView ? `${this.span("w", u)} = ${minus(flat.w[u])} stands in <b>${here.length}</b> of the ${counted(count, "row")} of K${here.length < count ? "; in the others it meets the padding" : ""}.` : `${this.span("w", u)} = ${minus(flat.w[u])} multiplies row ${u} of the columns: what it meets in each of ${counted(count, "window")}.`;
    else {
      const tap = matrixView ? here[0] : windows[i][u], entry = matrixView ? `K[${i}, ${j}]` : `columns[${u}, ${i}]`;
      if (!tap) about = `${entry} = <b>0</b>: no tap of the window of ${this.span("y", i)} meets ${this.span("x", j)}.`;
      else {
        const place = [0, 1].slice(this.line ? 1 : 0).map((a) => {
          const at = a ? i % m[1] : Math.floor(i / m[1]), of = a ? tap.u % k[1] : Math.floor(tap.u / k[1]), before = state.padding[a][0];
          const there = state.stride[a] * at + state.dilation[a] * of - before;
          return `${this.line ? "" : `${AXIS[a]} `}${state.stride[a]} · ${at} + ${state.dilation[a]} · ${of} − ${before} = ${minus(there)}`;
        }).join(", ");
        about = matrixView ? `${entry} = ${this.span("w", tap.u)} = <b>${minus(flat.w[tap.u])}</b>: in the window of ${this.span("y", i)} it meets ${this.span("x", j)}, as s · i + d · u − p = ${place}.`
          : `${entry} = ${tap.j === null ? "<b>0</b>, padding" : `${this.span("x", tap.j)} = <b>${minus(flat.x[tap.j])}</b>`}: ${this.span("w", tap.u)} in the window of ${this.span("y", i)} reads place s · i + d · u − p = ${place}.`;
      }
    }
    const inputs = n[0] * n[1], steps = state.stride.some((stride) => stride > 1), rows = kept.map(({ row }) => row);
    const words = this.line ? state.stride[1] : state.stride.join(", ");
    const stays = `Stride ${words} keeps ${matrixView ? "rows" : "columns"} ${rows.join(", ")} of ${every.length}`;
    if (!matrixView) {
      const zeros = count * windows[0].length - all.length;
      return `${about} ${counted(windows[0].length, "tap")} × ${counted(count, "window")} are <b>${count * windows[0].length}</b> numbers from ${counted(inputs, "pixel")}${zeros ? `, ${zeros} of them zeros of the padding` : ""}. ${steps ? `${stays}.` : ""}`;
    }
    const pattern = steps ? `${stays}, those of multiples of the stride.` : this.line ? "It is Toeplitz: constant along each diagonal." : "Each outlined block is constant along its diagonals, and the blocks along theirs: doubly blocked Toeplitz.";
    return `${about} K has ${counted(count, "row")} and ${counted(inputs, "column")}${padded ? ", none for the padding" : ""}; <b>${all.length}</b> of its ${K.length * inputs} entries are weights. ${pattern}`;
  }
  question({ y, flat }) {
    const { show, view, i, j, u, here } = this.now, matrixView = view === "matrix";
    if (show === "output") return { name: this.name("y", i), answer: y.flat()[i] };
    if (show === "input") return { name: matrixView ? `weights in column ${j} of K` : `how often ${this.name("x", j)} stands in the columns`, answer: here.length };
    if (show === "tap") return { name: matrixView ? `rows of K that hold ${this.name("w", u)}` : `pixels in row ${u} of the columns`, answer: here.length };
    return matrixView ? { name: `K[${i}, ${j}]`, answer: here.length ? flat.w[here[0].u] : 0 } : { name: `columns[${u}, ${i}]`, answer: here.length ? flat.x[here[0].j] : 0 };
  }
  result({ y, K, cols, state }) { return [y, state.view === "matrix" ? K : cols]; }

  numpy({ n, k, m, state: { x, w, stride, padding, dilation, view } }) {
    const array = (values) => `np.array(${JSON.stringify(values).replaceAll(",", ", ")})`, pair = (values) => `(${values.join(", ")})`;
    const head = (more = "") => `import numpy as np\n${more}\nx = ${array(x)}\nw = ${array(w)}\n`;
    if (view === "columns") return `${head("from numpy.lib.stride_tricks import sliding_window_view\n")}
padded = np.pad(x, (${pair(padding[0])}, ${pair(padding[1])}))
windows = sliding_window_view(padded, (${[0, 1].map((a) => dilation[a] * (k[a] - 1) + 1).join(", ")}))
windows = windows[::${stride[0]}, ::${stride[1]}, ::${dilation[0]}, ::${dilation[1]}]  # stride, dilation
columns = windows.transpose(2, 3, 0, 1).reshape(w.size, -1)
y = w.ravel() @ columns
print([y.reshape(${m.join(", ")}).tolist(), columns.tolist()])
`;
    if (this.line) return `${head("from scipy.linalg import toeplitz\n")}
stride, before, after, dilation = ${stride[1]}, ${padding[1].join(", ")}, ${dilation[1]}
row = np.zeros(before + x.size + after, dtype=int)  # the first window
row[: dilation * w.size : dilation] = w[0]
column = np.zeros(row.size - dilation * (w.size - 1), dtype=int)
column[0] = row[0]
K = toeplitz(column, row)[::stride, before : before + x.size]
y = K @ x.ravel()
print([[y.tolist()], K.tolist()])
`;
    return `${head()}
(n0, n1), (k0, k1), (m0, m1) = x.shape, w.shape, ${pair(m)}
(s0, s1), (d0, d1), (p0, p1) = ${pair(stride)}, ${pair(dilation)}, ${pair(padding.map(([before]) => before))}
K = np.zeros((m0 * m1, n0 * n1), dtype=int)
for i0, i1, u0, u1 in np.ndindex(m0, m1, k0, k1):
    j0, j1 = s0 * i0 + d0 * u0 - p0, s1 * i1 + d1 * u1 - p1
    if 0 <= j0 < n0 and 0 <= j1 < n1:  # the padding has no column
        K[i0 * m1 + i1, j0 * n1 + j1] = w[u0, u1]
y = (K @ x.ravel()).reshape(m0, m1)
print([y.tolist(), K.tolist()])
`;
  }
  torch({ n, k, m, state: { x, w, stride, padding, dilation, view } }) {
    const tensor = (values) => `torch.tensor([[${JSON.stringify(values).replaceAll(",", ", ")}]]).float()`, pair = (values) => `(${values.join(", ")})`;
    const sides = pair([...padding[1], ...padding[0]]), moves = `stride=${pair(stride)}, dilation=${pair(dilation)}`;
    const head = (call) => `import torch\nfrom torch.nn.functional import ${call}, pad\n\nx = ${tensor(x)}\nw = ${tensor(w)}\n`;
    if (view === "columns") return `${head("unfold")}
columns = unfold(pad(x, ${sides}), ${pair(k)}, ${moves})[0]
y = (w.flatten() @ columns).reshape(${m.join(", ")})
print([y.int().tolist(), columns.int().tolist()])
`;
    return `${head("conv2d")}
basis = torch.eye(x.numel()).reshape(-1, 1, ${n.join(", ")})  # one picture for each pixel
images = conv2d(pad(basis, ${sides}), w, ${moves})
K = images.flatten(1).T  # each picture's output is a column
y = (K @ x.flatten()).reshape(${m.join(", ")})
print([y.int().tolist(), K.int().tolist()])
`;
  }
  static css = `.l.in { color:var(--t-in) } .l.ker { color:var(--t-ker) } .l.out { color:var(--t-out) }
.layer { padding:.5rem 1rem .8rem; gap:.5rem .9rem; align-items:center } .sign { font-size:1.2rem; color:var(--muted); padding-top:1.2rem } .layer .g { width:var(--side); height:var(--side) }
.scroll { overflow-x:auto; padding:.6rem 0 .3rem 1rem } .sheet { display:grid; padding-right:.7rem; gap:2px; width:max-content; position:relative } .sheet .l { margin:0; align-self:center; white-space:nowrap }
.sheet .l { overflow:visible; min-width:0 } .inner, .inner>div { display:contents } .inner .g { contain:strict } .block { border:1px solid var(--rule); border-radius:7px; margin:-3px; pointer-events:none } .block.full { border:1.5px solid var(--muted) }
.sheet .g { border-radius:4px; cursor:pointer } .g.none { border-color:transparent; background:transparent } .g.none.line { background:var(--box) } .g.line { box-shadow:inset 0 0 0 1px var(--c) } .g.none.line { box-shadow:none }
.g.none.on { background:var(--box); border-color:var(--ink); box-shadow:0 0 0 1.5px var(--ink) } .sheet .gone { border:0; background:none; color:var(--muted); cursor:default; text-decoration:line-through } .g.long { font-size:9px }
.end, .back { position:sticky; right:.7rem; z-index:1 } .back { right:0; margin:-3px -.7rem -3px 1px; background:var(--page) } .sheet .g.end { width:auto; min-width:calc(var(--side) + 6px); padding:0 2px } .say { min-height:5.2em }
@container (max-width:30rem) { .layer { padding-inline:.7rem } .scroll { padding-left:.7rem } .layer { gap:.4rem } }`;
}
define("kv-matrices", Matrices);
