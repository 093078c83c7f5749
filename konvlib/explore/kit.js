// What all explorables share: fields of a state and their text, cells and ribbons, steps, prediction, tasks, copying,
// light and dark. An explorable is an element with an open shadow root; it draws itself anew from its state.

import { CSS } from "./look.js";

export class Refusal extends Error {}

export const minus = (value) => String(value).replace("-", "−");
export const list = (values) => `[${[...values].map(minus).join(", ")}]`;
export const counted = (number, noun, many = `${noun}s`) => `${number} ${number === 1 ? noun : many}`;
export const product = (a, b) => `${minus(a)} · ${b < 0 ? `(${minus(b)})` : b}`;
export const sum = (terms) => (terms.length ? terms.join(" + ").replaceAll("+ −", "− ") : "0");

const SVG = new Set(["svg", "g", "path", "rect", "text", "title", "circle", "line", "polyline", "defs", "pattern"]);
export const el = (tag, attributes = {}, ...children) => {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
};

// The fields of a state. Each knows the text that stands in an address, and refuses what is out of its limits.
const integer = (text, low, high, name) => {
  const value = Number(text);
  if (!Number.isInteger(value)) throw new Refusal(`${name} must be an integer, got '${text}'`);
  if (value < low) throw new Refusal(`${name} must be at least ${low}, got ${value}`);
  if (value > high) throw new Refusal(`${name} must be at most ${high} here, got ${value}`);
  return value;
};
export const whole = (low, high) => ({ kind: "whole", low, high, text: String, parse: (parts, name) => integer(parts.join("."), low, high, name) });
export const choice = (...options) => ({
  kind: "choice", options, text: String,
  parse: ([part], name) => {
    if (!options.includes(part)) throw new Refusal(`${name} must be one of ${options.join(", ")}, got '${part}'`);
    return part;
  },
});
export const numbers = (least, most, low = -9, high = 9, scale = 1) => ({
  kind: "numbers", least, most, low, high, scale,
  text: (values) => values.join("."),
  parse: (parts, name) => {
    const values = parts.filter((part) => part !== "").map((part) => integer(part, low, high, name));
    if (values.length < least || values.length > most) throw new Refusal(`${name} must have ${least} to ${most} entries here, got ${values.length}`);
    return values;
  },
});
export const table = (rows, columns, low = -9, high = 9) => ({
  kind: "table", rows, columns, low, high,
  text: (values) => values.map((row) => row.join(".")).join("_"),
  parse: (parts, name) => {
    const line = numbers(columns[0], columns[1], low, high);
    const found = parts.join(".").split("_").map((row) => line.parse(row.split("."), name));
    if (found.length < rows[0] || found.length > rows[1]) throw new Refusal(`${name} must have ${rows[0]} to ${rows[1]} rows here, got ${found.length}`);
    if (found.some((row) => row.length !== found[0].length)) throw new Refusal(`${name} must have rows of one length`);
    return found;
  },
});

const PACE = 900;

export class Explorable extends HTMLElement {
  // A subclass gives: word, fields, start, presets {name: part of a state}, tasks {name: {text, start, done(model)}}, and
  // the methods compute(state), steps(model), draw(model), say(model), question(model), numpy(model), torch(model), result(model).
  static presets = {};
  static tasks = {};
  static choosing = ["at"]; // fields that choose what is looked at, and leave a preset what it is

  connectedCallback() {
    if (this.shadowRoot) return;
    this.attachShadow({ mode: "open" });
    this.task = this.constructor.tasks[this.getAttribute("task")];
    this.state = { ...structuredClone(this.constructor.start), ...structuredClone(this.task?.start ?? {}) };
    this.asking = false;
    this.shadowRoot.append(el("style", {}, CSS + (this.constructor.css ?? "")), (this.sheet = el("div", { class: "frame", role: "group", "aria-label": this.constructor.title })));
    const refused = this.read(this.getAttribute("state")) ?? (this.task ? null : this.read(new URLSearchParams(location.search).get(this.constructor.word)));
    this.build();
    this.theme();
    if (refused) this.note.textContent = refused;
    new MutationObserver(() => this.theme()).observe(document.documentElement, { attributes: true });
    let width = this.clientWidth;
    new ResizeObserver(() => { if (this.clientWidth !== width) { width = this.clientWidth; this.paint(); } }).observe(this);
  }
  disconnectedCallback() { this.pause(); }

