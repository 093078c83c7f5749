"""The ledger: every numbered statement of the book beside the tests that verify it.

Where a page holds the line ``GENERATED``, the entries take its place before the page is parsed.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from labels import Label, book_labels, markdown_of, source_of
from marks import Mark, collect_marks
from sphinx.application import Sphinx

PAGE = "book/ledger"
GENERATED = "<!-- generated: ledger -->"


def ledger_markdown(root: Path) -> str:
    """Return the whole ledger as MyST Markdown: one section per page that has labelled statements."""
    claims: dict[str, list[Mark]] = {}
    for mark in collect_marks(root):
        claims.setdefault(mark.label, []).append(mark)
    statements = [label for label in book_labels(root) if label.on_ledger]
    sections = [
        section_markdown(root, page, list(labels), claims)
        for page, labels in groupby(statements, key=lambda label: label.page)
    ]
    return "\n\n".join(sections) or "The book has no labelled statement yet."


def section_markdown(root: Path, page: str, labels: list[Label], claims: dict[str, list[Mark]]) -> str:
    """Return the entries of one page."""
    tests = {mark.test for label in labels for mark in claims.get(label.name, [])}
    head = f"## {page_title(root, page)}"
    counts = f"{counted(len(labels), 'statement')}, {counted(len(tests), 'test function')}. Read it: {{doc}}`/{page}`."
    return "\n\n".join([head, counts, *(entry_markdown(label, claims.get(label.name, [])) for label in labels)])


def entry_markdown(label: Label, marks: list[Mark]) -> str:
    """Return one statement: its number as a link, its title or equation, and its tests."""
    if label.kind == "equation":
        statement = f"Equation {{eq}}`{label.name}`\n\n$$\n{label.tex}\n$$"
    else:
        statement = f"{{prf:ref}}`{label.name}` {label.title}".strip()
    tests = "\n".join(mark_markdown(mark) for mark in marks) or "- No test yet."
    return f"::::{{div}} kv-entry\n{statement}\n\n{tests}\n::::"


def mark_markdown(mark: Mark) -> str:
    """Return one test as a list item: how strictly it compares, its name, its cases, its box."""
    verdict = "[exact]{.kv-exact}" if mark.exact else "[tolerance]{.kv-tolerance}"
    test = f"[`{mark.test.removeprefix('tests/')}`, {counted(mark.cases, 'case')}]{{.kv-test}}"
    return f"- {verdict} {test}" + (f" [{mark.box}]{{.kv-box}}" if mark.box else "")


def page_title(root: Path, page: str) -> str:
    """Return the first heading of a chapter or page."""
    return next(
        (line[2:].strip() for line in markdown_of(source_of(root, page)).splitlines() if line.startswith("# ")), page
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it needs one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def fill_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the ledger in its place."""
    if GENERATED in source[0]:
        source[0] = source[0].replace(GENERATED, ledger_markdown(Path(app.srcdir)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Generate the page in every build: its sources are the tests, which Sphinx does not watch."""
    app.connect("source-read", fill_page)
    app.connect("env-get-outdated", lambda app, env, added, changed, removed: [PAGE] if PAGE in env.found_docs else [])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
