"""The notebooks of the book as the tests read them: cells, sections, Markdown and code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labels import DIRECTIVE as DIRECTIVE
from labels import split_options as split_options
from labels import toc_entries

ROOT = Path(__file__).parents[2]

Cell = dict[str, Any]


def text_of(part: dict[str, Any], key: str = "source") -> str:
    """A text of a notebook, which may be stored as one string or as lines."""
    text = part.get(key, "")
    return text if isinstance(text, str) else "".join(text)


@dataclass(frozen=True)
class Part:
    """Some cells of a notebook: all of them, or a section."""

    title: str
    cells: tuple[Cell, ...]

    @property
    def code_cells(self) -> list[Cell]:
        return [cell for cell in self.cells if cell["cell_type"] == "code"]

    @property
    def code(self) -> str:
        return "\n".join(map(text_of, self.code_cells))

    @property
    def markdown(self) -> str:
        return "\n\n".join(text_of(cell) for cell in self.cells if cell["cell_type"] == "markdown")

    @property
    def sections(self) -> list[Part]:
        """From each heading of the second level to the next, also where two stand in one cell."""
        found: list[tuple[str, list[Cell]]] = []
        for cell in self.cells:
            whole = cell["cell_type"] == "code"
            for text in [text_of(cell)] if whole else re.split(r"^(?=## )", text_of(cell), flags=re.M):
                heading = None if whole else re.match(r"## (.+)", text)
                if heading:
                    found.append((heading[1].strip(), []))
                if found:
                    found[-1][1].append(cell if whole else {**cell, "source": text})
        return [Part(title, tuple(cells)) for title, cells in found]

    def section(self, title: str) -> Part:
        return next(section for section in self.sections if section.title == title)


def notebook(page: str) -> Part:
    return Part(page, tuple(json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]))


@dataclass(frozen=True)
class Chapter(Part):
    """A chapter: the cells of all its pages, and the pages."""

    pages: tuple[Part, ...]

    def page(self, name: str) -> Part:
        return next(page for page in self.pages if page.title.rpartition("/")[2] == name)


def chapter(entry: list[str]) -> Chapter:
    pages = tuple(map(notebook, entry))
    word = entry[0].split("/")[1]
    return Chapter(word, tuple(cell for page in pages for cell in page.cells), pages)


ENTRIES = [entry for entry in toc_entries(ROOT) if (ROOT / f"{entry[0]}.ipynb").exists()]
CHAPTERS = [chapter(entry) for entry in ENTRIES if re.match(r"notebooks/\d_", entry[0])]
SCALE = next(chapter(entry) for entry in ENTRIES if entry[0] == "notebooks/scale/index")
"""The part on what exceeds one machine: no chapter, and its pages owe their readers what a chapter's do."""

NOTEBOOKS = [notebook(page) for entry in ENTRIES for page in entry]
"""Every page that is a notebook, in reading order."""
