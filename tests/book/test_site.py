"""The finished site: builds without a warning, every link leads somewhere, and a browser finds nothing to object to.

The pages are served on this machine and driven in headless Chromium. Without Chromium those tests are skipped; in CI
they fail.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit

import pytest

from tests.book.browsing import DESKTOP, PHONE, ROOT, Page, opened, running_browser, visited

pytestmark = pytest.mark.browser

# Without a browser


def test_the_site_has_its_pages(pages: dict[str, Page]):
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    named = re.findall(r"(?:root|file): (\S+)", toc)
    assert len(named) > 5
    assert {f"{name}.html" for name in named} | {"index.html", "search.html"} <= set(pages)


def test_every_link_leads_somewhere(site: Path, pages: dict[str, Page]):
    broken = []
    for name, page in pages.items():
        for reference in page.references:
            address, fragment = urldefrag(urljoin(f"http://site/{name}", reference))
            parts = urlsplit(address)
            if parts.netloc != "site" or parts.scheme != "http":
                continue
            target = unquote(parts.path).lstrip("/")
            if target == "live/notebooks/index.html":  # the laboratory, whose contents stand beside the site
                target = f"../laboratory/content/{parse_qs(parts.query)['path'][0]}"
            if not (site / target).is_file():
                broken.append(f"{name}: {reference}")
            elif fragment and target in pages and unquote(fragment) not in pages[target].ids:
                broken.append(f"{name}: {reference} has no such anchor")
    assert not broken


def test_no_page_repeats_an_id(pages: dict[str, Page]):
    repeated = {name: {i for i in page.ids if page.ids.count(i) > 1} for name, page in pages.items()}
    assert not {name: ids for name, ids in repeated.items() if ids}


def test_no_page_names_a_script_or_style_of_another_host(site: Path):
    foreign = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"')
    found = {
        path.name: foreign.findall(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }
    assert not {name: tags for name, tags in found.items() if tags}


# In the browser


@dataclass
class Findings:
    """What a browser has to say about one page; each list is empty where all is well."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    mathematics: list[str] = field(default_factory=list)
    search_boxes: int = 0
    inaccessible: list[str] = field(default_factory=list)
    on_paper: list[str] = field(default_factory=list)
    too_wide: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def findings(pages: dict[str, Page], address: str) -> dict[str, Findings]:
    """Visit each page once, wide and narrow, light and dark, on screen and on paper: two browsers share the pages."""
    names = visited(pages)

    def examined(names: list[str]) -> dict[str, Findings]:
        with running_browser() as chromium:
            return {name: examine(chromium, address, name) for name in names}

    with ThreadPoolExecutor() as threads:
        halves = list(threads.map(examined, (names[::2], names[1::2])))
    return halves[0] | halves[1]


def examine(browser: Any, address: str, name: str) -> Findings:
    found = Findings()
    page = opened(browser, address + name, found)
    found.mathematics = page.evaluate(MATHEMATICS)
    found.search_boxes = page.locator("input[type=search]:visible, .search-button-field:visible").count()
    page.emulate_media(media="print")
    page.wait_for_timeout(100)
    found.on_paper = page.evaluate(ON_PAPER)
    page.emulate_media(media="screen")
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(100)
    found.too_wide = page.evaluate(TOO_WIDE)
    page.evaluate(UNFOLD)
    page.wait_for_timeout(100)
    found.too_wide += page.evaluate(TOO_WIDE)
    page.set_viewport_size(DESKTOP)
    page.evaluate(ONE_OF_EACH_KIND)
    found.inaccessible = violations(page, "light") + violations(page, "dark", only="color-contrast")
    page.close()
    found.requests = [url for url in found.requests if not url.startswith((address, "data:"))]
    return found


