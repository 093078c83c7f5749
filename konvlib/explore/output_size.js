// <kv-output-size>: how many windows fit, drawn one below the other, and the inputs that none of them reads.
import { outputSize, range, span } from "./arithmetic.js";
import { counted, define, el, Explorable, minus, Sheet, whole } from "./kit.js";

class OutputSize extends Explorable {
  static word = "output_size";
  static title = "Output size: how many windows fit";
  static fields = { n: whole(1, 14), k: whole(1, 7), s: whole(1, 5), d: whole(1, 4), p0: whole(0, 4), p1: whole(0, 4), at: whole(0, 99) };
  static start = { n: 8, k: 3, s: 2, d: 1, p0: 0, p1: 0, at: 0 };
  static presets = {
    "One is left over": {},
    "Same size": { n: 7, k: 3, s: 1, p0: 1, p1: 1 },
    "Half the size": { n: 8, k: 3, s: 2, p0: 1, p1: 1 },
    Dilation: { n: 9, k: 3, s: 1, d: 3 },
    "Gaps between windows": { n: 11, k: 2, s: 3 },
  };
  static tasks = {
    same: {
      text: "Seven inputs, a kernel of four taps, stride and dilation 1: choose the padding so that there are as many outputs as inputs.",
      start: { n: 7, k: 4, s: 1 },
      why: "The padding before and after must be k − 1 = 3 together, so it cannot be the same on both sides.",
      done: ({ state: { n, k, s, d }, m }) => n === 7 && k === 4 && s === 1 && d === 1 && m === 7,
    },
    gaps: {
      text: "Eleven inputs, three taps, no padding, dilation 1: choose the stride so that the last window ends at the last input, and yet two inputs are never read.",
      start: { n: 11, k: 3, s: 1 },
      why: "A stride greater than k leaves s − k inputs unread between two windows.",
      done: ({ state: { n, k, d, p0, p1 }, unread, rest }) => n === 11 && k === 3 && d === 1 && p0 + p1 === 0 && rest === 0 && unread.length === 2,
    },
  };

  controls() {
    const names = { n: "inputs n", k: "taps k", s: "stride s", d: "dilation d", p0: "padding before p", p1: "padding after p′" };
    return Object.entries(names).map(([field, label]) => this.slider(field, label));
  }
  compute(state) {
    const { n, k, s, d, p0, p1 } = state;
    const m = outputSize(n, k, { stride: s, dilation: d, before: p0, after: p1 });
    const windows = range(m).map((i) => range(k).map((u) => s * i + d * u - p0));
    const read = new Set(windows.flat());
    return { state, m, windows, unread: range(n).filter((j) => !read.has(j)), rest: (n + p0 + p1 - span(k, d)) % s };
  }
  steps({ m }) { return m; }