  // Light or dark is read from what lies behind: one rule for the site, JupyterLab, VS Code and Colab.
  theme() {
    let colour = null;
    for (let node = this.parentElement; node && !colour; node = node.parentElement) {
      const parts = getComputedStyle(node).backgroundColor.match(/[\d.]+/g)?.map(Number);
      if (parts && (parts.length < 4 || parts[3] > 0.5)) colour = parts;
    }
    const [red, green, blue] = colour ?? [255, 255, 255];
    this.setAttribute("mode", 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? "dark" : "light");
  }
  get inNotebook() { return Boolean(this.closest(".jp-OutputArea-output, [data-mime-type], .output_area")) || location.protocol === "about:"; }

  // The state as text: name.1.2_3.4*name.5, only what differs from the start. Returns why a text was refused, or null.
  get text() {
    const { fields, start } = this.constructor;
    const changed = Object.entries(fields).filter(([name, field]) => field.text(this.state[name]) !== field.text(start[name]));
    return changed.map(([name, field]) => `${name}.${field.text(this.state[name])}`).join("*");
  }
  read(text) {
    const found = {};
    try {
      for (const part of text ? text.split("*") : []) {
        const [name, ...values] = part.split(".");
        const field = Object.hasOwn(this.constructor.fields, name) ? this.constructor.fields[name] : null;
        if (!field) throw new Refusal(`'${name}' is nothing that can be set here`);
        found[name] = field.parse(values, name);
      }
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return error.message;
    }
    Object.assign(this.state, found);
    return null;
  }

  build() {
    const { presets } = this.constructor;
    this.inputs = el("div", { class: "bar" });
    this.picture = el("div", { class: "pic" });
    this.words = el("p", { class: "say", "aria-live": "polite" });
    this.guess = el("div", { class: "guess", hidden: true });
    this.note = el("span", { class: "note", role: "status" });
    const button = (name, act, more = {}) => el("button", { type: "button", onclick: act, ...more }, name);
    this.back = button("‹", () => { this.pause(); this.go(this.at - 1); }, { "aria-label": "One step back" });
    this.play = button("Play", () => (this.timer ? this.pause() : this.run()));
    this.next = button("›", () => { this.pause(); this.go(this.at + 1); }, { "aria-label": "One step on" });
    this.predict = button("Predict", () => this.ask(!this.asking), { "aria-pressed": "false" });
    this.named = Object.entries(presets).map(([name, part]) => [part, button(name, () => this.set({ at: 0, ...structuredClone(this.constructor.start), ...structuredClone(part) }), { "aria-pressed": "false" })]);
    this.copies = [
      button("Copy NumPy", () => this.copy(this.numpy(this.model), "NumPy code copied")), button("Copy PyTorch", () => this.copy(this.torch(this.model), "PyTorch code copied")),
      this.inNotebook || this.task ? null : button("Copy link", () => this.copy(this.link, "Link copied")),
    ];
    this.verdict = el("span", { class: "verdict", role: "status" });
    const task = this.task ? el("div", { class: "task" }, el("p", {}, el("b", {}, "Task. "), this.task.text), this.verdict) : null;
    const group = (label, ...nodes) => el("div", { class: "buttons", role: "group", "aria-label": label }, ...nodes);
    const foot = el("div", { class: "bar foot" }, group("Steps", this.back, this.play, this.next, this.predict), group("Copies", ...this.copies),
      this.task || !this.named.length ? null : group("Examples", ...this.named.map(([, node]) => node)), this.note);
    this.sheet.replaceChildren(...[task, this.inputs, this.picture, this.words, this.guess, foot].filter(Boolean));
    this.shape = null;
    this.paint();
  }

