"""The book's promises that need no browser: each statement tested, each picture described, each correction shown."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import yaml

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))

from labels import Label, book_labels, book_pages, labels_in, markdown_of  # noqa: E402
from marks import Mark, collect_tests, marks_in  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = ("image/png", "image/jpeg", "image/svg+xml", "image/gif")

# What each chapter must have: a pattern in its Markdown, and how often at least.
PARTS = {
    "a title": (r"\A(?:---\n(?:.*\n)*?---\n)?\s*# \S", 1),
    "what you can do at its end": (r"^At the end of this chapter you can", 1),
    "predictions": (r"^[`:]{3,}\{admonition\} Predict", 3),
    "definitions": (r"^[`:]{3,}\{prf:definition\}", 1),
    "theorems": (r"^[`:]{3,}\{prf:theorem\}", 1),
    "proofs": (r"^[`:]{3,}\{prf:proof\}", 1),
    "in practice": (r"^## In practice", 1),
    "in the kernel": (r"^## In the kernel", 1),
    "exercises": (r"^[`:]{3,}\{exercise(?:-start)?\}", 6),
}


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
    assert (found["thm-outer"].title, found["eq-inner"].tex) == ("On $x$", "e = f")
    assert [label.on_ledger for label in found.values()] == [True] * 4 + [False]


def test_cases_of_one_function_are_counted_together():
    item = {"test": "t.py::test", "marks": [{"labels": ["eq-a", "eq-b"], "box": "n < 3", "exact": True}]}
    other = {"test": "t.py::test", "marks": []}
    assert marks_in([item, other, item]) == [
        Mark("eq-a", "t.py::test", 2, "n < 3", True),
        Mark("eq-b", "t.py::test", 2, "n < 3", True),
    ]


# Chapters


def code_cells(notebook: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ((index, cell) for index, cell in enumerate(cells) if cell["cell_type"] == "code")


def shows_a_picture(cell: dict[str, Any]) -> bool:
    return any(kind in output.get("data", {}) for output in cell["outputs"] for kind in PICTURES)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_of_a_cell_has_alt_text(notebook: Path):
    alt = {
        index: cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "").strip()
        for index, cell in code_cells(notebook)
        if shows_a_picture(cell)
    }
    assert not [index for index, text in alt.items() if not text]


@pytest.mark.parametrize("page", book_pages(ROOT), ids=lambda path: path.stem)
def test_every_picture_of_a_page_has_alt_text(page: Path):
    text = markdown_of(page)
    assert not re.findall(r"!\[\s*\]\([^)]*\)", text)
    assert not [tag for tag in re.findall(r"<img\b[^>]*>", text) if not re.search(r'\balt="[^"]+"', tag)]
    directives = re.findall(r"^(`{3,}|:{3,})\{(?:image|figure)\}[^\n]*\n(.*?)^\1", text, re.M | re.S)
    assert not [body for _, body in directives if not re.search(r"^:alt: +\S", body, re.M)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_in_running_order(notebook: Path):
    counts = [cell["execution_count"] for _, cell in code_cells(notebook) if "".join(cell["source"]).strip()]
    assert counts == list(range(1, len(counts) + 1))


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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_jupyterlab_knows_the_macros_of_the_site(notebook: Path):
    first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]
    front_matter = re.fullmatch(r"---\n(.*)\n---\s*", "".join(first["source"]), re.S)
    assert front_matter, "the first cell holds the macros, as front matter, and nothing else"
    assert yaml.safe_load(front_matter[1])["math"] == macros_for_jupyterlab()
    assert "remove-cell" in first["metadata"].get("tags", [])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_chapter_has_its_parts(notebook: Path, part: str):
    pattern, least = PARTS[part]
    assert len(re.findall(pattern, markdown_of(notebook), re.M)) >= least


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_has_a_folded_solution(notebook: Path):
    text = markdown_of(notebook)
    exercises = re.findall(r"^[`:]{3,}\{exercise(?:-start)?\}[^\n]*\n:label: *(\S+)", text, re.M)
    solutions = re.findall(r"^[`:]{3,}\{solution(?:-start)?\} *(\S+)\n:class: *.*\bdropdown\b", text, re.M)
    assert sorted(exercises) == sorted(solutions)


# Pages


def test_the_first_page_links_to_each_chapter_that_exists():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    linked = re.findall(r"</(notebooks/\w+)>", (ROOT / "book" / "intro.md").read_text(encoding="utf-8"))
    assert linked == [file for file in files if file.startswith("notebooks/")]


def correction_rows() -> list[list[str]]:
    """The rows of all tables whose head is that of a table of corrections: what is said, what holds, the test."""
    text = (ROOT / "book" / "corrections.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| What it says \| What holds \| Test \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.M)
    assert len(tables) == len(re.findall(r"^\|[-|]+\|$", text, re.M))
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()]


def test_every_correction_names_a_test_that_exists(tests: list[dict[str, Any]]):
    known = {test["test"] for test in tests}
    rows = correction_rows()
    assert rows
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


# Corrections to source 002. Its two functions, in its own terms: x and y are what it slides.


def source_002_convolution(x: np.ndarray, y: np.ndarray) -> list[Any]:
    return [sum(x[i + j] * y[len(y) - 1 - j] for j in range(len(y))) for i in range(len(x) - len(y) + 1)]


def source_002_correlation(x: np.ndarray, y: np.ndarray) -> list[Any]:
    return [sum(x[i + j] * y[j] for j in range(len(y))) for i in range(len(x) - len(y) + 1)]


def source_002_formula(f: np.ndarray, g: np.ndarray, lag: int) -> complex:
    """The sum over tau of conj(f(tau)) g(lag + tau)."""
    return sum(np.conj(f[n]) * g[lag + n] for n in range(len(f)) if 0 <= lag + n < len(g))


F, G = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
COMPLEX_F, COMPLEX_G = F + 1j * np.array([0, 1, -2, 3, 1]), G + 1j * np.array([1, -1, 2])
LAGS = range(-(len(G) - 1), len(F))


def test_source_002_valid_fails_for_a_long_second_operand():
    assert source_002_convolution(F, G) == list(np.convolve(F, G, "valid")) == [6, -1, 6]
    assert source_002_convolution(G, F) == []
    assert list(np.convolve(G, F, "valid")) == [6, -1, 6]


def test_source_002_correlation_forgets_the_conjugate():
    assert source_002_correlation(F, G) == list(np.correlate(F, G, "valid"))
    assert source_002_correlation(COMPLEX_F, COMPLEX_G) != list(np.correlate(COMPLEX_F, COMPLEX_G, "valid"))
    assert source_002_correlation(COMPLEX_F, np.conj(COMPLEX_G)) == list(np.correlate(COMPLEX_F, COMPLEX_G, "valid"))


def test_source_002_code_and_formula_exchange_the_operands():
    code = source_002_correlation(F, G)
    assert code == [source_002_formula(G, F, lag) for lag in range(len(code))]
    assert code != [source_002_formula(F, G, lag) for lag in range(len(code))]


def test_source_002_correlation_is_numpys_reversed_and_conjugated():
    numpy = dict(zip(LAGS, np.correlate(COMPLEX_F, COMPLEX_G, "full"), strict=True))
    scipys = dict(zip(LAGS, scipy.signal.correlate(COMPLEX_F, COMPLEX_G, "full"), strict=True))
    assert numpy == scipys
    assert numpy == {lag: np.conj(source_002_formula(COMPLEX_F, COMPLEX_G, -lag)) for lag in LAGS}
    assert numpy != {lag: source_002_formula(COMPLEX_F, COMPLEX_G, lag) for lag in LAGS}


def test_source_002_which_operand_is_flipped():
    formula = [source_002_formula(COMPLEX_F, COMPLEX_G, lag) for lag in range(-(len(F) - 1), len(G))]
    assert formula == list(np.convolve(np.conj(COMPLEX_F[::-1]), COMPLEX_G))
    numpy = np.correlate(COMPLEX_F, COMPLEX_G, "full")
    assert np.array_equal(numpy, np.convolve(COMPLEX_F, np.conj(COMPLEX_G[::-1])))
    assert not np.array_equal(numpy, np.convolve(np.conj(COMPLEX_F[::-1]), COMPLEX_G))


def test_source_002_correlation_does_not_commute():
    assert np.array_equal(np.convolve(F, G), np.convolve(G, F))
    assert not np.array_equal(np.correlate(F, G, "full"), np.correlate(G, F, "full"))


def test_source_002_same_is_cut_unevenly():
    for n, m in product(range(1, 9), repeat=2):
        full, same = np.convolve(np.ones(n), np.arange(1, m + 1)), np.convolve(np.ones(n), np.arange(1, m + 1), "same")
        front = (min(n, m) - 1) // 2
        end = len(full) - max(n, m) - front
        assert np.array_equal(same, full[front : len(full) - end])
        assert end - front == (min(n, m) % 2 == 0)


def test_source_002_scipys_same_has_the_first_operands_length():
    for mode in ("full", "valid"):
        assert np.array_equal(scipy.signal.convolve(G, F, mode), np.convolve(G, F, mode))
    assert len(scipy.signal.convolve(G, F, "same")) == len(G)
    assert len(np.convolve(G, F, "same")) == len(F)


def test_source_002_layers_are_equal_as_families_only():
    for n, m in product(range(1, 7), repeat=2):
        for f, g in product(np.eye(n, dtype=int), np.eye(m, dtype=int)):
            if n >= m:
                assert np.array_equal(np.convolve(f, g, "valid"), np.correlate(f, g[::-1], "valid"))
    assert not np.array_equal(np.convolve(F, G, "valid"), np.correlate(F, G, "valid"))


def test_source_002_what_stands_outside_the_array():
    periodic = [sum(F[m] * G[(n - m) % 5] for m in range(5) if (n - m) % 5 < len(G)) for n in range(5)]
    spectrum = np.fft.fft(F) * np.fft.fft(G, 5)
    assert np.round(np.fft.ifft(spectrum).real).astype(int).tolist() == periodic
    assert periodic != np.convolve(F, G)[:5].tolist()
    assert periodic[2:] == np.convolve(F, G)[2:5].tolist()
