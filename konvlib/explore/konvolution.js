// <kv-konvolution>: a function at each tap: its coefficients, its curve, the expanded channels, the output of a picture.
import { BASES, basisValues, conv2d, expand, konv2d, konvTaps, padded, phi, range } from "./arithmetic.js";
import { choice, counted, define, el, Explorable, grid, minus, numbers, product, Refusal, renew, sum, table, whole } from "./kit.js";

const KERNELS = [[1, 1], [1, 3], [2, 2], [3, 3]];
const LETTERS = { chebyshev: "T", chebyshev2: "U", legendre: "P", hermite: "He" };
const NAMES = { monomial: "powers of t", chebyshev: "Chebyshev", chebyshev2: "Chebyshev, second kind", legendre: "Legendre", hermite: "Hermite" };
const AFTER = { basis: "after expanding", input: "before expanding" };
const LOW = "₀₁₂₃₄", HIGH = ["", "", "²", "³", "⁴"];
const polynomial = (basis, n) => (n === 0 ? "1" : basis === "monomial" ? `t${HIGH[n]}` : n === 1 && basis !== "chebyshev2" ? "t" : `${LETTERS[basis]}${LOW[n]}(t)`);
const formula = (basis, kappa) => sum(kappa.flatMap((k, n) => (k === 0 ? [] : n === 0 ? [minus(k)] : [`${k === 1 ? "" : k === -1 ? "−" : minus(k)}${polynomial(basis, n)}`])));
const column = (kappa, tap) => kappa.map((row) => row[tap]);
const limits = (least, values) => {
  // Powers of two, so that the picture stands still while a slider moves a little.
  const above = (value) => 2 ** Math.ceil(Math.log2(Math.max(least, value * 1.08)));
  const top = above(Math.max(...values)), bottom = above(-Math.min(...values));
  return [-Math.max(bottom, top / 4), Math.max(top, bottom / 4)];
};
const points = (from, to, count, at) => range(count + 1).map((n) => at(from + ((to - from) * n) / count));
const path = (places) => `M${places.map(([x, y]) => `${x.toFixed(1)},${Math.max(-1e4, Math.min(1e4, y)).toFixed(1)}`).join("L")}`;

class Konvolution extends Explorable {
  static word = "konvolution";
  static title = "A Konvolution: a function at each tap";
  static choosing = ["at", "tap"];
  static fields = {
    x: table([1, 4], [1, 5], -4, 4), kappa: table([1, 5], [1, 9]), kernel: numbers(2, 2, 1, 3), basis: choice(...BASES), padding: whole(0, 1), pad: choice("basis", "input"),
    tap: whole(0, 8), at: whole(0, 99),
  };
  static start = {
    x: [[1, 3, 2], [2, 0, 1], [0, 4, 2]], kappa: [[0, 1, 2, 0], [2, 1, 0, 3], [0, -1, 1, 0]], kernel: [2, 2], basis: "monomial", padding: 0, pad: "basis", tap: 1, at: 0,
  };
  static presets = {
    "The running example": {},
    "On one axis": { x: [[1, 3, 2, 0, 4]], kappa: [[0, -1, 3], [2, 1, -1], [-1, 1, 0]], kernel: [1, 3] },
    "A convolution": { kappa: [[0, 0, 0, 0], [2, 1, 0, 3]] },
    "Two borders": { basis: "chebyshev", padding: 1 },
    "A picture of zeros": { x: [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], kappa: [Array(9).fill(0), Array(9).fill(0), Array(9).fill(1)], kernel: [3, 3], basis: "chebyshev", padding: 1, tap: 4 },
    "Degree 0": { kappa: [[1, 2, 4, 8]], padding: 1 },
  };
  static tasks = {
    fourth: {
      text: "One tap, Hermite's basis: choose the coefficients so that φ(t) = t⁴ for every t, and each pixel becomes its fourth power.",
      start: { x: [[1, 3, 2], [2, 0, -1], [0, -3, 2]], kappa: [[0], [0], [0], [0], [1]], kernel: [1, 1], basis: "hermite", tap: 0 },
      why: "He₄(t) = t⁴ − 6t² + 3 and He₂(t) = t² − 1, so t⁴ = He₄(t) + 6He₂(t) + 3: both bases span the same functions.",
      done: ({ state: { basis, kappa, kernel } }) => basis === "hermite" && String(kernel) === "1,1" && range(9).every((n) => phi(basis, column(kappa, 0), n - 4) === (n - 4) ** 4),
    },
    border: {
      text: "Chebyshev's basis, padding 1: change constants only, until zeros before and after expanding give the same output everywhere.",
      start: { kappa: [[0, 1, 2, 0], [2, 1, 0, 3], [2, -1, 1, -3]], basis: "chebyshev", padding: 1, tap: 0 },
      why: "T₂(0) = −1, so φ(0) = κ₀ − κ₂: it is 0 at every tap when the constants equal the coefficients of T₂(t).",
      done: ({ state: { basis, kappa, padding, kernel }, differs }) => basis === "chebyshev" && padding === 1 && String(kernel) === "2,2" && String(kappa.slice(1)) === "2,1,0,3,2,-1,1,-3" && !differs.flat().some(Boolean),
    },
  };

