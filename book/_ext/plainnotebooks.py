"""Copies of the notebooks that read well outside the site: in JupyterLab, in Colab.

On the site Sphinx resolves references, numbers statements and draws captions. Elsewhere a notebook is alone: a
reference to another page would show its key, and numbers would begin at 1. So a copy says what the site says: each
reference is a plain link with the site's number, each statement carries its number in its title, each figure has its
caption below it. Nothing else changes: the code and what it printed are those of the notebook.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from labels import toc_entries
from pybtex.database import Entry, parse_file
from sitenumbers import Thing, site_numbers
from sphinx.application import Sphinx

FOLDER = "lab"
WRITTEN = ".written.json"
DATA = "notebooks/data"
ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
STATEMENT = re.compile(r"^([:`]{3,})\{(prf:\w+|exercise(?:-start)?)\}[ \t]*(.*)\n((?::[\w-]+:.*\n)*)", re.M)
EQUATION = re.compile(r"^\$\$\n(.*?)\n\$\$ \(([\w-]+)\)$", re.M | re.S)
RUBRIC = re.compile(r"^:::\{rubric\} (.*)\n:heading-level: 2\n:::$", re.M)
SOLUTION = re.compile(
    r"^([:`]{3,})\{solution-start\} *(\S+)\n(?::[\w-]+:[^\n]*\n)*\1\n(.*?)(?=^[:`]{3,}\{solution-end\}|\Z)", re.M | re.S
)


class Plain:
    """Turns the Markdown of one page into what a notebook alone can show."""

    def __init__(self, page: str, things: dict[str, Thing], titles: dict[str, str], books: dict[str, str]):
        self.page, self.things, self.titles, self.books = page, things, titles, books

    def markdown(self, text: str) -> str:
        """Return a cell's Markdown without anything that only the site understands."""
        text = EQUATION.sub(self._equation, text)
        text = SOLUTION.sub(self._solution, text)
        text = STATEMENT.sub(self._statement, text)
        text = re.sub(r"^([:`]{3,})\{(?:solution|exercise)-end\}\n\1\n?", "", text, flags=re.M)
        text = RUBRIC.sub(r"## \1", text)
        text = re.sub(r"^:::\{div\}[^\n]*\n(.*?)^:::$", r"\1", text, flags=re.M | re.S)
        text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.M)
        text = re.sub(r"\[([^\]]*)\]\(#([\w-]+)\)", self._section, text)
        return ROLE.sub(self._role, text)

    def _equation(self, found: re.Match[str]) -> str:
        thing = self.things.get(found[2])
        return f"$$\n{found[1]}\n\\tag{{{thing.name.strip('()')}}}\n$$" if thing else found[0]

    def _statement(self, found: re.Match[str]) -> str:
        fence, kind, title, options = found.groups()
        label = re.search(r":label: *(\S+)", options)
        thing = self.things.get(label[1]) if label else None
        name = thing.name if thing else kind.removeprefix("prf:").removesuffix("-start").capitalize()
        title = f"{name} ({title})" if title else name
        if kind == "exercise-start":
            return f"**{title}**\n"
        return f"{fence}{{admonition}} {title}\n"

    def _solution(self, found: re.Match[str]) -> str:
        thing = self.things.get(found[2])
        name = f"Solution of {thing.name}" if thing else "Solution"
        return f"::::::{{dropdown}} {name}\n{found[3].strip() or 'Its code is folded.'}\n::::::\n"

    def _section(self, found: re.Match[str]) -> str:
        return found[1] or "that section"

    def _role(self, found: re.Match[str]) -> str:
        role, content = found.groups()
        titled = re.fullmatch(r"(.*?)\s*<([^>]+)>", content, re.S)
        text, target = (titled[1], titled[2]) if titled else ("", content)
        if role == "term":
            return text or target
        if role == "doc":
            page = target[1:] if target.startswith("/") else os.path.normpath(f"{self.page}/../{target}")
            return self._link(text or self.titles.get(page, page), page)
        if role.startswith("cite"):
            return ", ".join(self.books.get(key.strip(), key) for key in target.split(","))
        if role in ("eq", "prf:ref", "numref", "ref") and target in self.things:
            thing = self.things[target]
            return self._link(text.replace("{number}", thing.name) or thing.name, thing.page)
        return f"`{content}`" if role.startswith("py") else text or content

    def _link(self, text: str, page: str) -> str:
        if page == self.page:
            return text
        suffix = ".ipynb" if page.startswith("notebooks/") else ".md"
        return f"[{text}]({os.path.relpath(page, Path(self.page).parent)}{suffix})" if suffix == ".ipynb" else text

    def notebook(self, source: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a notebook, with captions as cells of their own."""
        found = copy.deepcopy(source)
        cells = []
        for index, cell in enumerate(found["cells"]):
            if cell["cell_type"] == "markdown" and index:
                cell["source"] = lines(self.markdown("".join(cell["source"])))
            elif index == 0:  # the front matter; the site's numbers stand in the formulas, JupyterLab shall add none
                text = "".join(cell["source"])
                cell["source"] = lines(text.replace("math:\n", "numbering:\n  equation: false\nmath:\n", 1))
            cells.append(cell)
            figure = cell["metadata"].get("mystnb", {}).get("figure", {})
            if figure:
                thing = self.things.get(figure["name"])
                text = f"*{thing.name if thing else 'Figure'}: {self.markdown(figure['caption'])}*"
                cells.append({"cell_type": "markdown", "id": f"caption-{index}", "metadata": {}, "source": lines(text)})
        found["cells"] = cells
        return found


def lines(text: str) -> list[str]:
    """Return a text as notebooks store it."""
    return text.splitlines(keepends=True)


def references(root: Path) -> dict[str, str]:
    """Return what a text calls each entry of the bibliography: ``Okabe and Ito (2008)``."""
    entries = parse_file(str(root / "book" / "references.bib")).entries
    return {key: f"{authors(entry)} ({entry.fields.get('year', 'n.d.')})" for key, entry in entries.items()}


def authors(entry: Entry) -> str:
    """Return the last names of an entry's authors, of many the first."""
    names = [" ".join(person.last_names) for person in entry.persons.get("author", [])]
    if not names:
        return entry.fields.get("organization", entry.fields.get("title", "")).strip("{}")
    return (names[0] + " et al." if len(names) > 2 else " and ".join(names)).replace("{", "").replace("}", "")


@cache
def copies(app: Sphinx) -> dict[str, dict[str, Any]]:
    """Return the copy of each notebook that is a page, by the page's name."""
    root = Path(app.srcdir)
    pages = [page for entry in toc_entries(root) for page in entry if (root / f"{page}.ipynb").exists()]
    things = site_numbers(Path(app.outdir), pages)
    titles = {page: title.astext() for page, title in app.env.titles.items()}
    books = references(root)
    return {
        page: Plain(page, things, titles, books).notebook(
            json.loads((root / f"{page}.ipynb").read_text(encoding="utf-8"))
        )
        for page in pages
    }


def beginning_with(source: str, name: str, notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a notebook with one more code cell, before all others."""
    cell = {"cell_type": "code", "execution_count": None, "id": name, "metadata": {}, "outputs": []}
    found = copy.deepcopy(notebook)
    first = next(index for index, each in enumerate(found["cells"]) if each["cell_type"] == "code")
    found["cells"].insert(first, {**cell, "source": lines(source)})
    return found


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def write_unless_edited(folder: Path, texts: dict[str, str]) -> None:
    """Write files that a reader may edit: one that is not as it was written is left alone."""
    record = folder / WRITTEN
    written = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or digest(path.read_bytes()) == written.get(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written[name] = digest(path.read_bytes())
    record.write_text(json.dumps(written), encoding="utf-8")


def write_copies(app: Sphinx, error: Exception | None) -> None:
    """Write the copies for JupyterLab beside the site."""
    if error is None and app.builder.format == "html":
        texts = {
            f"{page}.ipynb": json.dumps(nb, indent=1, ensure_ascii=False) + "\n" for page, nb in copies(app).items()
        }
        folder = Path(app.outdir).parent / FOLDER
        folder.mkdir(exist_ok=True)
        write_unless_edited(folder, texts)
        data = Path(app.srcdir) / DATA
        if data.exists():
            shutil.copytree(data, folder / DATA, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy when the site is there, since it has the numbers."""
    app.connect("build-finished", write_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