  draw({ state, m, windows, unread }) {
    const { n, p0, p1 } = state, total = n + p0 + p1, gut = 52;
    const width = Math.max(this.clientWidth || 700, 24 * total + 2 * gut), pitch = Math.min(40, (width - 2 * gut) / total), side = pitch - 3;
    const lift = Math.max(13, Math.min(22, 260 / m)), top = 26, first = top + side / 2 + 20;
    const left = (width - pitch * total) / 2, x = (j) => left + (j + p0 + 0.5) * pitch;
    const shown = this.asking ? windows.slice(0, 1) : windows;
    const sheet = new Sheet(width, first + lift * shown.length + 6, "The inputs, and the windows below them");
    sheet.svg.style.minWidth = `${Math.min(width, 24 * total + 2 * gut)}px`;
    const taps = windows[this.at];
    range(total).forEach((place) => {
      const j = place - p0, inside = j >= 0 && j < n, never = !this.asking && unread.includes(j);
      const windowThere = windows.findIndex((window) => window.includes(j));
      sheet.cell(x(j), top, side, inside ? j : 0, `${inside ? "in" : "padc"} ${taps.includes(j) ? "on" : never || !inside ? "dim" : ""}`, windowThere < 0 || this.asking ? {} : { onclick: () => this.go(windowThere) });
      if (never) sheet.marks.append(el("line", { class: "slash", x1: x(j) - side / 2 + 3, y1: top + side / 2 - 3, x2: x(j) + side / 2 - 3, y2: top - side / 2 + 3 }));
    });
    const list = el("g", { role: "listbox", "aria-label": "Windows" });
    shown.forEach((window, i) => {
      const y = first + lift * i, on = i === this.at;
      const row = el("g", { class: "ker", role: "option", tabindex: on ? 0 : -1, "aria-selected": String(on), "aria-label": this.window(i), "data-key": `window ${i}`, ...this.hover(() => on || this.go(i)) },
        el("rect", { x: x(window[0]) - side / 2, y: y - lift / 2, width: x(window.at(-1)) - x(window[0]) + side, height: lift, fill: "transparent" }),
        el("line", { class: `bar-line ${on ? "" : "faint"}`, x1: x(window[0]), y1: y, x2: x(window.at(-1)), y2: y }),
        ...window.map((j) => el("circle", { class: `dot ${on ? "" : "faint"}`, cx: x(j), cy: y, r: Math.min(6, lift / 2 - 1, pitch / 4) })),
        el("text", { class: "small", x: x(window[0]) - side / 2 - 16, y }, `y[${i}]`));
      list.append(this.roving(row, i, shown.length, (to) => { this.go(to); this.picture.querySelector(`[data-key="window ${to}"]`)?.focus(); }, 1));
    });
    sheet.svg.append(list);
    this.picture.replaceChildren(sheet.svg);
  }
  window(i) {
    if (this.asking && i > 0) return "hidden";
    return `y[${i}] reads ${this.model.windows[i].map((j) => (j < 0 || j >= this.model.state.n ? "padding" : `x[${j}]`)).join(", ")}`;
  }
  say({ state: { n, k, s, d, p0, p1 }, m, unread, rest }) {
    const reach = d * (k - 1);
    const none = unread.length ? `${unread.length === 1 ? "Input" : "Inputs"} <span class="i">${unread.join(", ")}</span> ${unread.length === 1 ? "is" : "are"} read by no window` : "Every input is read by some window";
    return `m = ⌊(n + p + p′ − d(k − 1) − 1) / s⌋ + 1 = ⌊(${n} + ${p0} + ${p1} − ${reach} − 1) / ${s}⌋ + 1 = <b>${m}</b>. `
      + `${minus(this.window(this.at))}. ${none}${rest ? `; after the last window ${counted(rest, "place")} ${rest === 1 ? "is" : "are"} left over` : ""}.`;
  }
  question({ m }) { return { name: "m", answer: m }; }
  result({ m, unread }) { return [m, unread]; }

  numpy({ state: { n, k, s, d, p0, p1 } }) {
    return `import numpy as np

n, k, s, d, before, after = ${n}, ${k}, ${s}, ${d}, ${p0}, ${p1}
padded = np.pad(np.arange(n), (before, after), constant_values=-1)
m = (n + before + after - d * (k - 1) - 1) // s + 1
read = {int(j) for i in range(m) for j in padded[s * i : s * i + d * (k - 1) + 1 : d]}
print([m, [j for j in range(n) if j not in read]])
`;
  }
  torch({ state: { n, k, s, d, p0, p1 } }) {
    return `import torch
from torch.nn.functional import conv1d, pad

x = torch.zeros(1, 1, ${n}, requires_grad=True)
y = conv1d(pad(x, (${p0}, ${p1})), torch.ones(1, 1, ${k}), stride=${s}, dilation=${d})
y.sum().backward()  # an input that no window reads has the gradient 0
print([y.shape[-1], (x.grad[0, 0] == 0).nonzero().flatten().tolist()])
`;
  }
}
define("kv-output-size", OutputSize);