  controls() {
    const { kappa, kernel, basis } = this.state, tap = this.tap(this.state);
    const degree = (by) => this.set({ kappa: by > 0 ? [...kappa, Array(kappa[0].length).fill(0)] : kappa.slice(0, -1) });
    const kernels = el("select", { "aria-label": "kernel", onchange: (event) => this.set({ kernel: event.target.value.split(" × ").map(Number) }) },
      ...[...KERNELS, kernel].filter((one, n, all) => all.findIndex((other) => String(other) === String(one)) === n).map((one) => el("option", { selected: String(one) === String(kernel) }, one.join(" × "))));
    const slider = (delta) => el("div", {}, el("span", { class: "l", "aria-hidden": "true" }, `κ${LOW[delta]} of ${polynomial(basis, delta)}: `, el("output", {})),
      el("input", { type: "range", min: -9, max: 9, "data-field": `kappa.${delta}.${tap}`, "aria-label": `coefficient of ${polynomial(basis, delta)}`, oninput: (event) => this.change(event.target) }));
    return [
      this.select("basis", "basis", NAMES), this.several("degree", ...this.stepper("degree", "", kappa.length - 1, kappa.length > 1, kappa.length < 5, degree)),
      el("div", {}, el("span", { class: "l", "aria-hidden": "true" }, "kernel"), kernels), this.select("padding", "padding"), this.select("pad", "zeros are put", AFTER),
      el("fieldset", { class: "sliders" }, el("legend", {}, `The function ${this.phi(tap)} of the chosen tap`), el("div", { class: "group" }, ...range(kappa.length).map(slider))),
    ];
  }
  tap({ tap, kappa }) { return Math.min(tap, kappa[0].length - 1); }
  // Taps keep their functions where the kernel grows or shrinks.
  set(part) {
    const { kernel: [rows, wide], kappa } = this.state, more = {};
    if (part.kernel && !part.kappa) more.kappa = kappa.map((row) => range(part.kernel[0]).flatMap((u) => range(part.kernel[1]).map((v) => (u < rows && v < wide ? row[u * wide + v] : 0))));
    super.set({ ...part, ...more });
  }
  controlled(state) { return [state.kernel, state.basis, this.tap(state)]; }
  build() {
    super.build();
    const look = (event) => {
      const key = event.target.closest?.("[data-key]")?.dataset.key;
      if (!key || !this.model || this.asking) return;
      const [, label, index] = key.match(/^(.*?) ?(\d+)$/), part = this.parts[label]?.(Number(index), event.type) ?? {};
      if (Object.entries(part).some(([name, value]) => value !== this.state[name])) { this.pause(); this.set(part); }
    };
    for (const type of ["pointerover", "focusin"]) this.picture.addEventListener(type, look);
  }

