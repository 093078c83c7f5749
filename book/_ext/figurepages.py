"""The index of figures: each with its number, its caption, the page that it stands on, and its file.

The files have their names when the site is written, so the list is put into its page at the end of a build.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from hooks import make_anew
from labels import toc_entries
from sphinx.application import Sphinx

PAGE = "book/figures"
GENERATED = "<!-- generated: figures -->"
FIGURE = re.compile(r'<figure [^>]*id="(fig-[\w-]+)".*?<img [^>]*?src="([^"]+)".*?<figcaption>(.*?)</figcaption>', re.S)
CAPTION = re.compile(
    r'"caption-number">(.*?)</span>\s*<span class="caption-text">(.*?)</span>(?=<a class="headerlink"|</p>)', re.S
)


@dataclass(frozen=True)
class Figure:
    """A figure of the site: its anchor, its file as its page names it, its number, its caption as HTML."""

    anchor: str
    file: str
    number: str
    caption: str


def figures_of(page: str) -> Iterator[Figure]:
    """Yield the figures of a page's HTML."""
    for anchor, file, inside in FIGURE.findall(page):
        caption = CAPTION.search(inside)
        if caption:
            yield Figure(anchor, file, caption[1].strip(), caption[2].strip())


def list_of_figures(site: Path, pages: list[str], titles: dict[str, str]) -> str:
    """Return the index as HTML: a fold for each page that has figures."""
    sections = []
    for page in pages:
        found = list(figures_of((site / f"{page}.html").read_text(encoding="utf-8")))
        if found:
            address = relpath(f"{page}.html", Path(PAGE).parent)
            items = "".join(item(figure, page, address) for figure in found)
            title = html.escape(titles[page])
            name = page.replace("/", "-")
            count = f"{len(found)} figure{'s' if len(found) > 1 else ''}"
            summary = f"<summary>{title}: {count}</summary>"
            sections.append(
                f'<details class="kv-fold" id="{name}">{summary}<ul class="kv-figures">{items}</ul></details>'
            )
    return "\n".join(sections)


def item(figure: Figure, page: str, address: str) -> str:
    """Return one figure as a list item."""
    file = relpath(str(Path(page).parent / figure.file), Path(PAGE).parent)
    return (
        f'<li><a href="{address}#{figure.anchor}">{figure.number}</a> {figure.caption} '
        f'<a href="{file}" download>File<span class="visually-hidden"> of {figure.number}</span></a></li>'
    )


def fill_page(app: Sphinx, error: Exception | None) -> None:
    """Put the list into its page."""
    path = Path(app.outdir) / f"{PAGE}.html"
    if error is None and app.builder.format == "html" and path.exists():
        pages = [page for entry in toc_entries(Path(app.srcdir)) for page in entry if page != PAGE]
        pages = [page for page in pages if (Path(app.outdir) / f"{page}.html").exists()]
        titles = {page: title.astext() for page, title in app.env.titles.items()}
        text = path.read_text(encoding="utf-8")
        if GENERATED in text:
            path.write_text(text.replace(GENERATED, list_of_figures(Path(app.outdir), pages, titles)), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the page when all others are written, and write it anew in every build."""
    app.connect("build-finished", fill_page)
    make_anew(app, PAGE)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
