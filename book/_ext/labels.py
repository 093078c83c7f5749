"""The labels of the book: which statements it numbers, and where.

Reads the Markdown of pages and of notebooks' Markdown cells with the parser that MyST itself stands on, so that code
fences, nested directives and unlabelled equations cannot mislead it. The ledger page and the tests both use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

PREFIXES = {
    "equation": "eq-",
    "definition": "def-",
    "theorem": "thm-",
    "lemma": "lem-",
    "corollary": "cor-",
    "proposition": "prop-",
}
STATEMENT = re.compile(r"\{prf:(?P<kind>\w+)\}\s*(?P<title>.*)")
DIRECTIVE = re.compile(r"\{[\w:-]+\}")
OPTION = re.compile(r":(?P<name>[\w-]+):\s*(?P<value>.*)")

_PARSER = MarkdownIt("commonmark").use(dollarmath_plugin, allow_labels=True).use(colon_fence_plugin)


@dataclass(frozen=True)
class Label:
    """One labelled statement: its name, kind, title, its page, and for an equation the statement around it."""

    name: str
    kind: str
    page: str
    title: str = ""
    within: str = ""

    @property
    def on_ledger(self) -> bool:
        """Whether a test must verify it: examples, remarks and the like carry labels of their own, without tests."""
        return self.kind in PREFIXES

    @property
    def well_named(self) -> bool:
        """Whether the name begins as its kind demands, and only then."""
        if self.on_ledger:
            return self.name.startswith(PREFIXES[self.kind])
        return not self.name.startswith(tuple(PREFIXES.values()))


def toc_entries(root: Path) -> list[list[str]]:
    """Return the chapters and other pages as ``_toc.yml`` orders them: each a list of its pages, without suffix."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    return [[toc["root"]]] + [
        [chapter["file"], *(section["file"] for section in chapter.get("sections", []))] for chapter in chapters
    ]


def source_of(root: Path, page: str) -> Path:
    """Return the file of a page: a notebook or Markdown."""
    return next(path for path in (root / f"{page}.ipynb", root / f"{page}.md") if path.exists())


def book_pages(root: Path) -> list[Path]:
    """Return the files of all pages, in reading order."""
    return [source_of(root, page) for entry in toc_entries(root) for page in entry]


def markdown_of(page: Path) -> str:
    """Return the Markdown of a page, or that of a notebook's Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def book_labels(root: Path) -> list[Label]:
    """Return every labelled statement of the book, in reading order."""
    return [
        label
        for page in book_pages(root)
        for label in labels_in(markdown_of(page), page.relative_to(root).with_suffix("").as_posix())
    ]


def labels_in(markdown: str, page: str, within: str = "") -> Iterator[Label]:
    """Yield the labelled statements of one page's Markdown, in reading order."""
    for token in _PARSER.parse(markdown):
        if token.type == "math_block_label":
            yield Label(token.info, "equation", page, within=within)
        elif token.type in ("fence", "colon_fence") and DIRECTIVE.match(token.info.strip()):
            yield from _labels_of_directive(token.info.strip(), token.content, page, within)


def _labels_of_directive(info: str, content: str, page: str, within: str) -> Iterator[Label]:
    options, body = split_options(content)
    statement = STATEMENT.match(info)
    if "label" in options and statement:
        label = Label(options["label"], statement["kind"], page, title=statement["title"])
        within = label.name if label.on_ledger else within
        yield label
    elif "label" in options and info.startswith("{math}"):
        yield Label(options["label"], "equation", page, within=within)
    if not info.startswith(("{math}", "{code")):
        yield from labels_in(body, page, within)


def split_options(content: str) -> tuple[dict[str, str], str]:
    """Split a directive's ``:name: value`` lines from its body."""
    options: dict[str, str] = {}
    lines = content.splitlines()
    while lines and (found := OPTION.fullmatch(lines[0].strip())):
        options[found["name"]] = found["value"].strip()
        lines.pop(0)
    return options, "\n".join(lines)