  compute(state) {
    const { x, kappa, kernel, basis, padding, pad } = state, count = kernel[0] * kernel[1];
    if (kappa[0].length !== count) throw new Refusal(`kappa must have ${counted(count, "column")}, one for each tap, got ${kappa[0].length}`);
    const [after, before] = ["basis", "input"].map((way) => konv2d(basis, x, kappa, kernel, padding, way)), degree = kappa.length - 1;
    const channels = pad === "input" ? expand(basis, padded(x, padding), degree) : expand(basis, x, degree).map((channel) => padded(channel, padding));
    const weights = kappa.map((row) => range(kernel[0]).map((u) => row.slice(u * kernel[1], (u + 1) * kernel[1])));
    const y = pad === "input" ? before : after, other = pad === "input" ? after : before, [once] = conv2d(channels, [weights]);
    return { state, y, other, both: { basis: after, input: before }, once, channels, weights, degree, padding, differs: after.map((row, i) => row.map((value, j) => before[i][j] - value)), m: [y.length, y[0].length] };
  }
  steps({ m }) { return m[0] * m[1]; }

  // Names: indices of an axis of one entry are left out.
  place([a, b], [rows, wide]) { return rows > 1 ? `[${a}, ${b}]` : wide > 1 ? `[${b}]` : ""; }
  phi(tap) {
    const { kernel } = this.state;
    return `φ${this.place([Math.floor(tap / kernel[1]), tap % kernel[1]], kernel)}`;
  }
  y(at, { m }) { return `y${this.place([Math.floor(at / m[1]), at % m[1]], m)}`; }
  terms({ state: { basis, x, kappa, kernel, padding, pad }, m }, at, way = pad) { return konvTaps(basis, x, kappa, kernel, padding, way, [Math.floor(at / m[1]), at % m[1]]); }
  // The basis and x's samples, and where curves are drawn.
  domain({ state: { x, padding } }) {
    const samples = [...new Set([...x.flat(), ...(padding ? [0] : [])])].sort((a, b) => a - b);
    return { samples, from: Math.min(-1, samples[0]) - 0.4, to: Math.max(1, samples.at(-1)) + 0.4 };
  }