def violations(page: Any, theme: str, only: str | None = None) -> list[str]:
    """Let axe-core look at the page in one theme."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    options = {"resultTypes": ["violations"], "preload": False} | ({"runOnly": [only]} if only else {})
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{theme}: {violation['id']}: {[node['html'][:160] for node in violation['nodes']][:3]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]


MATHEMATICS = """() => {
    const article = document.querySelector("article") ?? document.body;
    const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    const problems = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (node.parentElement.closest("code, pre, script, style, mjx-container")) continue;
        if (/\\$[^$]+\\$|\\\\[(\\[]/.test(node.data)) problems.push(`raw: ${node.data.trim().slice(0, 80)}`);
    }
    for (const source of article.querySelectorAll("span.math, div.math"))
        if (!source.querySelector("mjx-container mjx-assistive-mml math"))
            problems.push(`not typeset: ${source.textContent}`);
    for (const error of article.querySelectorAll("mjx-merror")) problems.push(`error: ${error.textContent}`);
    for (const script of document.scripts) if (/mathjax/i.test(script.src)) problems.push(`a script: ${script.src}`);
    for (const sign of article.querySelectorAll("mjx-c"))
        if (sign.checkVisibility() && getComputedStyle(sign, "::before").content === "none")
            problems.push(`no sign for ${sign.className}`);
    return problems;
}"""

ON_PAPER = """() => {
    const furniture = ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer";
    const folded = "article details > :not(summary)";
    const shown = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
    return [
        ...[...document.querySelectorAll(furniture)].filter(shown).map((e) => `shown: ${e.className}`),
        ...[...document.querySelectorAll(folded)].filter((e) => !shown(e)).map((e) => `folded: ${e.textContent}`),
    ];
}"""

UNFOLD = """() => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
}"""

# axe-core takes a while for each element: it need not see a kind of token twice, nor the inside of a formula, nor all
# functions and rows of a long list.
ONE_OF_EACH_KIND = """() => {
    for (const formula of document.querySelectorAll("mjx-container")) formula.replaceChildren();
    const counts = new Map();
    for (const entry of document.querySelectorAll("dl.py, tbody > tr, .genindextable li")) {
        counts.set(entry.parentElement, (counts.get(entry.parentElement) ?? 0) + 1);
        if (counts.get(entry.parentElement) > 6) entry.remove();
    }
    const seen = new Set();
    for (const token of document.querySelectorAll(".highlight pre span[class]")) {
        const kind = `${token.className} in ${token.closest("[class*=cell_], dl, article")?.className}`;
        if (seen.has(kind)) token.replaceWith(...token.childNodes);
        seen.add(kind);
    }
}"""

TOO_WIDE = """() => {
    const width = document.documentElement.clientWidth;
    const clipped = (e) => {
        for (let box = e.parentElement; box; box = box.parentElement)
            if (box !== document.body && getComputedStyle(box).overflowX !== "visible") return true;
        return false;
    };
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("body *")]
        .filter((e) => e.getBoundingClientRect().right > width + 1 && !clipped(e))
        .map((e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`)
        .concat([`the page is ${document.documentElement.scrollWidth} wide`]);
}"""


@pytest.mark.parametrize("promise", ["complaints", "requests", "mathematics", "inaccessible", "on_paper", "too_wide"])
def test_a_browser_finds_nothing_wrong(findings: dict[str, Findings], promise: str):
    wrong = {name: getattr(found, promise) for name, found in findings.items()}
    assert not {name: what for name, what in wrong.items() if what}


def test_every_page_has_one_search_box(findings: dict[str, Findings]):
    assert {name: found.search_boxes for name, found in findings.items()} == dict.fromkeys(findings, 1)


def test_the_dark_theme_follows_the_system_and_recolours_formulas(address: str, browser: Any):
    roles = ("input", "kernel", "output", "gradient", "padding")
    colours = set()
    for scheme in ("light", "dark"):
        page = opened(browser, address + "book/conventions.html", color_scheme=scheme)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        for role in roles:
            formula = page.locator(f"mjx-container .kv-{role}").first
            colours.add(formula.evaluate("e => getComputedStyle(e).color"))
        page.close()
    assert len(colours) == 2 * len(roles)


def test_what_scrolls_can_be_reached_by_keyboard(address: str, browser: Any):
    page = opened(browser, address + "book/conventions.html", viewport=PHONE)
    assert page.locator(".pst-scrollable-table-container[tabindex='0']").count() > 0
    page.close()


def test_search_finds_a_word(address: str, browser: Any):
    page = opened(browser, address + "search.html")
    page.locator("input[type=search]:visible").fill("correlation")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a[href*='book/conventions.html']", timeout=10_000)
    page.close()