  get link() {
    const url = new URL(location.href);
    if (this.text) url.searchParams.set(this.constructor.word, this.text); else url.searchParams.delete(this.constructor.word);
    return url.href;
  }
  set(part) {
    Object.assign(this.state, part);
    this.note.textContent = "";
    if (this.asking) this.ask(false, false);
    if (!this.inNotebook && !this.task) try { history.replaceState(null, "", this.link); } catch { /* an output frame has no address */ }
    this.paint();
  }

  // The controls are made anew only where their number changes; numbers keep the caret.
  controls() { return []; }
  controlled() { return null; } // what else of the state decides which controls there are
  paint() {
    const sizes = Object.entries(this.constructor.fields).map(([name, field]) => (field.kind === "numbers" ? this.state[name].length : field.kind === "table" ? [this.state[name].length, this.state[name][0].length] : 0));
    const shape = JSON.stringify([sizes, this.controlled(this.state)]);
    if (shape !== this.shape) {
      const focus = this.shadowRoot.activeElement?.getAttribute("aria-label");
      this.inputs.replaceChildren(...this.controls());
      this.shape = shape;
      if (focus) [...this.inputs.querySelectorAll("[aria-label]")].find((node) => node.getAttribute("aria-label") === focus)?.focus();
    }
    for (const node of this.inputs.querySelectorAll("[data-field]")) this.refresh(node);
    const key = this.shadowRoot.activeElement?.getAttribute("data-key");
    let refused = null;
    try { this.model = this.compute(this.state); } catch (error) { if (!(error instanceof Refusal)) throw error; refused = error.message; }
    this.classList.toggle("refused", Boolean(refused));
    for (const [part, node] of this.named) node.setAttribute("aria-pressed", String(Object.entries({ ...this.constructor.start, ...part }).every(([name, value]) => this.constructor.choosing.includes(name) || String(value) === String(this.state[name]))));
    for (const node of [this.back, this.play, this.next, this.predict, ...this.copies.slice(0, 2)]) node.disabled = Boolean(refused);
    if (refused) {
      this.pause();
      this.model = null;
      this.picture.replaceChildren(el("p", { class: "refused" }, "This cannot be: ", el("b", {}, minus(refused)), "."));
      this.words.replaceChildren();
    } else {
      this.state.at = this.at;
      this.draw(this.model);
      if (this.asking) this.words.replaceChildren(); else this.words.innerHTML = this.say(this.model);
      this.back.disabled = this.at === 0;
      this.next.disabled = this.at === this.steps(this.model) - 1;
      if (key) this.picture.querySelector(`[data-key="${key}"]`)?.focus();
    }
    this.judge();
  }
  refresh(node) {
    const [name, ...place] = node.dataset.field.split(".");
    const value = place.reduce((inside, index) => inside?.[index], this.state[name]);
    if (node.value !== String(value)) node.value = value;
    if (node.type === "range") node.parentElement.querySelector("output").textContent = value;
  }

