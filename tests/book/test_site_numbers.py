"""What a page costs its reader, measured on every page in headless Chromium: height, weight, shift, first paint.

And what a phone shows of it: whole equations, legible digits.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.book.browsing import ROOT, Page, opened, running_browser, visited

pytestmark = pytest.mark.browser

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
HEIGHT_OF_CHAPTER_PAGES, HEIGHT_OF_OTHERS = 10_000, 15_000
HEIGHT_OF_LEDGER = 20_000
"""It has a row for each statement and a filter: one looks into it, and does not read it from top to bottom."""

WEIGHT = 2_200_000
SHIFT = 0.1
FIRST_PAINT = 1500
STATIC_FILES = 3_000_000


@dataclass
class Numbers:
    """The measures of one page; what a phone spoils is a list of complaints."""

    height: int = 0
    weight: int = 0
    shifts: list[float] = field(default_factory=list)
    first_paint: float = 0.0
    on_a_phone: list[str] = field(default_factory=list)


WATCH_SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""

MEASURE = """() => {
    const loaded = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    return {
        height: document.documentElement.scrollHeight,
        weight: loaded.reduce((sum, entry) => sum + entry.encodedBodySize, 0),
        shift: window.shift,
        paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
    };
}"""

ON_A_PHONE = """() => {
    const problems = [];
    const name = (e) => e.textContent.trim().replace(/\\s+/g, " ").slice(0, 70);
    const scrolls = (e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    const article = document.querySelector("article.bd-article");
    if (!article) return problems;
    const room = article.getBoundingClientRect();
    for (const block of article.querySelectorAll("div.math")) {
        const box = block.querySelector("mjx-container");
        const number = block.querySelector(".eqno");
        const edges = box.getBoundingClientRect();
        if (!edges.width) continue;
        if (edges.right > room.right + 1 && !block.closest(".pst-scrollable-table-container, td"))
            problems.push(`an equation leaves the page: ${name(box)}`);
        if (box.scrollWidth > box.clientWidth + 1 && !scrolls(box)) problems.push(`cut: ${name(box)}`);
        const left = box.firstElementChild.getBoundingClientRect().left;
        if (left < edges.left - 1) problems.push(`cut at the left: ${name(box)}`);
        if (number && number.getBoundingClientRect().top < edges.bottom - 2)
            problems.push(`a number beside its equation: ${name(box)}`);
    }
    for (const tie of article.querySelectorAll(".kv-tied")) {
        const formula = [...tie.querySelector("mjx-math").getClientRects()].at(-1);
        const stop = document.createRange();
        stop.selectNodeContents(tie.lastChild);
        const rects = [...stop.getClientRects()];
        if (formula && rects.length && rects.at(-1).top > formula.bottom + 2)
            problems.push(`a stop alone: ${name(tie)}`);
    }
    for (const picture of article.querySelectorAll(".kv-picture img")) {
        const least = parseFloat(picture.style.getPropertyValue("--kv-least"));
        const width = picture.getBoundingClientRect().width;
        if (width && width < least - 1) problems.push(`small digits: ${picture.alt.slice(0, 60)}: ${width} < ${least}`);
    }
    for (const picture of article.querySelectorAll("img"))
        if (!picture.getAttribute("width") || !picture.getAttribute("height"))
            problems.push(`a picture without its size: ${picture.src}`);
    for (const box of article.querySelectorAll(".cell_output pre"))
        if (box.scrollWidth > box.clientWidth + 1) problems.push(`an output is clipped: ${name(box)}`);
    return problems;
}"""


def measured(browser: Any, url: str) -> Numbers:
    """Visit a page twice, on a screen and on a phone, each time as for the first time."""
    found = Numbers()
    for viewport in (WIDE, NARROW):
        context = browser.new_context(viewport=viewport, reduced_motion="reduce")
        page = context.new_page()
        page.add_init_script(WATCH_SHIFTS)
        page.goto(url, wait_until="load")
        page.wait_for_timeout(300)
        numbers = page.evaluate(MEASURE)
        found.shifts.append(numbers["shift"])
        if viewport is WIDE:
            found.height, found.weight, found.first_paint = numbers["height"], numbers["weight"], numbers["paint"]
        else:
            found.on_a_phone = page.evaluate(ON_A_PHONE)
        context.close()
    return found


@pytest.fixture(scope="session")
def numbers(pages: dict[str, Page], address: str) -> dict[str, Numbers]:
    names = visited(pages)

    def halved(names: list[str]) -> dict[str, Numbers]:
        with running_browser() as chromium:
            return {name: measured(chromium, address + name) for name in names}

    with ThreadPoolExecutor() as threads:
        halves = list(threads.map(halved, (names[::2], names[1::2])))
    return halves[0] | halves[1]


def chapter_pages() -> set[str]:
    """The pages of the chapters, as the table of contents names them."""
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    return {f"{name}.html" for name in re.findall(r"file: (notebooks/\S+)", toc)}


def test_a_page_is_one_sitting(numbers: dict[str, Numbers]):
    chapters = chapter_pages()
    assert chapters
    limits = {name: HEIGHT_OF_CHAPTER_PAGES if name in chapters else HEIGHT_OF_OTHERS for name in numbers}
    limits["book/ledger.html"] = HEIGHT_OF_LEDGER
    assert not {name: page.height for name, page in numbers.items() if page.height > limits[name]}


def test_a_first_visit_loads_little(numbers: dict[str, Numbers]):
    assert not {name: page.weight for name, page in numbers.items() if page.weight > WEIGHT}


def test_nothing_moves_while_one_reads(numbers: dict[str, Numbers]):
    assert not {name: page.shifts for name, page in numbers.items() if max(page.shifts) > SHIFT}


@pytest.mark.slow
def test_the_first_paint_comes_soon(numbers: dict[str, Numbers], address: str, browser: Any):
    """A page that was late is asked again, twice: the machine may have been busy."""
    late = {name for name, page in numbers.items() if page.first_paint > FIRST_PAINT}
    paints = {name: [opened(browser, address + name).evaluate(MEASURE)["paint"] for _ in range(2)] for name in late}
    assert not {name: again for name, again in paints.items() if min(again) > FIRST_PAINT}


def test_a_phone_shows_whole_equations_and_legible_digits(numbers: dict[str, Numbers]):
    assert not {name: page.on_a_phone for name, page in numbers.items() if page.on_a_phone}


def test_the_site_ships_only_what_its_pages_load(site: Path):
    files = [path for path in (site / "_static").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert not [name for name in names if name.endswith(".map") or "mathjax.js" in name or "all.min" in name]
    assert sum(path.stat().st_size for path in files) < STATIC_FILES
    sheet = (site / "_static" / "mathematics.css").read_text(encoding="utf-8")
    fonts = {path.name for path in (site / "_static" / "mathematics").iterdir()}
    assert fonts == set(re.findall(r"MathJax_\w+-?\w*\.woff", sheet))
