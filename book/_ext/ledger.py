"""The ledger: every numbered statement of the book beside the tests that verify it, each a link to its source.

Where a page holds the line ``GENERATED``, a summary and the entries take its place before the page is parsed. An
equation that stands inside a definition or a theorem is verified with it, and has no entry of its own. The files of
tests that the entries name become pages of the site, so that a reader can look at a test without the repository.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from hooks import make_anew
from labels import Label, book_labels, markdown_of, source_of
from marks import Mark, collect_marks
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.application import Sphinx

PAGE = "book/ledger"
GENERATED = "<!-- generated: ledger -->"
FILTER = """<form class="kv-filter" role="search" aria-label="Filter the ledger" hidden>
<label for="kv-filter">Show what holds the words</label>
<input id="kv-filter" type="text" autocomplete="off">
<label class="kv-filter-check"><input type="checkbox" id="kv-filter-tolerance"> tests with a tolerance only</label>
<output for="kv-filter kv-filter-tolerance"></output>
</form>"""


def ledger_markdown(root: Path, marks: list[Mark]) -> str:
    """Return the whole ledger as MyST Markdown: a summary, and one section per chapter that has labelled statements."""
    claims: dict[str, list[Mark]] = {}
    for mark in marks:
        claims.setdefault(mark.label, []).append(mark)
    statements = [label for label in book_labels(root) if label.on_ledger]
    if not statements:
        return "The book has no labelled statement yet."
    chapters = groupby(statements, key=lambda label: label.page.rpartition("/")[0] or label.page)
    sections = [section_markdown(root, list(labels), claims) for _, labels in chapters]
    return "\n\n".join([summary_markdown(statements, marks), FILTER, *sections])


def summary_markdown(statements: list[Label], marks: list[Mark]) -> str:
    """Return the ledger in one sentence of numbers."""
    kinds = {label.name: "equation" if label.kind == "equation" else "statement" for label in statements}
    tests = {mark.test for mark in marks}
    tolerant = {mark.test for mark in marks if not mark.exact}
    numbers = [counted(list(kinds.values()).count(kind), kind) for kind in ("statement", "equation")]
    cases = sum({(mark.test, mark.line): mark.cases for mark in marks}.values())
    return (
        f"**{numbers[0]} and {numbers[1]}, verified by {counted(len(tests), 'test')} that run {cases:,} cases: "
        f"{len(tests) - len(tolerant):,} of the tests compare exactly, {len(tolerant):,} allow for rounding.**"
    )


def section_markdown(root: Path, labels: list[Label], claims: dict[str, list[Mark]]) -> str:
    """Return the entries of one chapter, or of one page that belongs to none."""
    page = labels[0].page
    opening = f"{page.rpartition('/')[0]}/index"
    page = opening if (root / f"{opening}.ipynb").exists() else page
    head = f"## {page_title(root, page)}"
    entries = [entry_markdown(label, within, claims) for label, within in with_equations(labels)]
    return "\n\n".join([head, f"Read it: {{doc}}`/{page}`.", *entries])


def with_equations(labels: list[Label]) -> Iterator[tuple[Label, list[Label]]]:
    """Yield each statement with the equations that stand inside it, and each equation that stands alone."""
    names = {label.name for label in labels}
    for label in labels:
        if label.within not in names:
            yield label, [other for other in labels if other.within == label.name]


def entry_markdown(label: Label, equations: list[Label], claims: dict[str, list[Mark]]) -> str:
    """Return one statement: its number as a link, its title or page, and its tests, folded."""
    if label.kind == "equation":
        statement = f"Equation {{eq}}`{label.name}` of {{doc}}`/{label.page}`"
    else:
        statement = f"{{prf:ref}}`{label.name}` {label.title}".strip()
        if equations:
            statement += ", with " + " ".join(f"{{eq}}`{equation.name}`" for equation in equations)
    marks = list(dict.fromkeys(same_for_all(mark) for one in [label, *equations] for mark in claims.get(one.name, [])))
    how = "all exact" if all(mark.exact for mark in marks) else "with a tolerance"
    title = f"{counted(len(marks), 'test')}, {how}" if marks else "No test yet"
    tests = "\n".join(mark_markdown(mark) for mark in marks)
    return f":::::{{div}} kv-entry\n{statement}\n\n::::{{dropdown}} {title}\n{tests}\n::::\n:::::"


def same_for_all(mark: Mark) -> Mark:
    """Return a mark without its label: the same test of a statement and of its equation is one test."""
    return Mark("", mark.test, mark.cases, mark.box, mark.exact, mark.line)


def mark_markdown(mark: Mark) -> str:
    """Return one test as a list item: how strictly it compares, its name as a link, its cases, its box."""
    verdict = "[exact]{.kv-exact}" if mark.exact else "[tolerance]{.kv-tolerance}"
    address = f"../{source_page(mark.file)}.html#L-{mark.line}"
    name = html.escape(mark.test.removeprefix("tests/"))
    test = f'<a class="kv-test" href="{address}"><code>{name}</code></a>, {counted(mark.cases, "case")}'
    return f"- {verdict} {test}" + (f" [{mark.box}]{{.kv-box}}" if mark.box else "")


def page_title(root: Path, page: str) -> str:
    """Return the first heading of a chapter or page."""
    lines = markdown_of(source_of(root, page)).splitlines()
    return next((line[2:].strip() for line in lines if line.startswith("# ")), page)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it needs one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# The tests' sources as pages


def source_page(file: str) -> str:
    """Return the page that shows a file of tests."""
    return file.removesuffix(".py")


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each file of tests that the ledger names, each line with an id of its own."""
    formatter = HtmlFormatter(linespans="L", wrapcode=True)
    for file in sorted({mark.file for mark in getattr(app.env, "kv_marks", [])}):
        code = highlight(Path(app.srcdir, file).read_text(encoding="utf-8"), PythonLexer(), formatter)
        up = "../" * file.count("/")
        head = f'<h1><code>{file}</code></h1><p>Tests that the <a href="{up}{PAGE}.html">ledger</a> names.</p>'
        body = f'<section>{head}<div class="highlight-python notranslate">{code}</div></section>'
        yield source_page(file), {"title": file, "body": body, "parents": []}, "page.html"


def fill_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the ledger in its place."""
    if GENERATED in source[0]:
        app.env.kv_marks = collect_marks(Path(app.srcdir))
        source[0] = source[0].replace(GENERATED, ledger_markdown(Path(app.srcdir), app.env.kv_marks))


def setup(app: Sphinx) -> dict[str, bool]:
    """Generate the page in every build: its sources are the tests, which Sphinx does not watch."""
    app.connect("source-read", fill_page)
    app.connect("html-collect-pages", source_pages)
    make_anew(app, PAGE)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
