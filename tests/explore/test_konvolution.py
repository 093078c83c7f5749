"""What the explorable of Konvolution alone does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.explore.test_explorables import Shown, show_words

pytestmark = pytest.mark.browser


@pytest.fixture
def shown(browser: Any, modules: str) -> Iterator[Shown]:
    one = Shown(browser, modules, "konvolution")
    yield one
    assert not one.complaints
    one.page.close()


def cell(shown: Shown, key: str) -> Any:
    return shown.element.locator(f'[data-key="{key}"]')


def test_straight_lines_through_the_origin_are_called_a_convolution(shown: Shown):
    assert "ordinary convolution" not in show_words(shown)
    shown.button("A convolution").click()
    assert "this is an ordinary convolution, with the kernel [[2, 1], [0, 3]]" in show_words(shown)
    shown.element.get_by_label("basis").select_option("chebyshev2")
    assert "this is an ordinary convolution, with the kernel [[4, 2], [0, 6]]" in show_words(shown)


def test_outputs_that_depend_on_where_zeros_are_put_are_marked(shown: Shown):
    shown.button("Two borders").click()
    for way in ("after", "before"):
        marked = shown.element.get_by_role("grid", name=f"Output, zeros {way} expanding").locator(".differs")
        assert marked.count() == 12
    cell(shown, "Output, zeros before expanding 5").click()
    assert shown.run("return [shown.state.pad, shown.at]") == ["input", 5]


def test_a_coefficient_is_dragged_and_its_tap_is_chosen(shown: Shown):
    cell(shown, "tap 3").click()
    slider = shown.element.get_by_label("coefficient of t²", exact=True)
    slider.focus()
    shown.page.keyboard.press("ArrowRight")
    assert shown.run("return shown.text") == "kappa.0.1.2.0_2.1.0.3_0.-1.1.1*tap.3"
    cell(shown, "coefficients of degree 0, tap 2").focus()
    assert shown.run("return shown.state.tap") == 2


def test_a_sample_that_is_looked_at_chooses_a_window_that_shows_it(shown: Shown):
    cell(shown, "x 8").hover()
    assert shown.run("return shown.at") == 3
    cell(shown, "channel 2, 1").hover()
    assert shown.run("return shown.at") == 0


def test_what_is_predicted_is_the_output_and_nothing_tells_it(shown: Shown):
    y = shown.run("return shown.model.y.flat()")
    for at, value in enumerate(y):
        shown.run("shown.go(given)", at)
        assert shown.run("return shown.question(shown.model).answer") == value
    shown.button("Predict").click()
    labels = shown.run(
        "return [...shown.picture.querySelectorAll('[aria-selected=true]')].map((node) => node.ariaLabel)"
    )
    assert labels == ["φ[0, 1](t) = 1 + t − t², at 1: hidden", "y[1, 1]: hidden"]