  draw(model) {
    const { state, y, channels, weights, degree, padding, differs, m, both } = model, { x, kernel, basis, pad } = state;
    const tap = this.tap(state), at = this.at, terms = this.terms(model, at), seen = terms[tap], parts = (this.parts = {});
    const width = Math.max(280, this.clientWidth || 700) - (this.clientWidth < 480 ? 25 : 34);
    const [top, left] = terms[0].place, within = (u, axis) => u >= 0 && u < kernel[axis];
    const lit = (a, b) => (a - padding === seen.place[0] && b - padding === seen.place[1] ? "on" : within(a - padding - top, 0) && within(b - padding - left, 1) ? "fill" : "");
    // A sample is looked at with the output in which the chosen tap, or the nearest, shows it.
    const sample = (index) => {
      const wide = x[0].length + 2 * padding, place = [Math.floor(index / wide), index % wide];
      const [i, j] = place.map((a, axis) => Math.max(0, Math.min(m[axis] - 1, a - seen.u[axis])));
      return { at: i * m[1] + j };
    };
    const fitted = (values, least) => {
      const wide = 0.3 + 0.66 * Math.max(...values.flat().map((value) => String(value).length)), side = Math.max(least, Math.ceil(9 * wide) + 4);
      return { side, digits: Math.max(9, Math.min(15, least * 0.45, (side - 4) / wide)) };
    };
    const make = (name, title, given, least, look = "") => {
      const { side, digits } = fitted(given.values, least), node = grid(this, { ...given, label: name, side });
      node.style.setProperty("--digits", `${digits.toFixed(1)}px`);
      return el("div", {}, el("div", { class: `l ${look}` }, title), node);
    };
    const inside = (a, b) => a >= padding && b >= padding && a < padding + x.length && b < padding + x[0].length;
    const ring = (a, b) => (inside(a, b) ? "" : "padc");

    parts.x = parts.channel = sample;
    const input = make("x", "input x", {
      role: "in", values: padded(x, padding), field: (a, b) => (inside(a, b) ? `x.${a - padding}.${b - padding}` : null), look: (a, b) => `${ring(a, b)} ${lit(a, b)}`,
      say: (a, b) => (inside(a, b) ? `x${this.place([a - padding, b - padding], [x.length, x[0].length])}: ${minus(x[a - padding][b - padding])}` : "padding: 0"),
    }, 34, "i");
    const expanded = channels.map((channel, n) => {
      const most = Math.max(1, ...channel.flat().map(Math.abs)), name = `channel ${n}, `, title = polynomial(basis, n), weight = `coefficients of degree ${n}, tap `;
      parts[name.trim()] = sample;
      parts[weight.trim()] = (index, event) => (event === "focusin" ? { tap: index } : {});
      const shown = make(name.trim(), title, { role: "in", values: channel, look: (a, b) => `${ring(a, b)} ${{ on: "chosen", fill: "seen" }[lit(a, b)] ?? ""}`, say: (a, b) => `${title} in row ${a - padding}, column ${b - padding}: ${minus(channel[a][b])}` }, 27, "i");
      const flat = channel.flat();
      shown.querySelectorAll(".g").forEach((cell, index) => cell.setAttribute("style", `--heat:${Math.round((45 * Math.abs(flat[index])) / most)}%`));
      const times = make(weight.trim(), "⋆", { role: "ker", values: weights[n], field: (u, v) => `kappa.${n}.${u * kernel[1] + v}`, look: (u, v) => (u * kernel[1] + v === tap ? "on" : "fill"), say: (u, v) => `coefficient of ${title} in ${this.phi(u * kernel[1] + v)}: ${minus(weights[n][u][v])}` }, 27, "k");
      return el("div", { class: "channel" }, shown, times);
    });
    const output = (way) => {
      const name = `Output, zeros ${AFTER[way]}`, mine = way === pad;
      parts[name] = (index) => ({ at: index });
      const hidden = (i, j) => this.asking && i * m[1] + j === at, values = both[way];
      const node = make(name, padding ? `y, zeros ${AFTER[way]}` : "output y", {
        role: "out", values: values.map((row, i) => row.map((value, j) => (hidden(i, j) ? "?" : value))), chosen: at,
        pick: (to) => this.set({ at: to, pad: way }), look: (i, j) => `${mine ? (i * m[1] + j === at ? "on" : "fill") : i * m[1] + j === at ? "chosen" : ""} ${padding && differs[i][j] ? "differs" : ""}`,
        say: (i, j) => this.spoken(model, i * m[1] + j, way, hidden(i, j)),
      }, 36, "o");
      return node;
    };
    const taps = this.taps(model, tap, terms), room = width < 520 ? width : width - kernel[1] * 74 - 22;
    this.picture.className = "pic pad";
    const group = (sign, node) => el("div", { class: "with" }, el("div", { class: channels[0].length > 1 ? "sign" : "sign one", "aria-hidden": "true" }, sign), node);
    renew(this.picture,
      el("div", { class: "row" }, taps, this.curve(model, tap, seen, room)), el("div", { class: "rule gap" }),
      el("div", { class: "row parts" }, input, ...expanded.map((node, n) => group(n ? "+" : "→", node)), group("=", el("div", { class: "row parts" }, ...(padding ? ["basis", "input"] : [pad]).map(output)))));
  }

  // A tap is a small curve, and what it adds to the chosen output.
  taps(model, tap, terms) {
    const { state: { kernel, kappa, basis } } = model, { samples, from, to } = this.domain(model), wide = 68, high = 38;
    const choose = (index) => { this.set({ tap: index }); this.picture.querySelector(`[data-key="tap ${index}"]`)?.focus(); };
    const cell = (index) => {
      const mine = column(kappa, index), f = (t) => phi(basis, mine, t), [low, top] = limits(1, samples.map(f)), { t, value, source } = terms[index];
      const X = (s) => ((s - from) / (to - from)) * wide, Y = (v) => 2 + ((top - v) / (top - low)) * (high - 4), shown = source || this.state.pad === "input";
      const said = this.asking ? "?" : minus(value), words = shown ? `φ(${minus(t)}) = ${said}` : `padding: ${said}`;
      const node = el("div", {
        class: `g fn ${index === tap ? "on" : "fill"}`, role: "gridcell", tabindex: index === tap ? 0 : -1, "aria-selected": String(index === tap), "data-key": `tap ${index}`,
        "aria-label": `${this.phi(index)}(t) = ${formula(basis, mine)}, ${shown ? `at ${minus(t)}` : "in the padding"}: ${this.asking ? "hidden" : minus(value)}`,
      }, el("svg", { viewBox: `0 0 ${wide} ${high}`, "aria-hidden": "true" }, el("path", { class: "axis", d: `M0,${Y(0)}H${wide}` }), el("path", { class: "curve ker", d: path(points(from, to, 32, (s) => [X(s), Y(f(s))])) }),
        el("circle", { class: "dot out", cx: X(t), cy: Y(value), r: this.asking || !shown ? 0 : 3.4 })), el("span", {}, words.length > 13 ? said : words));
      return this.roving(node, index, kernel[0] * kernel[1], choose, kernel[1]);
    };
    return el("div", {}, el("div", { class: "l k" }, kappa[0].length > 1 ? "a function at each tap" : "the tap"), el("div", { class: "grid ker", role: "grid", "aria-label": "Taps", style: `grid-template-columns:repeat(${kernel[1]},auto)` },
      ...range(kernel[0]).map((u) => el("div", { role: "row" }, ...range(kernel[1]).map((v) => cell(u * kernel[1] + v))))));
  }

