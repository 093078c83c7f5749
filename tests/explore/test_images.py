"""What the images alone do: cells that are edited where they stand, and say what they touch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def images(browser: Any, modules: str) -> Iterator[Any]:
    """The element, on a page of its own."""
    page = browser.new_page()
    page.goto(f"{modules}images.html")
    page.evaluate("customElements.whenDefined('kv-images')")
    yield page.locator("kv-images")
    page.close()


def cell(images: Any, key: str) -> Any:
    return images.locator(f'[data-key="{key}"]')


def said(images: Any) -> str:
    return images.locator(".say").text_content()


def test_a_cell_of_each_grid_says_what_it_touches(images: Any):
    cell(images, "Output y 1").click()
    assert said(images).startswith("y[0, 1] = Σ x[u₀, 1 + u₁] w[u₀, u₁] = 3 · 2 + 2 · 1 + 0 · 0 + 1 · 3 = 11.")
    cell(images, "Kernel w 1").hover()
    assert said(images).startswith("w[0, 1] = 1 is in all 2 × 2 outputs, and meets [3, 2, 0, 1] there.")
    cell(images, "Input x 0").hover()
    assert said(images).startswith("x[0, 0] = 1 is read once: by y[0, 0] with w[0, 0] = 2.")
    assert images.locator(".in .on").count() == images.locator(".ker .fill").count() == 1
    assert images.locator(".out .fill").count() == 1


def test_what_is_typed_stays_while_the_pointer_moves_and_counts_where_it_clicks(images: Any):
    cell(images, "Input x 0").click()
    images.page.keyboard.type("7")
    cell(images, "Kernel w 1").hover()
    assert cell(images, "Input x 0").input_value() == "7"
    cell(images, "Kernel w 1").click()
    assert images.evaluate("shown => shown.state.x[0]") == [7, 3, 2]
    assert images.evaluate("shown => shown.shadowRoot.activeElement.dataset.key") == "Kernel w 1"


def test_padding_is_reached_from_the_keyboard(images: Any):
    images.get_by_label("padding above").fill("1")
    images.get_by_label("padding above").blur()
    assert images.locator(".in [tabindex='0']").count() == 2
    images.locator(".in div.g[tabindex='0']").focus()
    assert said(images).startswith("This place in the padding is 0, and is read once: by y[0, 0] with w[0, 0] = 2.")
    images.page.keyboard.press("ArrowDown")
    assert said(images).startswith("x[0, 0] = 1 is read twice")


def test_pixels_that_no_window_reads_are_marked(images: Any):
    for axis in ("rows", "columns"):
        images.get_by_label(f"stride of the {axis}").press("ArrowUp")
    assert images.locator(".in .unread").count() == 5
    assert said(images).endswith("Hatched: 5 pixels that no window reads.")
    assert "read by no window" in cell(images, "Input x 8").get_attribute("aria-label")


def test_channels_come_and_go_and_a_refusal_keeps_the_height(images: Any):
    for name in ("channels", "outputs"):
        images.get_by_label(name, exact=True).select_option("2")
    assert images.evaluate("shown => shown.model.y") == [[[6, 13], [19, 5]], [[9, 4], [4, 9]]]
    images.get_by_label("outputs", exact=True).select_option("1")
    height = images.bounding_box()["height"]
    images.get_by_label("groups", exact=True).select_option("2")
    assert (
        "out_channels must be divisible by groups, got 1 channels in 2 groups"
        in images.locator(".refused").inner_text()
    )
    assert abs(images.bounding_box()["height"] - height) < 60
    images.get_by_label("groups", exact=True).select_option("1")
    images.get_by_label("channels", exact=True).select_option("1")
    assert images.evaluate("shown => shown.text") == ""
