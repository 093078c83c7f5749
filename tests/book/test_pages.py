"""What each page of a chapter owes its reader: the need, a picture before code, folded machinery, one sitting."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from tests.book.pages import CHAPTERS, NOTEBOOKS, SCALE, Part, text_of

PAGES = [page for chapter in (*CHAPTERS, SCALE) for page in chapter.pages]
PROMPTS = ("code_prompt_show", "code_prompt_hide")
TEACHING_CELLS, LINES, WIDTH = 8, 15, 78
"""The most that a page shows unfolded: cells, lines of a cell, characters of a line."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.title.removeprefix("notebooks/"))
every_notebook = pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.title)


def tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def shows_a_picture(cell: dict[str, Any]) -> bool:
    return any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", []))


def in_solutions(page: Part) -> list[dict[str, Any]]:
    """The code cells between the start of a solution and its end."""
    inside, found = False, []
    for cell in page.cells:
        if cell["cell_type"] == "markdown":
            for start, _ in re.findall(r"^[`:]{3,}\{(?:(solution-start)\}|(solution-end)\})", text_of(cell), re.M):
                inside = bool(start)
        elif inside:
            found.append(cell)
    return found


def teaching_cells(page: Part) -> list[dict[str, Any]]:
    """The code that a reader of the page sees: neither folded nor inside a solution."""
    folded = in_solutions(page)
    return [cell for cell in page.code_cells if "hide-input" not in tags(cell) and cell not in folded]


@every_page
def test_a_page_has_one_title_and_says_what_it_needs(page: Part):
    titles = re.findall(r"^# (.+)", page.markdown, re.M)
    assert len(titles) == 1
    way = re.search(r"^:::\{div\} kv-way\n(.*?)^:::$", page.markdown, re.M | re.S)
    assert way
    assert "**Needs**" in way[1]
    if not page.title.endswith("/index"):
        assert "**Comes from**" in way[1]
        assert "**Next**" in way[1]


@every_page
def test_a_page_is_one_sitting(page: Part):
    seen = teaching_cells(page)
    most = 16 if page.title.endswith(("/in_practice", "/exercises")) else TEACHING_CELLS
    assert len(seen) <= most
    for cell in seen:
        lines = text_of(cell).splitlines()
        assert len(lines) <= LINES, lines[0]
        assert not [line for line in lines if len(line) > WIDTH]


@every_page
def test_no_code_is_seen_before_the_first_picture(page: Part):
    """On a page that has a picture, what stands before it is folded: the set-up."""
    pictures = [index for index, cell in enumerate(page.code_cells) if shows_a_picture(cell)]
    if pictures and not page.title.endswith(("/in_practice", "/exercises")):
        early = page.code_cells[: pictures[0]]
        if page.title.endswith("/index"):
            assert not [text_of(cell) for cell in early if "hide-input" not in tags(cell)]


@every_page
def test_what_is_folded_says_what_it_is_and_is_folded_in_jupyterlab_too(page: Part):
    for cell in page.code_cells:
        if "hide-input" in tags(cell):
            prompts = [cell["metadata"].get("mystnb", {}).get(prompt) for prompt in PROMPTS]
            assert all(prompts), text_of(cell)
            assert cell["metadata"].get("jupyter", {}).get("source_hidden"), text_of(cell)
    for cell in in_solutions(page):
        assert cell["metadata"].get("jupyter", {}).get("source_hidden"), text_of(cell)


@every_page
def test_no_prediction_is_given_away_by_the_line_that_jupyterlab_shows(page: Part):
    """JupyterLab shows the first line of a collapsed output."""
    for cell in page.code_cells:
        if "hide-output" in tags(cell) and cell["outputs"]:
            first = next(line for line in text_of(cell["outputs"][0], "text").splitlines() if line)
            assert first.endswith(":"), first
            assert not re.search(r"\d", first), first


@every_notebook
def test_a_figure_shows_before_it_is_trusted(page: Part):
    """SVG needs trust in JupyterLab, PNG does not."""
    for cell in page.code_cells:
        for output in cell["outputs"]:
            if "image/svg+xml" in output.get("data", {}):
                assert "image/png" in output["data"], text_of(cell)


def names_in(code: str, kind: type[ast.expr_context]) -> set[str]:
    """The names that a cell reads or binds, functions, classes and imports among the latter."""
    tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.M))
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}
    if kind is ast.Store:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


@pytest.mark.parametrize("library", ["torch", "jax", "dask"])
@every_notebook
def test_what_needs_a_large_library_says_so_and_nothing_depends_on_it(page: Part, library: str):
    made: set[str] = set()
    own: set[str] = set()
    for cell in page.code_cells:
        code = text_of(cell)
        if library in tags(cell):
            made |= names_in(code, ast.Store)
        else:
            own |= names_in(code, ast.Store)
            assert not re.search(rf"^\s*(?:import|from) {library}\b", code, re.M), code
            assert not (names_in(code, ast.Load) & made) - own, code
