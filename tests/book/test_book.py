"""The book's promises that need no browser: each statement tested, each picture described, each correction shown."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from labels import Label, book_labels, book_pages, labels_in, markdown_of, toc_entries
from marks import Mark, collect_tests, marks_in

ROOT = Path(__file__).parents[2]

NOTEBOOKS = [path for path in book_pages(ROOT) if path.suffix == ".ipynb"]

PICTURES = ("image/png", "image/jpeg", "image/svg+xml", "image/gif")


@pytest.fixture(scope="session")
def tests() -> list[dict[str, Any]]:
    return collect_tests(ROOT)


@pytest.fixture(scope="session")
def marks(tests: list[dict[str, Any]]) -> list[Mark]:
    return marks_in(tests)


@pytest.fixture(scope="session")
def labels() -> list[Label]:
    return book_labels(ROOT)


# Labels and marks


def test_every_label_has_a_test(labels: list[Label], marks: list[Mark]):
    unverified = {label.name for label in labels if label.on_ledger} - {mark.label for mark in marks}
    assert not unverified


def test_every_mark_says_in_which_box(marks: list[Mark]):
    assert not [mark for mark in marks if not mark.box.strip()]


def test_boxes_are_told_in_words(marks: list[Mark]):
    assert not [mark.box for mark in marks if re.search(r"<|>|\.\.", mark.box)]


def test_every_mark_has_a_label(labels: list[Label], marks: list[Mark]):
    unknown = {mark.label: mark.test for mark in marks if mark.label not in {label.name for label in labels}}
    assert not unknown


def test_labels_are_unique_and_begin_as_their_kind_demands(labels: list[Label]):
    assert not [name for name, count in Counter(label.name for label in labels).items() if count > 1]
    assert not [label for label in labels if not label.well_named]


def test_labels_are_read_as_myst_reads_them():
    page = '''
$$ a = b $$

$$
c = d
$$ (eq-plain)

````{prf:theorem} On $x$
:label: thm-outer
```{math}
:label: eq-inner
e = f
```
$$ g = h $$ (eq-nested)
````

```python
"""

$$ no = equation $$ (eq-code)

"""
```

:::{prf:example}
:label: exm-one
:::
'''
    found = {label.name: label for label in labels_in(page, "page")}
    assert list(found) == ["eq-plain", "thm-outer", "eq-inner", "eq-nested", "exm-one"]
    assert found["thm-outer"].title == "On $x$"
    assert [label.on_ledger for label in found.values()] == [True] * 4 + [False]
    assert [label.within for label in found.values()] == ["", "", "thm-outer", "thm-outer", ""]


def test_cases_of_one_function_are_counted_together():
    item = {"test": "t.py::test", "line": 7, "marks": [{"labels": ["eq-a", "eq-b"], "box": "n < 3", "exact": True}]}
    other = {"test": "t.py::test", "marks": []}
    assert marks_in([item, other, item]) == [
        Mark("eq-a", "t.py::test", 2, "n < 3", True, 7),
        Mark("eq-b", "t.py::test", 2, "n < 3", True, 7),
    ]


# Notebooks: chapters and appendices


def code_cells(notebook: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ((index, cell) for index, cell in enumerate(cells) if cell["cell_type"] == "code")


def shows_a_picture(cell: dict[str, Any]) -> bool:
    return any(kind in output.get("data", {}) for output in cell["outputs"] for kind in PICTURES)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_picture_of_a_cell_has_alt_text(notebook: Path):
    alt = {
        index: cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "").strip()
        for index, cell in code_cells(notebook)
        if shows_a_picture(cell)
    }
    assert not [index for index, text in alt.items() if not text]


@pytest.mark.parametrize("page", book_pages(ROOT), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_picture_of_a_page_has_alt_text(page: Path):
    text = markdown_of(page)
    assert not re.findall(r"!\[\s*\]\([^)]*\)", text)
    assert not [tag for tag in re.findall(r"<img\b[^>]*>", text) if not re.search(r'\balt="[^"]+"', tag)]
    directives = re.findall(r"^(`{3,}|:{3,})\{(?:image|figure)\}[^\n]*\n(.*?)^\1", text, re.M | re.S)
    assert not [body for _, body in directives if not re.search(r"^:alt: +\S", body, re.M)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_outputs_are_stored_in_running_order(notebook: Path):
    counts = [cell["execution_count"] for _, cell in code_cells(notebook) if "".join(cell["source"]).strip()]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_cell_prints_is_stored_in_one_piece(notebook: Path):
    """JupyterLab shows pieces once more when the cell runs again."""
    for _, cell in code_cells(notebook):
        streams = [output.get("name") for output in cell["outputs"]]
        assert not [after for before, after in pairwise(streams) if before == after is not None], cell["id"]


def macros_for_jupyterlab() -> dict[str, str]:
    """The site's macros as JupyterLab needs them: colours in place of classes, written without #."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    macros = config["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    light = palette("light")
    texts = {f"\\{name}": value[0] if isinstance(value, list) else value for name, value in macros.items()}
    coloured = re.compile(r"\\class\{kv-(\w+)\}")
    return {
        name: coloured.sub(lambda role: f"\\textcolor{{{light[role[1]][1:].upper()}}}", text)
        for name, text in texts.items()
    }


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_jupyterlab_knows_the_macros_of_the_site(notebook: Path):
    first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]
    front_matter = re.fullmatch(r"---\n(.*)\n---\s*", "".join(first["source"]), re.S)
    assert front_matter, "the first cell holds the macros, as front matter, and nothing else"
    assert yaml.safe_load(front_matter[1])["math"] == macros_for_jupyterlab()
    assert "remove-cell" in first["metadata"].get("tags", [])


