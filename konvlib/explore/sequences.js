// <kv-sequences>: one sequence slides along another; what meets is multiplied, and the products are added.
import { circular, convolve, modulo, part, reverse } from "./arithmetic.js";
import { choice, counted, define, el, Explorable, list, minus, numbers, product, Refusal, Sheet, sum, whole } from "./kit.js";

const POWERS = ["", "x", "x²", "x³", "x⁴", "x⁵", "x⁶", "x⁷", "x⁸", "x⁹", "x¹⁰", "x¹¹"];
const polynomial = (values) => {
  const terms = values.flatMap((value, power) => (value ? [[value, POWERS[power]]] : []));
  if (!terms.length) return "0";
  const one = ([value, power]) => (Math.abs(value) === 1 && power ? power : `${Math.abs(value)}${power}`);
  return terms.map((term, n) => `${n ? (term[0] < 0 ? " − " : " + ") : term[0] < 0 ? "−" : ""}${one(term)}`).join("");
};

class Sequences extends Explorable {
  static word = "sequences";
  static title = "Sliding one sequence along another";
  static fields = {
    f: numbers(0, 8), g: numbers(0, 4), kind: choice("convolution", "correlation", "circular"), mode: choice("full", "same", "valid"), P: whole(1, 11), at: whole(0, 99),
  };
  static start = { f: [1, 3, 2, 0, 4], g: [2, 1, -1], kind: "convolution", mode: "full", P: 5, at: 2 };
  static presets = {
    "The running example": {},
    Correlation: { kind: "correlation" },
    "Same length": { mode: "same" },
    "A circle of five": { kind: "circular" },
    "Two polynomials": { f: [1, 2, 3], g: [3, 2, 2] },
    "Moving average": { f: [2, 6, 4, 8, 0, 4, 6], g: [1, 1, 1], mode: "valid" },
  };
  static tasks = {
    difference: {
      text: "Choose a g of three entries whose convolution with f is y[n] = f[n] − f[n − 2] everywhere.",
      start: { g: [1, 1, 1] },
      why: "g[0] multiplies the present sample, g[2] the one two steps ago.",
      done: ({ state: { f, g, kind } }) => f.length >= 3 && kind === "convolution" && String(g) === "1,0,-1",
    },
    period: {
      text: "Five samples and three, on a circle: find the shortest period at which the circular result is the whole convolution.",
      start: { kind: "circular" },
      why: "The convolution has N + M − 1 = 7 entries; on a shorter circle its tail is added to its beginning.",
      done: ({ state: { f, g, kind, P } }) => kind === "circular" && f.length === 5 && g.length === 3 && P === 7,
    },
  };

  controls() {
    const circle = this.state.kind === "circular";
    return [this.sequence("f", "Sequence f", "in"), this.sequence("g", "Sequence g", "ker"), this.select("kind", "kind", { circular: "circular convolution" }), circle ? this.select("P", "period P") : this.select("mode", "mode")];
  }
  build() {
    super.build();
    // The kernel is dragged along: where it is, is where the pointer is.
    let dragged = null;
    this.picture.addEventListener("pointerdown", (event) => {
      if (!event.target.closest("[data-drag]") || !this.model) return;
      dragged = { x: event.clientX, at: this.at };
      this.picture.setPointerCapture(event.pointerId);
    });
    this.picture.addEventListener("pointermove", (event) => {
      if (dragged) this.go(dragged.at + Math.round((event.clientX - dragged.x) / this.pitch));
    });
    for (const end of ["pointerup", "pointercancel"]) this.picture.addEventListener(end, () => { dragged = null; });
  }
  controlled({ kind }) { return kind; }

