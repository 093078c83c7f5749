// <kv-transposes>: a layer reads along its connections, its transpose sends numbers back along the same.
import { convTranspose, layer1d, range } from "./arithmetic.js";
import { choice, counted, define, el, Explorable, grid, minus, numbers, product, Sheet, sum, table, whole } from "./kit.js";

const HEAT = 6;
const ones = (rows, columns) => range(rows).map(() => Array(columns).fill(1));
const within = (index, size) => index >= 0 && index < size;
const literal = (values) => JSON.stringify(values).replaceAll(",", ", ");
const words = (values) => [values.slice(0, -1).join(", "), values.at(-1)].filter((part) => part !== "").join(" and ");
const listed = (parts) => `${parts.slice(0, 6).join(", ")}${parts.length > 6 ? ", …" : ""}`;
const distinct = (values) => [...new Set(values)].sort((a, b) => a - b);

class Transposes extends Explorable {
  static word = "transposes";
  static title = "A layer and its transpose: the same connections, both ways";
  static fields = {
    view: choice("line", "image"), y: numbers(1, 6), w: numbers(1, 5), x: numbers(1, 12), image: table([1, 4], [1, 4]), kernel: table([1, 4], [1, 4]),
    s: whole(1, 4), d: whole(1, 3), p0: whole(0, 4), p1: whole(0, 4), rho: whole(0, 3), of: choice("place", "sample", "tap"), at: whole(0, 999),
  };
  static start = {
    view: "line", y: [1, 3], w: [2, 1, -1], x: [1, 3, 2, 0, 4], image: [[1, 3], [2, 0]], kernel: [[2, 1], [0, 3]], s: 2, d: 1, p0: 0, p1: 0, rho: 0, of: "place", at: 2,
  };
  static presets = {
    "Chapter 4": {},
    "Padding cuts off": { y: [1, 3, 2], p0: 1, p1: 1, at: 0 },
    "Output padding": { y: [1, 3, 2], p0: 1, p1: 1, rho: 1, at: 6 },
    "Uneven overlap": { y: [1, 1, 1, 1], w: [1, 1, 1], at: 4 },
    "Stride divides kernel": { y: [1, 1, 1, 1], w: [1, 1, 1, 1], at: 4 },
    Dilation: { y: [1, 1, 1, 1], w: [1, 1, 1], d: 2, at: 4 },
    "Two axes": { view: "image", s: 1, at: 4 },
    Checkerboard: { view: "image", image: ones(4, 4), kernel: ones(3, 3), at: 40 },
    "No checkerboard": { view: "image", image: ones(4, 4), kernel: ones(4, 4), at: 44 },
  };
  static tasks = {
    back: {
      text: "A layer with three taps, stride 2 and the same padding on both sides made three outputs of six inputs. Set padding and output padding so that its transpose brings three samples back to six places.",
      start: { y: [1, 3, 2], at: 0 },
      why: "With padding 1 the seven places lose one at each end; output padding 1 leaves the last, which a tap reaches: it pads nothing.",
      done: ({ state: { view, w, s, d, p0, p1 }, m, n }) => view === "line" && w.length === 3 && s === 2 && d === 1 && p0 === p1 && m[1] === 3 && n[1] === 6,
    },
    flat: {
      text: "Three taps with stride 2 overlap unevenly. Change only the weights, none of them 0, so that the constant y nevertheless comes out constant at the places 2 to 6.",
      start: { y: [1, 1, 1, 1], w: [1, 1, 1], at: 4 },
      why: "Even places get w[0] + w[2], odd ones w[1]; the two must be equal. The counts stay uneven: they are only half of the story.",
      done: ({ state: { view, y, w, s, d, p0, p1, rho }, full }) => view === "line" && y.length === 4 && y.every((value) => value && value === y[0]) && w.length === 3 && !w.includes(0)
        && s === 2 && d === 1 && p0 + p1 + rho === 0 && full[0].slice(2, 7).every((value) => value === full[0][2]),
    },
  };
  static css = `.whose>legend { font-weight:650; color:var(--ink) } .whose .group { align-items:end }
${range(HEAT + 1).map((n) => `.cell.heat${n} rect, .g.heat${n} { fill:color-mix(in srgb,var(--in) ${9 * n}%,var(--page)); background:color-mix(in srgb,var(--in) ${9 * n}%,var(--page)) }`).join("\n")}
.g.cut { border-style:dashed; border-color:var(--pad); color:var(--muted) } .g.cut.on { background:var(--box) } .g[class*=heat] { border-color:color-mix(in srgb,var(--in) 35%,var(--page)) } .g.on[class*=heat] { border-color:var(--ink); box-shadow:0 0 0 1.5px var(--ink) }
.cut-line { stroke:var(--ink); stroke-width:1.4; stroke-dasharray:2 3 } .block { display:flex; flex-direction:column; gap:.7rem 1.4rem } @container (max-width:30rem) { .block { flex-direction:row } }`;

