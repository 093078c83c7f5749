"""What the matrices explorable draws and says, cell by cell, against the engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import pytest

from konvlib import conv_matrix, explore, im2col
from tests.explore.cases import cases
from tests.explore.test_explorables import Shown, defaults_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shown(browser: Any, modules: str) -> Iterator[Shown]:
    one = Shown(browser, modules, "matrices")
    yield one
    assert not one.complaints
    one.page.close()


def put(shown: Shown, state: dict[str, Any]) -> None:
    script = """if (shown.asking) shown.ask(false);
        shown.state = structuredClone(shown.constructor.start); shown.read(given); shown.paint()"""
    shown.run(script, explore.matrices(**state).state)


def labels(shown: Shown, pick: str) -> list[str]:
    script = "return [...shown.shadowRoot.querySelectorAll(`[data-key^='${given} ']`)].map((cell) => cell.ariaLabel)"
    return shown.run(script, pick)


def layer(state: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    state = defaults_of("matrices") | state
    x, w = (np.array(state[name])[None, None] for name in "xw")
    steps = {name: tuple(state[name]) for name in ("stride", "dilation")}
    return x, w, steps | {"padding": tuple(map(tuple, state["padding"]))}


def test_each_cell_says_its_entry(shown: Shown):
    for state in islice(cases("matrices").states(Random(3)), 60):
        x, w, steps = layer(state)
        put(shown, state)
        found = [re.fullmatch(r"(.+)\[(\d+), (\d+)\]: (−?\d+), .*", label) for label in labels(shown, "entry")]
        if state["view"] == "matrix":
            expected = conv_matrix(w, x.shape[1:], **steps).toarray()
        else:
            expected = im2col(x, w.shape[2:], **steps)[0]
        assert len(found) == expected.size
        for cell in found:
            assert cell
            assert cell[1] == {"matrix": "K", "columns": "columns"}[state["view"]]
            assert int(cell[4].replace("−", "-")) == expected[int(cell[2]), int(cell[3])]


def test_the_rows_that_a_stride_drops_are_those_of_the_matrix_without_it(shown: Shown):
    state = {"x": [[1, 3, 2, 0], [2, 0, 1, 4], [0, 4, 2, 1], [3, 1, 0, 2]], "w": [[1, 2], [3, 4]]}
    K = conv_matrix(np.array(state["w"])[None, None], (1, 4, 4)).toarray()
    script = """return [...shown.shadowRoot.querySelector("[aria-label='Matrix K']").children]
        .map((row) => [row.role === "row", [...row.children].map((cell) => Number(cell.textContent))])"""
    for stride in ([1, 1], [1, 2], [2, 1], [2, 2], [3, 3]):
        put(shown, state | {"stride": stride})
        kept, rows = zip(*shown.run(script), strict=True)
        assert np.array_equal(rows, K)
        assert list(kept) == [i0 % stride[0] == i1 % stride[1] == 0 for i0, i1 in np.ndindex(3, 3)]


@pytest.mark.parametrize("view", ["matrix", "columns"])
@pytest.mark.parametrize("show", ["output", "input", "tap", "entry"])
def test_what_is_chosen_lights_what_it_meets_and_is_hidden_while_it_is_asked(shown: Shown, view: str, show: str):
    for state in islice(cases("matrices").states(Random(4)), 12):
        state = state | {"view": view, "show": show}
        put(shown, state)
        lit = shown.run("return shown.shadowRoot.querySelectorAll('.inner .on').length")
        question = shown.run("return shown.question(shown.model)")
        if show in ("input", "tap"):
            # In the columns a tap is a row, with the zeros of the padding that it reads.
            assert lit == question["answer"] if view == "matrix" or show == "input" else lit >= question["answer"]
        shown.run("shown.ask(true)")
        hidden = [label for pick in ("entry", "output") for label in labels(shown, pick) if "hidden" in label]
        assert hidden or (show == "input" and question["answer"] == 0)
        if show != "output":
            chosen = shown.run("return shown.shadowRoot.querySelectorAll('.layer .out .fill').length")
            assert chosen == 0


def test_an_arrow_moves_along_the_matrix(shown: Shown):
    put(shown, {"show": "entry", "at": 1, "j": 3})
    shown.element.locator("[data-key='entry 1 3']").focus()
    for key in ("ArrowDown", "ArrowRight"):
        shown.page.keyboard.press(key)
    assert shown.run("return [shown.state.show, shown.state.at, shown.state.j]") == ["entry", 2, 4]
    assert shown.run("return shown.shadowRoot.activeElement.ariaLabel") == "K[2, 4]: 1, the weight w[0, 1]"
