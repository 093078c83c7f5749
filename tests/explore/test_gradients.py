"""The two convolutions that stand beside the gradients give the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import pytest

from konvlib import explore
from tests.book.browsing import opened
from tests.explore.cases_gradients import states

pytestmark = pytest.mark.browser


@dataclass
class Seen:
    complaints: list[str]
    requests: list[str]


def test_both_derived_layers_give_the_gradients(browser: Any, modules: str):
    page = opened(browser, f"{modules}gradients.html", Seen([], []))
    script = """(shown, given) => given.map((text) => {
        shown.state = structuredClone(shown.constructor.start);
        shown.read(text);
        const { dx, dw, traded } = shown.compute(shown.state);
        return JSON.stringify([dx, dw]) === JSON.stringify([traded.dx, traded.dw]);
    })"""
    texts = [explore.gradients(**state).state for state in islice(states(Random(3)), 500)]
    assert all(page.locator("kv-gradients").evaluate(script, texts))
    page.close()


def test_a_new_size_of_the_output_resizes_its_gradient(browser: Any, modules: str):
    page = opened(browser, f"{modules}gradients.html", Seen([], []))
    shown = page.locator("kv-gradients")
    shown.get_by_role("button", name="x: one column more").click()
    assert shown.evaluate("shown => shown.state.dy") == [[1, -1, 1], [2, 1, 1]]
    shown.get_by_role("button", name="w: one row more").click()
    assert shown.evaluate("shown => shown.state.dy") == [[1, -1, 1]]
    page.close()


def test_what_is_asked_stands_nowhere(browser: Any, modules: str):
    page = opened(browser, f"{modules}gradients.html", Seen([], []))
    shown = page.locator("kv-gradients")
    shown.get_by_role("button", name="Predict").click()
    cell = shown.locator('.area-dx [data-go="dx 4"]')
    assert shown.locator(".guess b").text_content() == "dx[1, 1] ="
    assert cell.text_content() == "?"
    assert cell.get_attribute("aria-label") == "dx[1, 1], hidden"
    assert cell.get_attribute("data-met") == ""
    page.close()