  controls() {
    const line = this.state.view === "line", whose = (label, ...nodes) => el("fieldset", { class: "whose" }, el("legend", {}, label), this.group(...nodes));
    const shared = [this.select("s", "stride s"), this.select("d", "dilation d"), this.select("p0", "padding before p"), this.select("p1", "padding after p′")];
    return [
      this.select("view", "axes", { line: "one", image: "two" }),
      whose("The layer’s, whose transpose this is", line ? this.sequence("w", "kernel w", "ker") : this.size("kernel", "kernel w"), ...shared),
      whose("The transpose’s own", line ? this.sequence("y", "its input y", "out") : this.size("image", "its input y"), this.select("rho", "output padding ρ")),
      line ? whose("The layer’s own", this.sequence("x", "its input x, repeated to n", "in")) : null,
    ].filter(Boolean);
  }
  // How large a square array is; its numbers are edited in the picture.
  size(name, label) {
    const values = this.state[name], { rows: [least, most] } = this.constructor.fields[name], [rows, columns] = [values.length, values[0].length];
    const to = (by) => this.set({ [name]: range(rows + by).map((r) => range(columns + by).map((c) => values[r]?.[c] ?? 1)) });
    const button = (text, more, off, act) => el("button", { type: "button", "aria-label": `${label}: ${more}`, disabled: off, onclick: act }, text);
    return el("fieldset", {}, el("legend", {}, label), el("div", { class: "cells" }, el("span", {}, `${rows} × ${columns} `),
      button("−", "one row and column less", Math.min(rows, columns) <= least, () => to(-1)), button("+", "one row and column more", Math.max(rows, columns) >= most, () => to(1)),
      el("button", { type: "button", style: "width:auto;padding:0 .65rem", "aria-label": `${label}: all 1`, onclick: () => this.set({ [name]: ones(rows, columns) }) }, "all 1")));
  }
  build() {
    super.build();
    // What is under the pointer, or edited, is chosen; numbers that are still being typed are left alone. A pointer that
    // rests chooses nothing when the picture changes under it.
    let rest = "";
    const touch = ({ target, type, clientX, clientY }) => {
      if (type === "pointermove" && rest === (rest = `${clientX} ${clientY}`)) return;
      const [, of, index] = target.closest("[data-key]")?.dataset.key.match(/^(place|sample|tap)\D* (\d+)$/) ?? [];
      const active = this.shadowRoot.activeElement;
      if (of && this.model && !(type !== "focusin" && active?.matches(".pic input") && active.value !== active.defaultValue)) this.choose(of, Number(index));
    };
    for (const type of ["pointermove", "click"]) this.picture.addEventListener(type, touch);
    this.picture.addEventListener("focusin", (event) => { if (event.target.matches("input")) touch(event); });
  }
  controlled({ view }) { return view; }
  choose(of, at) { if (of !== this.state.of || at !== this.at) this.set({ of, at }); }