  // The curve of the chosen tap, with the samples of the picture on it; the basis faint behind.
  curve(model, tap, seen, room) {
    const { state: { kappa, basis }, degree } = model, { samples, from, to } = this.domain(model), mine = column(kappa, tap), f = (t) => phi(basis, mine, t), shown = seen.source || this.state.pad === "input";
    const wide = Math.max(240, room), high = Math.max(190, 70 * model.state.kernel[0] - 2), foot = 20, gut = 34, edge = 34, [low, top] = limits(2, samples.map(f));
    const X = (t) => gut + ((t - from) / (to - from)) * (wide - gut - edge), Y = (v) => 6 + ((top - v) / (top - low)) * (high - foot - 12);
    // Every polynomial at every point of the curve, once.
    const places = points(from, to, 80, (t) => ({ t, p: basisValues(basis, t, degree) }));
    const line = (g, look, more = {}) => el("path", { class: look, d: path(places.map(({ t, p }) => [X(t), Y(g(p))])), ...more });
    const text = (x, y, words, look = "small") => el("text", { x, y, class: look, "font-size": 12 }, words);
    // A polynomial of the basis is named where it leaves the picture: beside it, or inside at an edge.
    const ends = range(degree + 1).map((n) => {
      const g = (p) => p[n], inside = places.findLast(({ p }) => p[n] <= top && p[n] >= low) ?? places.at(-1), last = inside.t, beside = inside === places.at(-1);
      return { n, g, x: beside ? wide - 16 : X(last) - 12, y: Math.max(12, Math.min(high - foot - 12, Y(inside.p[n]))), beside };
    });
    const clash = ({ n, x, y }) => ends.some((other) => other.n < n && Math.abs(other.x - x) < 30 && Math.abs(other.y - y) < 14);
    for (const end of ends) for (const step = end.y > high / 2 ? -7 : 7; clash(end); ) end.y += step;
    return el("div", {}, el("div", { class: "l k" }, `${this.phi(tap)}(t) = ${formula(basis, mine)}`), el("svg", { viewBox: `0 0 ${wide} ${high}`, style: `width:${wide}px`, role: "img", "aria-label": `The curve of ${this.phi(tap)}(t) = ${formula(basis, mine)}, with the samples ${samples.map(minus).join(", ")} marked` },
      ...ends.map(({ g, n }) => line(g, "faint-line", { "stroke-dasharray": ["", "6 3", "3 3", "1.5 3", "8 3 2 3"][n] })),
      line((p) => p.reduce((total, value, n) => total + mine[n] * value, 0), "curve ker"), el("rect", { x: 0, y: high - foot, width: wide, height: foot, class: "ground" }), el("rect", { x: 0, y: 0, width: gut, height: high, class: "ground" }),
      el("path", { class: "axis strong", d: `M${gut},${Y(0)}H${wide - edge}` }), ...range(Math.floor(to) - Math.ceil(from) + 1).map((n) => text(X(Math.ceil(from) + n), high - foot / 2, minus(Math.ceil(from) + n))),
      ...[low, 0, top].map((v) => text(gut / 2, Math.max(8, Math.min(high - foot - 6, Y(v))), minus(v))), ...ends.map(({ n, x, y }) => text(x, y, polynomial(basis, n).replace("(t)", ""), "small halo")),
      ...samples.flatMap((t) => [el("path", { class: "stem", d: `M${X(t)},${Y(0)}V${Y(f(t))}` }), el("circle", { class: "dot in", cx: X(t), cy: Y(f(t)), r: 4 })]),
      el("circle", { class: "dot out", cx: X(seen.t), cy: Y(seen.value), r: this.asking || !shown ? 0 : 6.5 })));
  }