  // Controls.
  change(node) {
    const [name, ...place] = node.dataset.field.split(".");
    const field = this.constructor.fields[name];
    if (field.kind === "choice") return this.set({ [name]: node.value });
    const value = Math.max(field.low, Math.min(field.high, Math.trunc(Number(node.value)) || 0));
    const copy = structuredClone(this.state[name]);
    if (!place.length) return this.set({ [name]: value });
    const inside = place.slice(0, -1).reduce((part, index) => part[index], copy);
    inside[place.at(-1)] = value;
    node.value = value;
    this.set({ [name]: copy });
  }
  number(field, label, role, more = {}) {
    return el("input", {
      class: `n ${role}`, "data-field": field, inputmode: "numeric", "aria-label": label, autocomplete: "off", onchange: (event) => this.change(event.target),
      onfocus: (event) => event.target.select(),
      onkeydown: (event) => {
        const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step) { event.preventDefault(); event.target.value = Number(event.target.value) + step; this.change(event.target); }
        if (side) {
          const all = [...event.target.closest("fieldset, .grid, .bar").querySelectorAll("input")];
          const near = all[all.indexOf(event.target) + side];
          if (near) { event.preventDefault(); near.focus(); }
        }
      },
      ...more,
    });
  }
  // A sequence as editable cells, with buttons that make it longer or shorter where its field allows it.
  sequence(name, label, role) {
    const { least, most } = this.constructor.fields[name];
    const row = el("div", { class: "cells" }, ...this.state[name].map((_, i) => this.number(`${name}.${i}`, `${label}, entry ${i}`, role)));
    const resize = (by) => this.set({ [name]: by > 0 ? [...this.state[name], 1] : this.state[name].slice(0, -1) });
    if (least < most) row.append(
      el("button", { type: "button", "aria-label": `${label}: one entry less`, disabled: this.state[name].length <= least, onclick: () => resize(-1) }, "−"),
      el("button", { type: "button", "aria-label": `${label}: one entry more`, disabled: this.state[name].length >= most, onclick: () => resize(1) }, "+"));
    return el("fieldset", {}, el("legend", {}, label), row);
  }
  several(legend, ...cells) { return el("fieldset", {}, el("legend", {}, legend), el("div", { class: "cells" }, ...cells)); }
  // One number for each of the two axes; padding for each of the four sides; how many there are, with buttons for more and less.
  pair(name, label) { return this.several(label, ...["rows", "columns"].map((axis, a) => this.number(`${name}.${a}`, `${name} of the ${axis}`, "plain"))); }
  sides(name) {
    const sides = { "0.0": "above", "0.1": "below", "1.0": "left", "1.1": "right" };
    return this.several(`${name} above, below, left, right`, ...Object.entries(sides).map(([place, side]) => this.number(`${name}.${place}`, `${name} ${side}`, "padc")));
  }
  stepper(name, one, count, less, more, act) {
    const button = (by, sign, allowed) => el("button", { type: "button", "aria-label": `${name}: one ${one}${by > 0 ? "more" : "less"}`, disabled: !allowed, onclick: () => act(by) }, sign);
    return [button(-1, "−", less), el("b", { class: "count" }, String(count)), button(1, "+", more)];
  }
  group(...nodes) { return el("div", { class: "group" }, ...nodes); }
  select(name, label, names = {}) {
    const field = this.constructor.fields[name];
    const options = field.options ?? Array.from({ length: field.high - field.low + 1 }, (_, i) => field.low + i);
    const node = el("select", { "data-field": name, "aria-label": label, onchange: (event) => this.change(event.target) }, ...options.map((value) => el("option", { value }, names[value] ?? String(value))));
    return el("div", {}, el("span", { class: "l", "aria-hidden": "true" }, label), node);
  }
  slider(name, label) {
    const { low, high } = this.constructor.fields[name];
    const value = el("output", {}, String(this.state[name]));
    const node = el("input", { type: "range", min: low, max: high, "data-field": name, "aria-label": label, oninput: (event) => this.change(event.target) });
    return el("div", {}, el("span", { class: "l", "aria-hidden": "true" }, `${label} `, value), node);
  }

  // Steps.
  get at() { return Math.max(0, Math.min(this.state.at, this.steps(this.model) - 1)); }
  go(at) { this.set({ at: Math.max(0, Math.min(at, this.steps(this.model) - 1)) }); }
  run() {
    if (this.at === this.steps(this.model) - 1) this.go(0);
    this.play.textContent = "Pause";
    this.timer = setInterval(() => { if (this.at < this.steps(this.model) - 1) this.go(this.at + 1); else this.pause(); }, PACE);
  }
  pause() {
    clearInterval(this.timer);
    this.timer = null;
    if (this.play) this.play.textContent = "Play";
  }

  // Prediction: what is asked is hidden until it is answered, and the answer is judged exactly.
  ask(asking, repaint = true) {
    this.asking = asking;
    this.pause();
    this.predict.setAttribute("aria-pressed", String(asking));
    this.guess.hidden = !asking;
    if (asking) {
      const { name } = this.question(this.model);
      const field = el("input", { class: "n", "aria-label": `Your prediction of ${name}`, inputmode: "numeric", autocomplete: "off", onkeydown: (event) => event.key === "Enter" && check() });
      const said = el("span", { role: "status" });
      const check = () => {
        const { answer } = this.question(this.model);
        const given = Number(field.value.trim().replace("−", "-"));
        if (!field.value.trim() || Number.isNaN(given)) { said.textContent = "Give a number."; return; }
        if (given !== answer) { said.textContent = `Not ${minus(given)}.`; return; }
        this.ask(false);
        this.note.textContent = `Right: ${name} = ${minus(answer)}.`;
      };
      this.guess.replaceChildren(el("b", {}, `${name} =`), field, el("button", { type: "button", onclick: check }, "Check"), el("button", { type: "button", onclick: () => this.ask(false) }, "Show"), said);
      if (repaint) { this.paint(); field.focus(); }
    } else if (repaint) { this.guess.replaceChildren(); this.paint(); }
  }

  judge() {
    if (!this.task) return;
    const done = Boolean(this.model) && this.task.done(this.model, this.state);
    this.verdict.className = done ? "verdict right" : "verdict";
    const text = done ? `Right. ${this.task.why ?? ""}` : "Not yet.";
    if (this.verdict.textContent !== text) this.verdict.textContent = text;
    this.solved = done;
  }
  async copy(text, said) {
    this.copied = text;
    try { await navigator.clipboard.writeText(text); this.note.textContent = said; } catch { this.note.textContent = "The browser did not allow copying"; }
  }

  // A pointer that rests is not one that chooses: when the picture moves below it, browsers tell of it all the same.
  hover(act) {
    return {
      onpointermove: ({ clientX, clientY }) => {
        const place = `${clientX} ${clientY}`;
        if (place !== this.pointer) act();
        this.pointer = place;
      },
    };
  }

  // Drawing. Rows of cells are one stop for the keyboard: arrows move inside.
  roving(node, index, count, act, columns = count) {
    node.setAttribute("data-key", `${node.getAttribute("data-key") ?? "cell"}`);
    node.addEventListener("click", () => act(index));
    node.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, ArrowDown: index + columns, ArrowUp: index - columns, Home: 0, End: count - 1, Enter: index, " ": index }[event.key];
      if (to == null) return;
      event.preventDefault();
      if (to >= 0 && to < count) act(to);
    });
    return node;
  }
}