  // On one axis the arrays have one row, and rows are neither strided nor padded.
  compute(state) {
    const { s, d, p0, p1, rho } = state, line = state.view === "line", both = (value, rows) => [line ? rows : value, value];
    const image = line ? [state.y] : state.image, kernel = line ? [state.w] : state.kernel;
    const layer = { stride: both(s, 1), dilation: both(d, 1), before: both(p0, 0), after: both(p1, 0) }, extra = both(rho, 0);
    const { y: [back], counts } = convTranspose([image], [[kernel]], layer, extra);
    const { y: [full] } = convTranspose([image], [[kernel]], { ...layer, before: [0, 0], after: [0, 0] }, extra);
    const m = [image.length, image[0].length], k = [kernel.length, kernel[0].length], n = [back.length, back[0].length], T = [full.length, full[0].length];
    const x = range(n[1]).map((j) => state.x[j % state.x.length]);
    const read = line ? layer1d(x, state.w, { stride: s, dilation: d, before: p0, after: p1 }) : null;
    const links = range(m[0] * m[1]).flatMap((i) => range(k[0] * k[1]).map((u) => {
      const [row, column] = [[Math.floor(i / m[1]), Math.floor(u / k[1])], [i % m[1], u % k[1]]].map(([at, tap], a) => layer.stride[a] * at + layer.dilation[a] * tap);
      return { sample: i, tap: u, place: row * T[1] + column };
    }));
    // All places that taps reach: the index in the transpose's output, whether it is kept, how many taps reach it, and which.
    const sites = range(T[0] * T[1]).map((place) => {
      const index = [Math.floor(place / T[1]), place % T[1]].map((at, a) => at - layer.before[a]), kept = index.every((at, a) => within(at, n[a]));
      return { kept, name: `[${(line ? index.slice(1) : index).map(minus).join(", ")}]`, count: kept ? counts[index[0]][index[1]] : "cut off", arriving: [] };
    });
    links.forEach((link) => sites[link.place].arriving.push(link));
    return { state, line, layer, image, kernel, back, counts, full, m, k, n, T, x, read, links, sites, values: { sample: image.flat(), tap: kernel.flat(), place: full.flat() } };
  }
  steps({ values }) { return values[this.state.of].length; }

  linked({ links }) { return links.filter((link) => link[this.state.of] === this.at); }
  // What is chosen with all that it touches, as a question: of a kind and an index.
  touching(on) {
    const found = Object.fromEntries(["place", "sample", "tap"].map((kind) => [kind, new Set(on.map((link) => link[kind]))]));
    found[this.state.of].add(this.at);
    return (kind, at) => found[kind].has(at);
  }
  nameOf(model, of, at) {
    if (of === "place") return model.sites[at].name;
    const wide = (of === "tap" ? model.k : model.m)[1];
    return `[${model.line ? at : `${Math.floor(at / wide)}, ${at % wide}`}]`;
  }
  // What a cell says to those who do not see it.
  told(model, of, at) {
    const { state, values, sites } = model, name = this.nameOf(model, of, at);
    if (of === "tap") return `w${name} = ${values.tap[at]}`;
    if (of === "sample") return `y${name} = ${values.sample[at]}`;
    const { kept, count, arriving } = sites[at], head = kept ? `x̂${name}` : `place ${name}, cut off`;
    if (this.asking && state.of === "place" && at === this.at) return `${head}, hidden`;
    const terms = arriving.map(({ sample, tap }) => `${values.sample[sample]} times ${values.tap[tap]}`);
    return `${head} = ${terms.join(" plus ") || "no tap"} = ${values.place[at]}${kept ? `, overlap count ${count}` : ""}`;
  }
  hides(of, at) { return this.asking && this.state.of === of && at === this.at; }
  heat(value, low, high) { return `heat${high > low ? Math.round((HEAT * (value - low)) / (high - low)) : HEAT / 2}`; }

