"""What each chapter promises its reader, and that it is there: predictions, exercises, figures, kernels, real data.

A chapter is a folder of notebooks, of which _toc.yml says the order; what holds for each page is in test_pages.py, and
the files of the book that are no chapters are tested in test_book.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.book.pages import CHAPTERS, NOTEBOOKS, ROOT, SCALE, Chapter, Part, text_of

# A pattern in a chapter's Markdown, and how often at least.
PARTS = {
    "a title": (r"^# \S", 1),
    "goals": (r"^At the end of this chapter you can\n\n(?:- .+\n(?:  .+\n)*){3,}", 1),
    "predictions": (r"^[`:]{3,}\{admonition\} Predict before you run\n:class: tip\n", 3),
    "definitions": (r"^[`:]{3,}\{prf:definition\} \S.*\n:label: def-", 1),
    "theorems": (r"^[`:]{3,}\{prf:theorem\} \S.*\n:label: thm-", 1),
    "labelled equations": (r"^\$\$ \(eq-[\w-]+\)$", 1),
    "proofs": (r"^[`:]{3,}\{prf:proof\}", 1),
    "exercises": (r"^[`:]{3,}\{exercise(?:-start)?\} \S.*\n:label: ex-", 6),
}
LIBRARIES = {
    "NumPy": r"\bnp\.\w",
    "SciPy": r"\bfrom scipy\b|\bimport scipy\b|\bscipy\.\w|\bsignal\.\w|\bndimage\.\w|\bsparse\.\w|\blinalg\.\w",
    "PyTorch": r"\btorch\.\w|\bF\.\w",
    "JAX": r"\bjax\b|\bjnp\.\w|\blax\.\w",
    "TensorFlow": r"\btf\.\w",
}
ARRAYS = ("[1,3,2,0,4]", "[2,1,-1]", "[[1,3,2],[2,0,1],[0,4,2]]", "[[2,1],[0,3]]")
"""The running example: one axis, then two."""

REAL_DATA = r"\bget_sample_data\(|\bsample_data\b|data/digits\.npz"
every_notebook = pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.title)
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.title)
every_taught = pytest.mark.parametrize("chapter", [*CHAPTERS, SCALE], ids=lambda chapter: chapter.title)


@pytest.mark.parametrize("part", PARTS)
@every_chapter
def test_chapter_has_its_parts(chapter: Part, part: str):
    pattern, least = PARTS[part]
    assert len(re.findall(pattern, chapter.markdown + "\n", re.M)) >= least


@every_chapter
def test_a_chapter_opens_with_its_pages_and_ends_with_practice_and_exercises(chapter: Chapter):
    names = [page.title.rpartition("/")[2] for page in chapter.pages]
    assert names[0] == "index"
    assert names[-2:] == ["in_practice", "exercises"]
    folder = {path.stem for path in (ROOT / chapter.pages[0].title).parent.glob("*.ipynb")}
    assert folder == set(names)
    linked = re.findall(r"\{doc\}`(?:[^`<]*<)?(\w+)>?`", chapter.pages[0].markdown)
    assert linked == names[1:], "the opening page lists the pages in their order"
    assert chapter.page("in_practice").sections[-1].title == "Summary"
    assert chapter.page("exercises").sections[-1].title == "Further reading"


@every_taught
def test_every_statement_has_a_label_and_every_theorem_a_proof(chapter: Part):
    statements = re.findall(r"^[`:]{3,}\{prf:(\w+)\}.*\n(:label: \S+)?", chapter.markdown, re.M)
    assert not [kind for kind, label in statements if kind != "proof" and not label]
    kinds = [kind for kind, _ in statements]
    unproved = [
        kind
        for kind, after in pairwise([*kinds, "end"])
        if kind in ("theorem", "lemma", "corollary", "proposition") and after != "proof"
    ]
    assert not unproved


# Predictions and exercises


def is_prediction(cell: dict[str, Any]) -> bool:
    return cell["cell_type"] == "markdown" and "{admonition} Predict" in text_of(cell)


@every_taught
def test_every_prediction_is_followed_by_a_hidden_output_and_a_folded_answer(chapter: Part):
    places = [index for index, cell in enumerate(chapter.cells) if is_prediction(cell)]
    for index in places:
        assert text_of(chapter.cells[index]).count("{admonition} Predict") == 1, index
        end = next(i for i in range(index + 1, len(chapter.cells)) if chapter.cells[i]["cell_type"] == "markdown")
        runs, answer = chapter.cells[index + 1 : end], chapter.cells[end]
        assert runs, index
        assert any(cell["outputs"] for cell in runs), index
        for cell in runs:
            assert "hide-output" in cell["metadata"].get("tags", []), index
            assert cell["metadata"].get("jupyter", {}).get("outputs_hidden"), index
        assert re.match(r"[`:]{3,}\{dropdown\} Answer: \S", text_of(answer).lstrip()), index


@every_taught
def test_every_exercise_has_a_folded_solution_with_code(chapter: Part):
    """Between the start of a solution and its end stands a code cell, so that the solution is run."""
    exercises = re.findall(r"^[`:]{3,}\{exercise(?:-start)?\}[^\n]*\n:label: *(\S+)", chapter.markdown, re.M)
    solutions: dict[str, int] = {}
    current = None
    for cell in chapter.cells:
        if cell["cell_type"] == "code" and current:
            solutions[current] += bool(text_of(cell).strip())
        for start, name, end in re.findall(
            r"^[`:]{3,}\{(?:(solution-start)\} *(\S+)\n:class: *dropdown|(solution-end)\})",
            text_of(cell) if cell["cell_type"] == "markdown" else "",
            re.M,
        ):
            assert bool(start) == (current is None), name or end
            current = name or None
            solutions |= {name: 0} if name else {}
    assert current is None
    assert sorted(solutions) == sorted(exercises)
    assert not [name for name, cells in solutions.items() if not cells]


@every_taught
def test_two_exercises_are_judged(chapter: Chapter):
    """A skeleton stands open, its check says that nothing is there yet, and the folded solution passes the check."""
    page = chapter.page("exercises")
    verdicts = ["".join(text_of(output, "text") for output in cell["outputs"]) for cell in page.code_cells]
    judged = [text for cell, text in zip(page.code_cells, verdicts, strict=True) if "judge(" in text_of(cell)]
    assert sum(text.startswith("Not yet: ") for text in judged) >= 2
    assert sum("Right on " in text for text in judged) >= 2
    assert not [text for text in judged if "Not right" in text]


# In practice, further reading


@pytest.mark.parametrize("library", LIBRARIES)
@every_chapter
def test_in_practice_shows_every_library(chapter: Chapter, library: str):
    page = chapter.page("in_practice")
    code = page.code + "\n".join(re.findall(r"^:::\{code-block\} python\n(.*?)^:::", page.markdown, re.M | re.S))
    assert re.search(LIBRARIES[library], code), library
    assert library in page.markdown + page.code


@every_taught
def test_further_reading_cites(chapter: Chapter):
    section = chapter.page("exercises").section("Further reading")
    assert re.search(r"\{cite(?::[tp])?\}`[\w,-]+`", section.markdown)


# Examples, data, figures


@every_taught
def test_the_running_example_is_there(chapter: Part):
    code = re.sub(r"\s", "", chapter.code)
    assert all(array in code for array in ARRAYS[:2]) or all(array in code for array in ARRAYS[2:])


@every_chapter
def test_real_data_are_loaded(chapter: Part):
    assert re.search(REAL_DATA, chapter.code)


def figures_of(part: Part) -> Iterator[dict[str, Any]]:
    for cell in part.code_cells:
        if any(kind.startswith("image/") for output in cell["outputs"] for kind in output.get("data", {})):
            yield cell


@every_notebook
def test_every_figure_has_caption_name_and_alt_text(page: Part):
    names = []
    for cell in figures_of(page):
        options = cell["metadata"].get("mystnb", {})
        figure, alt = options.get("figure", {}), options.get("image", {}).get("alt", "")
        assert figure.get("caption", "").strip(), text_of(cell)
        assert figure.get("name", "").startswith("fig-"), text_of(cell)
        assert len(alt) >= 40, text_of(cell)
        assert alt != figure["caption"], text_of(cell)
        assert "nbval-ignore-output" in cell["metadata"].get("tags", []), text_of(cell)
        names.append(figure["name"])
    assert len(set(names)) == len(names)