  spoken(model, at, way, hidden) {
    if (hidden) return `${this.y(at, model)}: hidden`;
    const i = Math.floor(at / model.m[1]), j = at % model.m[1];
    return `${this.y(at, model)}: ${minus(model.both[way][i][j])} = ${this.terms(model, at, way).map(({ value }) => minus(value)).join(" plus ")}${model.differs[i][j] ? `; the other padding gives ${minus(model.both[way === "basis" ? "input" : "basis"][i][j])}` : ""}`;
  }
  say(model) {
    const { state: { basis, kappa, pad, padding }, y, once, weights, differs, degree, m } = model, at = this.at, tap = this.tap(model.state), terms = this.terms(model, at), counts = terms.filter(({ source }) => source || pad === "input");
    const { t, value, source } = terms[tap], mine = column(kappa, tap), name = (one) => `φ${this.place(one.u, model.state.kernel)}`;
    const rest = terms.length - counts.length, outside = rest ? ` (${counted(rest, "tap")} in the padding ${rest === 1 ? "adds" : "add"} 0)` : "";
    const first = `<span class="o">${this.y(at, model)}</span> = ${terms.length <= 4 && counts.length ? `${counts.map((one) => `<span class="k">${name(one)}</span>(<span class="i">${minus(one.t)}</span>)`).join(" + ")} = ` : ""}${counts.length > 1 ? `${sum(counts.map((one) => minus(one.value)))} = ` : ""}<b>${minus(y[Math.floor(at / m[1])][at % m[1]])}</b>${outside}. `;
    const here = source || pad === "input" ? `Here <span class="k">${name(terms[tap])}</span>(<span class="i">${minus(t)}</span>) = ${sum(basisValues(basis, t, degree).map((p, n) => product(mine[n], p)))} = <b>${minus(value)}</b>. ` : "";
    const straight = kappa.length > 1 && kappa.every((row, n) => n === 1 || row.every((k) => k === 0)), factor = basis === "chebyshev2" ? 2 : 1;
    const what = straight ? `Degree 1 without a constant: <b>this is an ordinary convolution</b>, with the kernel <span class="k">[${weights[1].map((row) => `[${row.map((k) => minus(factor * k)).join(", ")}]`).join(", ")}]</span>. `
      : kappa.length === 1 ? "Degree 0 looks at no sample: it is a map of constants. "
      : String(once) === String(y) ? `One convolution of the ${counted(kappa.length, "channel")} gives the same output. ` : "";
    const many = differs.flat().filter(Boolean).length, zero = kappa[0].every((_, u) => phi(basis, column(kappa, u), 0) === 0);
    const border = !padding ? "" : many ? `Dashed: <b>${many}</b> of ${m[0] * m[1]} outputs, where zeros before expanding add φ(0) and zeros after it add 0.` : `Both kinds of padding agree${zero ? ": φ(0) = 0 at each tap" : " here"}.`;
    return first + here + what + border;
  }
  // Legendre's values are eighths at worst: asked for as whole numbers.
  question(model) {
    const value = model.y[Math.floor(this.at / model.m[1])][this.at % model.m[1]], by = Number.isInteger(value) ? 1 : 8;
    return { name: `${this.y(this.at, model)}${by > 1 ? " · 8" : ""}`, answer: by * value };
  }
  result({ y, other, channels }) { return [y, other, channels]; }