  compute(state) {
    const { f, g, kind, mode, P } = state;
    for (const [name, values] of [["f", f], ["g", g]]) if (!values.length) throw new Refusal(`${name} must not be empty, got shape (0,)`);
    const N = f.length, M = g.length, correlation = kind === "correlation";
    const full = convolve(f, correlation ? reverse(g) : g);
    if (kind === "circular") return { state, N, M, full, y: circular(f, g, P), first: 0 };
    const { start, length } = part(N, M, mode, correlation);
    return { state, N, M, full, y: full.slice(start, start + length), first: correlation ? start - (M - 1) : start };
  }
  steps({ y }) { return y.length; }
  // Which entries of f and g meet for an output, as pairs of their places.
  meeting({ state: { f, g, kind, P }, first }, i) {
    const n = first + i;
    const pairs = f.flatMap((_, m) => g.map((_, u) => [m, u]));
    if (kind === "circular") return pairs.filter(([m, u]) => modulo(m + u, P) === n);
    return pairs.filter(([m, u]) => (kind === "correlation" ? m - u === n : m + u === n));
  }
  nameOf(i) { return `${this.state.kind === "correlation" ? "c" : "y"}[${minus(this.model.first + i)}]`; }

  draw(model) {
    const { state: { f, g, kind, P }, N, M, y, first, full } = model, circle = kind === "circular";
    const width = Math.max(280, this.clientWidth || 700), gut = width < 480 ? 10 : 62;
    const least = Math.min(1 - M, circle ? 0 : first), most = Math.max(N + M - 2, first + y.length - 1);
    const pitch = (this.pitch = Math.min(46, (width - 2 * gut) / (most - least + 1))), side = Math.min(36, pitch - 4), lift = side + 16;
    const left = (width - pitch * (most - least + 1)) / 2, x = (place) => left + (place - least + 0.5) * pitch;
    const n = first + this.at, pairs = this.meeting(model, this.at), rows = { f: 8 + side / 2 };
    rows.g = rows.f + side + 6;
    rows.product = rows.g + lift;
    rows.y = rows.product + side + 22;
    rows.wrap = rows.y + side + 8;
    const tail = circle && full.length > P, sheet = new Sheet(width, (tail ? rows.wrap : rows.y) + side / 2 + 10, "The sequences, their products, and the result");
    f.forEach((value, m) => sheet.cell(x(m), rows.f, side, value, `in ${pairs.some(([a]) => a === m) ? "on" : "dim"}`));
    // On a circle g is drawn where it stands in the first turn; what leaves it on the left comes in again.
    const stand = (u) => (kind === "correlation" ? n + u : n - u);
    g.forEach((value, u) => {
      const meets = pairs.filter(([, b]) => b === u).map(([m]) => m);
      const places = circle && meets.length ? meets : [stand(u)];
      for (const place of places) sheet.cell(x(place), rows.g, side, value, `ker ${meets.length ? "on" : "dim"}`, { "data-drag": "", style: "cursor:grab" });
    });
    pairs.forEach(([m, u]) => sheet.cell(x(m), rows.product, side, this.asking ? "?" : f[m] * g[u], "plain"));
    const between = [...new Set(pairs.map(([m]) => m))].sort((a, b) => a - b);
    between.slice(1).forEach((m) => sheet.name(x(m) - pitch / 2, rows.product, "+", "small"));
    sheet.line(left, rows.y - side / 2 - 11, left + pitch * (most - least + 1), rows.y - side / 2 - 11);
    const shown = el("g", { role: "listbox", "aria-label": "Entries of the result", "aria-orientation": "horizontal" });
    sheet.svg.append(shown);
    y.forEach((value, i) => {
      const hidden = this.asking && i >= this.at;
      const cell = sheet.cell(x(first + i), rows.y, side, hidden ? "?" : value, `out ${i === this.at ? "on" : i < this.at ? "" : "dim"}`, {
        role: "option", tabindex: i === this.at ? 0 : -1, "aria-selected": String(i === this.at), "aria-label": hidden ? `${this.nameOf(i)}, hidden` : `${this.nameOf(i)} = ${this.terms(i, " times ", " plus ")} = ${value}`, "data-key": `y${i}`,
      });
      shown.append(this.roving(cell, i, y.length, (to) => { this.go(to); this.picture.querySelector(`[data-key="y${to}"]`)?.focus(); }));
    });
    if (tail) full.slice(P).forEach((value, i) => sheet.cell(x(i % P), rows.wrap, side, this.asking ? "?" : value, "plain dim", { "aria-hidden": "true" }));
    if (gut > 40) {
      for (const [key, name] of [["f", "f"], ["g", kind === "correlation" ? "g" : "g, reversed"], ["product", "products"], ["y", kind === "correlation" ? "c" : "y"]]) sheet.name(14, rows[key], name);
      if (tail) sheet.name(14, rows.wrap, "its tail");
    }
    this.picture.replaceChildren(sheet.svg);
  }
  terms(i, times = null, plus = null) {
    const { f, g } = this.model.state;
    const pairs = this.meeting(this.model, i);
    if (times) return pairs.map(([m, u]) => `${f[m]}${times}${g[u]}`).join(plus) || "no products";
    return sum(pairs.map(([m, u]) => product(f[m], g[u])));
  }
  say(model) {
    const { state: { f, g, kind, mode, P }, N, M, y, full, first } = model, n = first + this.at;
    const formula = { convolution: `Σ f[m] · g[${minus(n)} − m]`, correlation: `Σ f[m${n < 0 ? ` − ${-n}` : n ? ` + ${n}` : ""}] · g[m]`, circular: `Σ f[m] · g[(${n} − m) mod ${P}]` }[kind];
    let more = `The <span class="o">result</span> is ${list(y)}, ${counted(y.length, "entry", "entries")}: `;
    if (kind === "circular") more += full.length > P ? `on a circle of ${P} the last ${counted(full.length - P, "entry", "entries")} of the convolution, ${list(full.slice(P))}, are added to its beginning.` : `a circle of ${P} is long enough, and nothing wraps.`;
    else more += { full: `N + M − 1 = ${N} + ${M} − 1.`, same: `as many as the longer sequence has.`, valid: `only where the shorter sequence lies wholly inside.` }[mode];
    if (kind === "convolution" && mode === "full") more += ` As polynomials: (${polynomial(f)})(${polynomial(g)}) = ${polynomial(y)}.`;
    return `<span class="o">${this.nameOf(this.at)}</span> = ${formula} = ${this.terms(this.at)} = <b>${minus(y[this.at])}</b>. ${more}`;
  }
  question({ y }) { return { name: this.nameOf(this.at), answer: y[this.at] }; }
  result({ y }) { return y; }

