"""What the site calls each thing: the numbers of statements, equations, figures and exercises, read from its pages.

Everything that shows the book outside the site (copies of notebooks, the index of figures) takes its numbers from here,
so that a reader finds under one number one thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path


@dataclass(frozen=True)
class Thing:
    """A numbered thing: its name on the site (``Theorem 1.3``, ``(1.1)``), its page, and the anchor there."""

    name: str
    page: str
    anchor: str


class Reader(HTMLParser):
    """Collects, for each element with an id, the first number that stands inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._ids: list[tuple[str, str]] = []
        self._reading = ""
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._ids.append((tag, values.get("id", "")))
        classes = values.get("class", "").split()
        if not self._reading and (tag == "span" and {"caption-number", "eqno"} & set(classes)):
            self._reading, self._text = tag, ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        if self._reading:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == self._reading:
            self._reading = ""
            owner = next((name for _, name in reversed(self._ids) if name), "")
            if owner and owner not in self.found:
                self.found[owner] = self._text.strip().rstrip("#").strip()
        if tag in (open_tag for open_tag, _ in self._ids):
            while self._ids.pop()[0] != tag:
                pass  # what was left open inside: elements without an end


def numbers_of_page(text: str) -> dict[str, str]:
    """Return the numbers of one page by their anchors.

    Examples
    --------
    >>> numbers_of_page('<div id="thm-a"><p><span class="caption-number">Theorem 1.3 </span> (Lengths)</p></div>')
    {'thm-a': 'Theorem 1.3'}
    """
    reader = Reader()
    reader.feed(text)
    return reader.found


def site_numbers(site: Path, pages: list[str]) -> dict[str, Thing]:
    """Return every numbered thing of the built site by its label."""
    found = {}
    for page in pages:
        for anchor, name in numbers_of_page((site / f"{page}.html").read_text(encoding="utf-8")).items():
            found[anchor.removeprefix("equation-")] = Thing(name, page, anchor)
    return found