# Pages


def test_the_first_page_links_to_each_chapter_that_exists():
    chapters = [entry[0] for entry in toc_entries(ROOT) if re.match(r"notebooks/\d_", entry[0])]
    linked = re.findall(r"</(notebooks/\d_\w+/index)>", (ROOT / "book" / "intro.md").read_text(encoding="utf-8"))
    assert list(dict.fromkeys(linked)) == chapters


def test_every_notebook_is_a_page():
    found = {path for folder in ("notebooks", "book") for path in (ROOT / folder).rglob("*.ipynb")}
    assert {path for path in found if ".ipynb_checkpoints" not in path.parts} == set(NOTEBOOKS)


def correction_rows() -> list[list[str]]:
    """The rows of all tables whose head is that of a table of corrections: what is said, what holds, the test."""
    text = (ROOT / "book" / "corrections.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| What it says \| What holds \| Test \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.M)
    assert len(tables) == len(re.findall(r"^\|[-|]+\|$", text, re.M))
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()]


def test_every_correction_names_a_test_that_exists_and_every_such_test_has_a_row(tests: list[dict[str, Any]]):
    known = {test["test"] for test in tests}
    rows = correction_rows()
    assert {name for name in known if name.startswith("tests/book/test_corrections")} == {
        row[-1].strip("`") for row in rows
    }
    for row in rows:
        named = re.findall(r"`(tests/[^`]+)`", row[-1])
        assert len(row) == 3, row
        assert named, row
        assert set(named) <= known, row


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def palette(theme: str) -> dict[str, str]:
    css = (ROOT / "book" / "_static" / "palette.css").read_text(encoding="utf-8")
    block = re.search(rf'^html\[data-theme="{theme}"\] {{(.*?)}}', css, re.M | re.S)[1]
    return dict(re.findall(r"--kv-([\w-]+): (#[0-9a-f]{6});", block))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_colour_stands_out_on_every_surface(theme: str):
    colours = palette(theme)
    surfaces = [value for name, value in colours.items() if name.startswith("surface-")]
    texts = ("input", "kernel", "output", "gradient", "padding", "ink", "muted")
    assert len(surfaces) == 3
    for text, surface in product(texts, surfaces):
        low, high = sorted([luminance(colours[text]), luminance(surface)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, surface)