  draw(model) {
    this.picture.className = model.line ? "pic" : "pic pad";
    this.picture.replaceChildren(...(model.line ? this.ribbons(model) : this.grids(model)));
  }
  ribbons(model) {
    const { state: { s, d, p0, p1, rho, of }, values, k: [, k], m: [, m], n: [, n], T: [, T], read, x: input, links, counts } = model;
    const room = Math.max(300, this.clientWidth || 700), narrow = room < 480, gut = narrow ? 24 : 96, least = 27 * T + 2 * gut;
    const width = Math.max(room - 2, least), pitch = Math.min(46, (width - 2 * gut) / T), side = Math.min(34, pitch - 3), half = side / 2, gap = 80;
    const left = (width - pitch * T) / 2, X = (place) => left + (place + 0.5) * pitch, middle = (i) => X(s * i + (d * (k - 1)) / 2);
    const rows = { x: 24 + half };
    rows.read = rows.x + gap;
    rows.w = rows.read + side + 14;
    rows.y = rows.w + side + 14;
    rows.back = rows.y + gap;
    rows.counts = rows.back + side + 12;
    const sheet = new Sheet(width, rows.counts + half + (rho ? 20 : 8), "The layer above, its transpose below, the kernel of both between them");
    if (least > room - 2) sheet.svg.style.minWidth = `${least}px`;
    const on = this.linked(model), touched = this.touching(on);
    const lit = (kind, at, rest = "") => (touched(kind, at) ? "on" : rest);
    // A ribbon, and its tap near the row where the chosen ones lie apart.
    const [along, down] = of === "place" ? [0.844, 0.703] : [0.156, 0.297];
    const ribbon = (place, long, i, short, value, chosen) => {
      const from = X(place), to = middle(i);
      sheet.ribbon(from, long, to, short, value);
      if (!chosen) return;
      sheet.ribbons.lastChild.classList.add("on");
      sheet.pill(from + along * (to - from), long + down * (short - long), value);
    };
    read.forEach((_, i) => range(k).forEach((u) => ribbon(s * i + d * u, rows.x + half, i, rows.read - half, values.tap[u], on.some((link) => link.sample === i && link.tap === u))));
    links.forEach((link) => ribbon(link.place, rows.back - half, link.sample, rows.y + half, values.tap[link.tap], on.includes(link)));
    const reached = new Set(read.flatMap((_, i) => range(k).map((u) => s * i + d * u)));
    range(T).forEach((place) => {
      const j = place - p0, inside = within(j, n);
      sheet.cell(X(place), rows.x, side, inside ? input[j] : 0, `${inside ? "in" : "padc"} ${lit("place", place, inside ? "" : "dim")}`, { "data-key": `place of x ${place}` });
      if (inside && !reached.has(place)) sheet.marks.append(el("line", { class: "slash", x1: X(place) - half + 3, y1: rows.x + half - 3, x2: X(place) + half - 3, y2: rows.x - half + 3 }));
    });
    read.forEach((value, i) => sheet.cell(middle(i), rows.read, side, this.hides("sample", i) ? "?" : value, `out ${lit("sample", i)}`, i < m ? { "data-key": `sample read ${i}` } : {}));
    const centre = (Math.min(width, room) - pitch * k) / 2;
    const choices = (kind, label, y, at, look, shown = (value) => value) => {
      const box = el("g", { role: "listbox", "aria-label": label, "aria-orientation": "horizontal" });
      values[kind].forEach((value, index) => {
        const chosen = of === kind && index === this.at;
        const cell = sheet.cell(at(index), y, side, shown(value, index), look(index), {
          role: "option", tabindex: chosen || (of !== kind && !index) ? 0 : -1, "aria-selected": String(chosen), "aria-label": this.told(model, kind, index), "data-key": `${kind} ${index}`,
        });
        box.append(this.roving(cell, index, values[kind].length, (to) => { this.choose(kind, to); this.picture.querySelector(`[data-key="${kind} ${to}"]`)?.focus(); }));
      });
      sheet.svg.append(box);
    };
    choices("tap", "Taps of the kernel", rows.w, (u) => centre + (u + 0.5) * pitch, (u) => `ker ${lit("tap", u)}`);
    choices("sample", "Samples that the transpose sends", rows.y, middle, (i) => `out ${lit("sample", i)}`);
    choices("place", "Places of the transpose's output", rows.back, X, (place) => (within(place - p0, n) ? `in ${lit("place", place)}` : `padc ${lit("place", place, "dim")}`), (value, place) => (this.hides("place", place) ? "?" : value));
    const most = Math.max(...counts[0]);
    counts[0].forEach((value, j) => sheet.cell(X(j + p0), rows.counts, Math.min(side, 26), this.hides("place", j + p0) ? "?" : value, `in ${this.hides("place", j + p0) ? "" : this.heat(value, 0, most)} ${of === "place" && j + p0 === this.at ? "on" : ""}`, { "data-key": `place counted ${j + p0}` }));
    for (const [first, length] of [[0, p0], [p0 + n, p1]]) {
      if (!length) continue;
      const at = X(first) + ((length - 1) * pitch) / 2, edge = first ? X(first) - pitch / 2 : X(p0) - pitch / 2;
      sheet.name(at, 11, narrow && length < 2 ? "+ 0" : "added", "small");
      sheet.name(at, rows.counts, narrow && length < 2 ? "cut" : "cut off", "small");
      sheet.marks.append(el("line", { class: "cut-line", x1: edge, x2: edge, y1: rows.back - half - 8, y2: rows.counts + half }));
    }
    if (rho) for (const y of [11, rows.counts + half + 9]) sheet.name(X(p0 + n - rho) + ((rho - 1) * pitch) / 2, y, rho > 1 ? `ρ = ${rho}` : "ρ", "small");
    const names = narrow ? ["x", "y", "w", "y", "x̂", "μ"] : ["x, read", "y, collected", "w, of both", "y, sent back", "x̂, made", "μ, counts"];
    Object.values(rows).forEach((y, n) => sheet.name(narrow ? 8 : 16, y, names[n]));
    return [sheet.svg];
  }
  grids(model) {
    const { state: { of }, image, kernel, sites, full, counts, back, T, m, k } = model, flat = back.flat(), touched = this.touching(this.linked(model));
    const room = (this.clientWidth || 700) - 40, longest = Math.max(...full.flat().map((value) => String(value).length));
    const columns = room < 480 ? T[1] : 2 * T[1] + Math.max(m[1], k[1]) + 2, side = Math.max(24, 6 * longest + 4, Math.min(34, Math.floor(room / columns) - 3));
    const titled = (text, colour, node) => el("div", {}, el("div", { class: "l", style: `color:var(--t-${colour})` }, text), node);
    const edited = (kind, name, label, values, role) => grid(this, {
      label: kind, role, values, side: Math.max(28, side), field: name, look: (r, c) => `fill ${touched(kind, r * values[0].length + c) ? "on" : ""}`, say: (r, c) => `${label}, row ${r}, column ${c}`,
    });
    const [low, high, most] = [Math.min(...flat), Math.max(...flat), Math.max(...counts.flat())], at = (r, c) => r * T[1] + c;
    const look = (r, c, value, from, to) => `${!sites[at(r, c)].kept ? "cut" : this.hides("place", at(r, c)) ? "" : this.heat(value, from, to)} ${touched("place", at(r, c)) ? "on" : ""}`;
    const output = grid(this, {
      label: "place", role: "in", side, chosen: of === "place" ? this.at : null, pick: (place) => this.choose("place", place), say: (r, c) => this.told(model, "place", at(r, c)),
      values: full.map((row, r) => row.map((value, c) => (this.hides("place", at(r, c)) ? "?" : value))),
      look: (r, c) => look(r, c, full[r][c], low, high),
    });
    output.setAttribute("aria-label", "The transpose's output x̂, with what is cut off");
    if (of !== "place") output.querySelector("[role=gridcell]").tabIndex = 0;
    const heat = grid(this, {
      label: "place counted", role: "in", side, say: (r, c) => `overlap count of ${this.nameOf(model, "place", at(r, c))}: ${this.hides("place", at(r, c)) ? "hidden" : sites[at(r, c)].count}`,
      values: full.map((row, r) => row.map((_, c) => (!sites[at(r, c)].kept ? "" : this.hides("place", at(r, c)) ? "?" : sites[at(r, c)].count))), look: (r, c) => look(r, c, sites[at(r, c)].count, 0, most),
    });
    heat.setAttribute("aria-label", "Overlap counts");
    return [el("div", { class: "row" },
      el("div", { class: "block" }, titled("input y", "out", edited("sample", "image", "input y", image, "out")), titled("kernel w", "ker", edited("tap", "kernel", "kernel w", kernel, "ker"))),
      titled("output x̂, shaded by value", "in", output), titled("overlap counts μ", "in", heat))];
  }