  numpy({ state: { x, basis, padding, pad }, weights, degree }) {
    const code = (values) => JSON.stringify(values).replaceAll(",", ", "), ways = ["after", "before"], all = `for n in range(${degree + 1})`;
    const [from, stack] = {
      monomial: ["", `np.stack([t**n ${all}])`],
      chebyshev: ["from scipy.special import eval_chebyt\n", `np.stack([eval_chebyt(n, t) ${all}])`], chebyshev2: ["from scipy.special import eval_chebyu\n", `np.stack([eval_chebyu(n, t) ${all}])`],
      legendre: ["from numpy.polynomial.legendre import legvander\n", `np.moveaxis(legvander(t, ${degree}), -1, 0)`], hermite: ["from scipy.special import eval_hermitenorm\n", `np.stack([eval_hermitenorm(n, t) ${all}])`],
    }[basis];
    return `import numpy as np
${from}
x = np.array(${code(x)})
kappa = np.array(${code(weights)})  # degree, row, column


def expanded(t):
    return ${stack}


def layer(channels):
    windows = np.lib.stride_tricks.sliding_window_view(channels, kappa.shape[1:], axis=(1, 2))
    return np.einsum("nijuv,nuv->ij", windows, kappa)


p = ${padding}
before = expanded(np.pad(x, p))  # zeros before expanding
after = np.pad(expanded(x), [(0, 0), (p, p), (p, p)])  # zeros after expanding
channels, others = ${pad === "input" ? "before, after" : "after, before"}
print([layer(channels).tolist(), layer(others).tolist(), channels.tolist()])
`;
  }
  torch({ state: { x, basis, padding, pad }, weights, degree }) {
    const floats = (values) => JSON.stringify(values).replaceAll(/\d+/g, "$&.").replaceAll(",", ", ");
    const name = { chebyshev: "chebyshev_polynomial_t", chebyshev2: "chebyshev_polynomial_u", legendre: "legendre_polynomial_p", hermite: "hermite_polynomial_he" }[basis];
    return `import torch
from torch.nn.functional import conv2d, pad
${name ? `from torch.special import ${name}\n` : ""}
x = torch.tensor(${floats(x)})
kappa = torch.tensor(${floats(weights)})  # degree, row, column


def expanded(t):
    return torch.stack([${name ? `${name}(t, n)` : "t**n"} for n in range(${degree + 1})])


p = (${Array(4).fill(padding).join(", ")})
before = expanded(pad(x, p))  # zeros before expanding
after = pad(expanded(x), p)  # zeros after expanding
channels, others = ${pad === "input" ? "before, after" : "after, before"}
y, other = (conv2d(one[None], kappa[None])[0, 0] for one in (channels, others))
print([y.tolist(), other.tolist(), channels.tolist()])
`;
  }
  static css = `.sliders { flex-basis:100% } .sliders input { width:7.2rem } .l.i { color:var(--t-in) } .l.k { color:var(--t-ker) } .l.o { color:var(--t-out) }
.fn { width:72px; height:68px; padding:2px; font-size:10.5px; align-content:space-between } .fn svg { width:66px }
.faint-line { fill:none; stroke:var(--muted); stroke-width:1.2; opacity:.55 } .ground { fill:var(--page) } .axis { fill:none } .axis.strong { stroke:var(--muted) } .stem { stroke:var(--in); stroke-width:1.3 }
svg text.halo { paint-order:stroke; stroke:var(--page); stroke-width:4px }
.row.parts .g { height:min(var(--side),36px) } .gap { margin:.7rem 0 } .row.parts { gap:.7rem .6rem } .with { display:flex; gap:.5rem } .sign { color:var(--muted); padding-top:3rem; width:.7rem; text-align:center } .sign.one { padding-top:1.5rem } .channel { display:grid; gap:.15rem; justify-items:center } .channel .l { text-align:center; margin:0 0 .15rem } .channel .l.k { font-size:1.2rem; line-height:1; margin:0 }
.channel .in .g { background:color-mix(in srgb,var(--in) var(--heat,0%),var(--page)); border-color:color-mix(in srgb,var(--in) 40%,var(--page)) } .channel .in .padc { border-color:var(--pad) }
.g.seen { box-shadow:0 0 0 1px var(--c); font-weight:600 } .g.chosen, .channel .in .g.chosen { box-shadow:0 0 0 2px var(--c); font-weight:700 } .g.differs { border:1.8px dashed var(--t-out) }
@container (max-width:30rem) { .channel { display:flex; flex-wrap:wrap; align-items:center; gap:.5rem } .with>:last-child { min-width:0 } .channel>:last-child { display:flex; gap:.5rem; align-items:center } }`;
}
define("kv-konvolution", Konvolution);
