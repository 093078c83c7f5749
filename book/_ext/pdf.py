"""The whole book as one PDF: Chromium prints the site's pages in the order of the contents, pypdf binds them.

``make pdf`` runs it on the site that ``make book`` has built. The first page bears version and date, contents follow;
each page has a running head and its number, links between pages stay inside the book, and a reader's program shows the
contents as an outline. At the end the sentences of the role ``{pdf}`` appear on the site (see edition.py).
"""

from __future__ import annotations

import functools
import html
import http.server
import io
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from edition import PDF, date, version, with_pdf
from labels import toc_entries
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject

ROOT = Path(__file__).parents[2]
TITLE, AUTHOR = "Convolution, Verified", "the authors of konvlib"
LEFT_OUT = {"genindex"}
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu"]
HREF = re.compile(r'href="([^"]*)"')
FRONT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
@page {{ size: A4; margin: 20mm 18mm 18mm; }}
body {{ font: 10pt/1.4 sans-serif; color: #1d2126; }}
h1 {{ margin: 70mm 0 4mm; font-size: 34pt; line-height: 1.1; }}
h2 {{ break-before: page; font-size: 20pt; }}
p.about {{ color: #545b64; }}
li {{ list-style: none; }}
li.chapter {{ margin-top: 2mm; font-weight: bold; break-after: avoid; }}
li a {{ display: flex; gap: 4mm; color: inherit; text-decoration: none; }}
li span:first-child {{ flex: 1; }}
ul {{ margin: 0; padding: 0; }}
</style><h1>{title}</h1><p class="about">By {author}. Version {version}, {date}.</p>
<h2>Contents</h2><ul>{entries}</ul></html>"""
PREPARE = """([start, title, targets]) => {
    document.documentElement.dataset.theme = "light";
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    const sheet = document.createElement("style");
    sheet.textContent = `@page { @top-right { content: ${title}; color: #545b64; font: 8.5pt sans-serif; } }
        @page:first { counter-increment: page ${start}; }`;
    document.head.append(sheet);
    // Lines that are longer than the page is wide are set smaller, down to a size that one can still read.
    for (const code of document.querySelectorAll("div.highlight pre")) {
        const longest = Math.max(...code.textContent.split("\\n").map((line) => line.length));
        if (longest > 90) code.style.fontSize = `${Math.max(6.4, 740 / longest)}pt`;
    }
    // A place that other pages link to is kept in the PDF only where the page itself links to it.
    const links = document.createElement("div");
    links.style.cssText = "position: absolute; top: 0; font-size: 1px; opacity: 0";
    for (const target of targets) links.insertAdjacentHTML("beforeend", `<a href="#${target}">.</a>`);
    document.querySelector("article").append(links);
}"""


@dataclass
class Printed:
    """A page of the site: where it stands in the contents, and what became of it on paper."""

    name: str
    depth: int
    title: str = ""
    first: int = 0
    pages: list[Any] = field(default_factory=list)
    places: dict[str, Any] = field(default_factory=dict)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serve without a word."""

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder to this machine."""
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def linked_places(site: Path, names: list[str]) -> dict[str, set[str]]:
    """Return, for each page, the places on it that pages link to."""
    places: dict[str, set[str]] = {name: set() for name in names}
    for name in names:
        for href in HREF.findall((site / f"{name}.html").read_text(encoding="utf-8")):
            page, fragment = urldefrag(urljoin(f"{name}.html", html.unescape(href)))
            if fragment and page.removesuffix(".html") in places:
                places[page.removesuffix(".html")].add(unquote(fragment))
    return places


def print_pages(
    browser: Any, address: str, entries: list[Printed], places: dict[str, set[str]], first: int
) -> list[bytes]:
    """Print each page, numbered on from the one before."""
    files = []
    for entry in entries:
        entry.first = first
        page = browser.new_page(reduced_motion="reduce")
        page.goto(f"{address}{entry.name}.html", wait_until="load")
        entry.title = page.locator("article h1").first.evaluate("h => h.textContent.replace(/#$/, '').trim()")
        head = "" if entry.title == TITLE else entry.title
        page.evaluate(PREPARE, [first, json.dumps(head), sorted(places[entry.name])])
        files.append(page.pdf(prefer_css_page_size=True, print_background=True))
        page.close()
        first += len(PdfReader(io.BytesIO(files[-1])).pages)
    return files


def print_front(browser: Any, entries: list[Printed], address: str) -> bytes:
    """Print the title and the contents, whose lines lead to their pages."""
    lines = "".join(
        f'<li class="{"section" if entry.depth else "chapter"}" style="margin-left: {6 * entry.depth}mm">'
        f'<a href="{address}{entry.name}.html"><span>{html.escape(entry.title or entry.name)}</span>'
        f"<span>{entry.first}</span></a></li>"
        for entry in entries
    )
    page = browser.new_page()
    page.set_content(FRONT.format(title=TITLE, author=AUTHOR, version=version(), date=date(), entries=lines))
    return page.pdf(prefer_css_page_size=True)


def bind(front: bytes, files: list[bytes], entries: list[Printed], address: str) -> PdfWriter:
    """Join the sheets, and lead links of one page to another inside the book."""
    writer = PdfWriter()
    contents = Printed("", 0)
    writer.append(PdfReader(io.BytesIO(front)), import_outline=False)
    contents.pages = writer.pages[:]
    for entry, content in zip(entries, files, strict=True):
        reader = PdfReader(io.BytesIO(content))
        start = len(writer.pages)
        entry.places = {
            name: (start + reader.get_destination_page_number(place), place.top)
            for name, place in reader.named_destinations.items()
        }
        writer.append(reader, import_outline=False)
        entry.pages = writer.pages[start:]
    by_name = {entry.name: entry for entry in entries}
    for entry in [contents, *entries]:
        for page in entry.pages:
            for link in page.get("/Annots", ()):
                lead(writer, link.get_object(), entry, by_name, address)
    parents: list[Any] = []
    for entry in entries:
        del parents[entry.depth :]
        parents.append(
            writer.add_outline_item(
                title=entry.title, page_number=entry.first - 1, parent=parents[-1] if parents else None
            )
        )
    writer.add_metadata({"/Title": TITLE, "/Author": AUTHOR, "/Subject": f"Version {version()}, {date()}"})
    return writer


def lead(writer: PdfWriter, link: Any, here: Printed, by_name: dict[str, Printed], address: str) -> None:
    """Let one link lead to a page of this book, if that is where it leads on the site."""
    target = None
    if "/Dest" in link:
        target = here.places.get(str(link["/Dest"]).removeprefix("/"))
    elif str(link.get("/A", {}).get("/URI", "")).startswith(address):
        page, fragment = urldefrag(str(link["/A"]["/URI"]))
        entry = by_name.get(urlsplit(page).path.removeprefix("/").removesuffix(".html"))
        target = entry and entry.places.get(unquote(fragment), (entry.first - 1, None))
        del link["/A"]
    if target is not None:
        number, top = target
        place = NullObject() if top is None else FloatObject(top)
        page = writer.pages[number].indirect_reference
        link[NameObject("/Dest")] = ArrayObject([page, NameObject("/XYZ"), NullObject(), place, NullObject()])


def make(site: Path) -> Path:
    """Print the site into one file in it."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        raise SystemExit("no Chromium found: apt-get install chromium, or name one in the variable CHROMIUM")
    entries = [Printed(name, depth) for name, depth in contents()]
    places = linked_places(site, [entry.name for entry in entries])
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        front = len(PdfReader(io.BytesIO(print_front(browser, entries, address))).pages)
        files = print_pages(browser, address, entries, places, front + 1)
        writer = bind(print_front(browser, entries, address), files, entries, address)
        browser.close()
    writer.compress_identical_objects()
    writer.write(site / PDF)
    for path in site.rglob("*.html"):
        if "<!-- pdf:" in (text := path.read_text(encoding="utf-8")):
            name = path.relative_to(site).with_suffix("").as_posix()
            path.write_text(with_pdf(text, site, name), encoding="utf-8")
    return site / PDF


def contents() -> list[tuple[str, int]]:
    """Return the pages of the book in order, with their depth, but for the index, whose entries are links."""
    chapters = [[(name, min(number, 1)) for number, name in enumerate(chapter)] for chapter in toc_entries(ROOT)]
    return [entry for chapter in chapters for entry in chapter if entry[0] not in LEFT_OUT]


if __name__ == "__main__":
    print(make(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_build" / "html")))