  // Places that all taps of their phase reach: there the counts say whether there is a checkerboard.
  inside(model) {
    const { layer, m, k, T } = model, span = [0, 1].map((a) => [layer.dilation[a] * (k[a] - 1), layer.stride[a] * (m[a] - 1)]);
    if (span.some(([from, to], a) => to - from + 1 < layer.stride[a])) return [];
    return range(T[0] * T[1]).filter((place) => [Math.floor(place / T[1]), place % T[1]].every((at, a) => at >= span[a][0] && at <= span[a][1]) && model.sites[place].kept);
  }
  say(model) {
    const { state: { s, d, p0, p1, rho, of }, line, m, k, n, values, read, x } = model, at = this.at, on = this.linked(model), name = this.nameOf(model, of, at);
    const last = [1, 0].filter((a) => a === 1 || (!line && (m[0] !== m[1] || k[0] !== k[1]))).reverse();
    const small = (a) => (line ? "" : last.length > 1 ? "₀₁"[a] : "₀ = n₁");
    const sizes = last.map((a) => `n${small(a)} = s(m − 1) + d(k − 1) + 1 − p − p′ + ρ = ${s} · ${m[a] - 1} + ${d} · ${k[a] - 1} + 1 − ${p0} − ${p1} + ${rho} = <b>${n[a]}</b>`);
    let first;
    if (of === "place") {
      const { kept } = model.sites[at], terms = on.map(({ sample, tap }) => product(values.sample[sample], values.tap[tap]));
      const letters = on.length > 4 ? `Σ <span class="o">y[i]</span> <span class="k">w[u]</span>` : on.map(({ sample, tap }) => `<span class="o">y${this.nameOf(model, "sample", sample)}</span> <span class="k">w${this.nameOf(model, "tap", tap)}</span>`).join(" + ");
      const total = `<b>${minus(values.place[at])}</b>`, sums = on.length ? `${letters} = ${sum(terms)} = ${total}` : total;
      if (!kept) first = `Place ${name} is cut off by the padding, where ${line ? "the layer reads a zero" : "the layer would read a zero"}: ${on.length ? sums : "no tap reaches it"}.`;
      else first = `<span class="i">x̂${name}</span> = ${sums}: ${on.length ? `μ${name} = ${counted(on.length, "tap")} ${on.length === 1 ? "reaches" : "reach"} it, along the connections on which the layer reads <span class="i">x${name}</span>` : `no tap reaches it, and no output of the layer reads <span class="i">x${name}</span>`}.`;
    } else if (of === "sample") {
      const sent = on.map(({ tap, place }) => `${minus(values.sample[at] * values.tap[tap])} to x̂${this.nameOf(model, "place", place)}${model.sites[place].kept ? "" : " (cut off)"}`);
      const gathers = line ? `The layer collects <span class="o">y${name}</span> = ${sum(on.map(({ tap, place }) => product(x[place - p0] ?? 0, values.tap[tap])))} = <b>${minus(read[at])}</b>. Its` : "The";
      first = `${gathers} transpose sends <span class="o">y${name}</span> = ${minus(values.sample[at])}, times the kernel: ${listed(sent)}.`;
    } else {
      const sent = on.map(({ sample, place }) => `y${this.nameOf(model, "sample", sample)} → x̂${this.nameOf(model, "place", place)}`);
      first = `Tap <span class="k">w${name}</span> = ${minus(values.tap[at])} joins <span class="o">y[i]</span> with <span class="i">x̂[s i + d u − p]</span>: ${listed(sent)}. The layer reads the same places with it.`;
    }
    const least = n[1] - rho, shared = range(s).map((more) => least + more).filter((size) => size > 0);
    let more = "";
    if (line && rho >= s) more = ` No layer with ${counted(m[1], "output")} has ${n[1]} inputs: ρ is below the dilation, not below the stride.`;
    else if (line && s > 1) more = ` The layer makes ${counted(m[1], "output")} of ${words(shared).replace("and", "or")} inputs; ρ = ${rho} says that ${n[1]} ${n[1] === 1 ? "is" : "are"} meant.`;
    return `${first}<br>${sizes.join("; ")}.${more}${this.pattern(model)}`;
  }
  pattern(model) {
    const inside = this.inside(model), { line, values } = model;
    if (!inside.length) return "";
    const counts = distinct(inside.map((place) => model.sites[place].count)), made = distinct(inside.map((place) => values.place[place]));
    const even = counts.length === 1 ? `Inside, ${counted(counts[0], "tap")} ${counts[0] === 1 ? "reaches" : "reach"} every place` : `Inside, ${words(counts)} taps reach a place by turns: ${line ? "uneven" : "a checkerboard"}`;
    if (new Set(values.sample).size > 1) return ` ${even}.`;
    return ` ${even}; the constant y becomes ${made.length === 1 ? `the constant ${minus(made[0])}` : words(made.map(minus))}.`;
  }
  question(model) {
    const { state: { of }, values, read, line } = model, at = this.at, name = this.nameOf(model, of, at);
    if (of === "place") return { name: model.sites[at].kept ? `x̂${name}` : `the sum cut off at ${name}`, answer: values.place[at] };
    if (of === "sample" && line) return { name: `the layer’s y${name}`, answer: read[at] };
    return { name: of === "tap" ? `the number of places that w${name} reaches` : `the number of kept places that y${name} reaches`, answer: this.linked(model).filter(({ place }) => model.sites[place].kept).length };
  }
  result({ line, back, counts, read }) { return line ? [back[0], counts[0], read] : [back, counts]; }

