// Typesets formulas: one request in JSON a line, one answer a line. A line of null asks for the whole style sheet.
//
// The first line is {"mathjax": folder, "tex": options, "chtml": options}, a request {"tex": "...", "display": true}.
// The answer holds "html", or "error" in MathJax's words.

const readline = require("node:readline");

const SIGN = /\bmjx-c([0-9A-F]+)\b/;
const signs = (text) => new Set([...text].map((sign) => sign.codePointAt(0).toString(16).toUpperCase()));
const MAY_BREAK_AFTER = signs("=<>≤≥≡≠≈∈⊂⊆→↦⇒⇔,;⋆∗+−");
const OPENS = signs("([{⟨⌊⌈");
const CLOSES = signs(")]}⟩⌋⌉");
const LONG = 16; // signs of a formula that a line may break

async function start(settings) {
  const MathJax = await require(`${settings.mathjax}/node-main.js`).init({
    loader: {
      paths: { mathjax: settings.mathjax },
      load: ["input/tex-full", "output/chtml", "adaptors/liteDOM", "a11y/assistive-mml"],
    },
    tex: { ...settings.tex, formatError: (jax, error) => { throw error; } },
    chtml: { ...settings.chtml, adaptiveCSS: false, fontURL: "mathematics" },
    options: { enableAssistiveMml: true },
    startup: { typeset: false },
  });
  return MathJax;
}

// A long formula of a sentence may go on in the next line after a relation, an operation or a comma of its outermost row.
function breakable(adaptor, container) {
  if (adaptor.tags(container, "mjx-c").length < LONG) return;
  const math = adaptor.tags(container, "mjx-math")[0];
  const children = adaptor.childNodes(math);
  const isOperator = (child) => adaptor.kind(child) === "mjx-mo";
  const signOf = (child) => {
    const first = adaptor.firstChild(child);
    return (first && adaptor.getAttribute(first, "class")?.match(SIGN)?.[1]) ?? "";
  };
  let brackets = 0;
  let broken = false;
  children.forEach((child, place) => {
    if (!isOperator(child)) return;
    const sign = signOf(child);
    if (OPENS.has(sign)) brackets += 1;
    if (CLOSES.has(sign)) brackets -= 1;
    if (brackets > 0 || !MAY_BREAK_AFTER.has(sign) || place === children.length - 1) return;
    // An operator at the beginning, or after another one, is the sign of a number.
    const before = children[place - 1];
    if (!before || (isOperator(before) && !CLOSES.has(signOf(before)))) return;
    adaptor.insert(adaptor.node("mjx-break"), adaptor.next(child));
    broken = true;
  });
  if (broken) adaptor.addClass(container, "kv-breaks");
}

// What the style sheet says for all formulas need not stand in each.
function lean(html) {
  return html
    .replace(/ style="font-size: [\d.]+%; position: relative;"/, "")
    .replaceAll(' unselectable="on"', "")
    .replaceAll(/ data-mjx-texclass="\w+"/g, "");
}

function typeset(MathJax, { tex, display }) {
  const adaptor = MathJax.startup.adaptor;
  try {
    const container = MathJax.tex2chtml(tex, { display });
    if (!display) breakable(adaptor, container);
    return { html: lean(adaptor.outerHTML(container)) };
  } catch (error) {
    return { error: error.message };
  }
}

async function main() {
  let MathJax;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let answer;
    if (!MathJax) answer = { ready: Boolean((MathJax = await start(request))) };
    else if (request === null) answer = { css: MathJax.startup.adaptor.textContent(MathJax.chtmlStylesheet()) };
    else answer = typeset(MathJax, request);
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

main();