// An SVG sheet: cells, ribbons and labels at places in pixels.
export class Sheet {
  constructor(width, height, label) {
    this.width = width;
    this.ribbons = el("g");
    this.cells = el("g");
    this.marks = el("g");
    this.svg = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label }, this.ribbons, this.cells, this.marks);
  }
  cell(x, y, side, value, look = "", attributes = {}) {
    const shown = minus(value);
    const node = el("g", { class: `cell ${look}`, ...attributes }, el("rect", { x: x - side / 2, y: y - side / 2, width: side, height: side, rx: Math.min(6, side / 5) }),
      el("text", { x, y: y + 1, "font-size": Math.min(15.5, side * 0.48, (side * 1.5) / Math.max(1, shown.length)) }, shown));
    this.cells.append(node);
    return node;
  }
  ribbon(x, y, x2, y2, weight, on = false) {
    const middle = (y + y2) / 2;
    const size = weight ? 1 + 1.5 * Math.min(4, Math.log2(1 + Math.abs(weight))) : 1;
    this.ribbons.append(el("path", { class: `ribbon ${weight < 0 ? "neg" : ""} ${weight ? "" : "nil"} ${on ? "on" : ""}`, "stroke-width": size, d: `M${x},${y}C${x},${middle} ${x2},${middle} ${x2},${y2}` }));
    if (on) this.pill((x + x2) / 2, middle, weight);
  }
  pill(x, y, value) {
    const wide = Math.max(20, 9 * minus(value).length + 10);
    this.marks.append(el("g", { class: "tap" }, el("rect", { x: x - wide / 2, y: y - 10, width: wide, height: 20, rx: 10 }), el("text", { x, y: y + 0.5, "font-size": 13 }, minus(value))));
  }
  name(x, y, text, look = "name", size = 14) {
    const node = el("text", { class: look, x, y, "font-size": size }, text);
    this.marks.append(node);
    return node;
  }
  line(x, y, x2, y2) { this.marks.append(el("line", { x1: x, y1: y, x2, y2, stroke: "var(--muted)", "stroke-width": 1.2 })); }
  path(d, look) { this.marks.append(el("path", { d, class: look })); }
}