  numpy({ state: { y, w, s, d, p0, p1, rho, image, kernel }, line, x }) {
    const head = `import numpy as np\n\ns, d, before, after, extra = ${s}, ${d}, ${p0}, ${p1}, ${rho}  # the layer's, but for extra: output padding\n`;
    if (line) return `${head}y, w = np.array(${literal(y)}), np.array(${literal(w)})
x = np.array(${literal(x)})
span = d * (len(w) - 1) + 1


def transpose(y, w):
    full = np.zeros(s * (len(y) - 1) + span + extra, dtype=int)
    for i, sample in enumerate(y):
        full[s * i : s * i + span : d] += sample * w
    return full[before : len(full) - after]  # padding cuts off


windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, (before, after)), span)
layer = windows[::s, ::d] @ w
counts = transpose(np.ones_like(y), np.ones_like(w))
print([transpose(y, w).tolist(), counts.tolist(), layer.tolist()])
`;
    return `${head}y = np.array(${literal(image)})
w = np.array(${literal(kernel)})


def transpose(y, w):
    rows, columns = [d * (k - 1) + 1 for k in w.shape]
    full = np.zeros([s * (m - 1) + d * (k - 1) + 1 + extra for m, k in zip(y.shape, w.shape)], dtype=int)
    for i, j in np.ndindex(y.shape):
        full[s * i : s * i + rows : d, s * j : s * j + columns : d] += y[i, j] * w
    return full[before : full.shape[0] - after, before : full.shape[1] - after]  # padding cuts off


print([transpose(y, w).tolist(), transpose(np.ones_like(y), np.ones_like(w)).tolist()])
`;
  }
  torch({ state: { y, w, s, d, p0, p1, rho, image, kernel }, line, x, n }) {
    const rank = line ? 1 : 2, tensor = (values) => `torch.tensor([[${literal(values)}]]).float()`, even = p0 === p1;
    const cut = (size) => `${p0}:${p0 + size}`, crop = even ? "" : `[..., ${line ? cut(n[1]) : `${cut(n[0])}, ${cut(n[1])}`}]`;
    return `import torch
from torch.nn.functional import ${line ? "conv1d, conv_transpose1d, pad" : "conv_transpose2d"}

y = ${tensor(line ? y : image)}
w = ${tensor(line ? w : kernel)}


def transpose(y, w):${even ? "" : "\n    # PyTorch has one padding for both sides: all is computed, then cut"}
    return conv_transpose${rank}d(y, w, stride=${s}, dilation=${d}, padding=${even ? p0 : 0}, output_padding=${rho})${crop}


shown = [transpose(y, w), transpose(torch.ones_like(y), torch.ones_like(w))]
${line ? `x = ${tensor(x)}\nshown.append(conv1d(pad(x, (${p0}, ${p1})), w, stride=${s}, dilation=${d}))\n` : ""}print([values[0, 0].int().tolist() for values in shown])
`;
  }
}
define("kv-transposes", Transposes);