  numpy({ state: { f, g, kind, mode, P } }) {
    const head = `import numpy as np\n\nf, g = np.array(${JSON.stringify(f).replaceAll(",", ", ")}), np.array(${JSON.stringify(g).replaceAll(",", ", ")})\n`;
    if (kind !== "circular") return `${head}y = np.${kind === "correlation" ? "correlate" : "convolve"}(f, g, mode="${mode}")\nprint(y.tolist())\n`;
    return `${head}full = np.convolve(f, g)
y = np.zeros(${P}, dtype=int)
np.add.at(y, np.arange(len(full)) % ${P}, full)  # the tail is added to the beginning
print(y.tolist())
`;
  }
  torch({ state: { f, g, kind, mode, P }, M, y, first }) {
    const tensor = (values) => `torch.tensor([[[${values.map((value) => `${value}.`).join(", ")}]]])`;
    const start = kind === "correlation" ? first + M - 1 : first;
    const cut = mode === "full" || kind === "circular" ? "" : `[${start}:${start + y.length}]`;
    const lines = [`import torch`, `from torch.nn.functional import conv1d`, ``, `f, g = ${tensor(f)}, ${tensor(g)}`, `y = conv1d(f, g${kind === "correlation" ? "" : ".flip(-1)"}, padding=${M - 1})[0, 0]${cut}`];
    if (kind === "circular") lines.push(`y = torch.zeros(${P}).index_add(0, torch.arange(len(y)) % ${P}, y)`);
    return `${lines.join("\n")}\nprint(y.int().tolist())\n`;
  }
}
define("kv-sequences", Sequences);