// A grid of cells that can be chosen (one stop for the keyboard), or edited where a field is named: by name, with as many
// rows and columns before it as offset says, or by a function of row and column that gives the field's place or null.
export const grid = (owner, { label, role, values, side, look = () => "", say = null, pick = null, chosen = null, field = null, offset = 0 }) => {
  const columns = values[0]?.length ?? 0;
  const node = el("div", { class: `grid ${role}`, role: "grid", "aria-label": label, style: `grid-template-columns:repeat(${columns},auto)${side ? `;--side:${side}px;--digits:${Math.max(9, Math.min(15, side * 0.45))}px` : ""}` });
  values.forEach((row, r) => {
    const line = el("div", { role: "row" });
    row.forEach((value, c) => {
      const index = r * columns + c;
      const attributes = { class: `g ${look(r, c)}`, "data-key": `${label} ${index}`, "aria-label": say ? say(r, c) : `${label}, row ${r}, column ${c}: ${minus(value)}` };
      const place = typeof field === "function" ? field(r, c) : field && r >= offset && c >= offset ? `${field}.${r - offset}.${c - offset}` : null;
      if (place) line.append(el("div", { role: "gridcell" }, owner.number(place, attributes["aria-label"], "", { ...attributes, class: `g ${look(r, c)}`, value })));
      else if (pick) {
        const cell = el("div", { ...attributes, role: "gridcell", tabindex: index === chosen ? 0 : -1, "aria-selected": String(index === chosen) }, minus(value));
        line.append(owner.roving(cell, index, values.length * columns, (to) => { pick(to); owner.picture.querySelector(`[data-key="${label} ${to}"]`)?.focus(); }, columns));
      } else line.append(el("div", { ...attributes, class: `${attributes.class} still`, role: "gridcell" }, minus(value)));
    });
    node.append(line);
  });
  return node;
};

// Shows fresh nodes in a place. Where they are built as what stands there, that is changed instead: a cell in which someone
// types stays, and so does one on which a click has begun. Handlers stay as they were: they must look up the model.
export const renew = (place, ...fresh) => {
  const update = (old, now) => {
    if (old.nodeName !== now.nodeName) return false;
    if (now.nodeType === Node.TEXT_NODE) { if (old.data !== now.data) old.data = now.data; return true; }
    for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (old.attributes.length > now.attributes.length) for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
    if (now.localName === "input" && old.getRootNode().activeElement !== old) old.value = now.value;
    let a = old.firstChild, b = now.firstChild;
    for (; a && b; a = a.nextSibling, b = b.nextSibling) if (!update(a, b)) return false;
    return !a && !b;
  };
  if (place.childNodes.length !== fresh.length || !fresh.every((node, i) => update(place.childNodes[i], node))) place.replaceChildren(...fresh);
};

export const define = (name, explorable) => { if (!customElements.get(name)) customElements.define(name, explorable); };
