"""What a page says of itself: version and date at its foot, where to report an error, and the book as one PDF.

The link for errors is there only where the build knows the repository (see launch.py); it opens a new issue with the
page, the version and the date filled in, and konvbook.js adds the section that is on the screen. The sentence of the
role ``{pdf}`` appears where `pdf.py` has printed the book into the site, and nowhere else.
"""

from __future__ import annotations

import datetime
import html
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from docutils import nodes
from hooks import change_bodies
from launch import repository
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
PDF = "convolution-verified.pdf"
SENTENCE = re.compile(r"<!-- pdf: (.*?) -->")


def version() -> str:
    """Return konvlib's version."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def date() -> str:
    """Return the day of the last commit, or today where git does not know it."""
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        return datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).date().isoformat()
    try:
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%cs"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return datetime.datetime.now(datetime.UTC).date().isoformat()


def report_address(address: str, title: str, page: str, edition: str) -> str:
    """Return the address of a new issue with its title and what a reader would have to type."""
    body = f"Page: {title} ({page})\nSection: \n{edition}\n\nWhat it says:\n\nWhat is right, and how one sees it:\n"
    return f"{address}/issues/new?{urlencode({'title': f'Error: {title}', 'body': body})}"


def sign_page(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Write the foot of one page."""
    edition = f"Version {app.config.myst_substitutions['version']}, {app.config.kv_date}"
    title = re.sub(r"<[^>]+>", "", context.get("title") or "the book")
    lines = [f'<p class="kv-colophon">{context.get("theme_extra_footer") or ""} <span>{edition}.</span>']
    if (address := repository()) is not None:
        href = html.escape(report_address(address, html.unescape(title), pagename, edition))
        lines.append(f'<a class="kv-report" href="{href}">Report an error on this page</a>')
    context["theme_extra_footer"] = "\n".join([*lines, "</p>"])


def with_pdf(text: str, folder: Path, pagename: str) -> str:
    """Return a page in which the sentences about the PDF link to it, if it is there."""
    if not (folder / PDF).exists():
        return text
    size = (folder / PDF).stat().st_size / 1e6
    href = "../" * pagename.count("/") + PDF
    return SENTENCE.sub(lambda found: f'<a class="kv-pdf" href="{href}">{found[1]}</a> ({size:.0f} MB)', text)


def pdf_role(name: str, raw: str, text: str, *others: Any, **more: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """Keep a link's text for the time when there is a PDF."""
    return [nodes.raw("", f"<!-- pdf: {html.escape(text)} -->", format="html")], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Sign every page, and let pages name the version."""
    app.add_config_value("kv_date", date(), "html")
    app.add_role("pdf", pdf_role)
    app.connect("config-inited", lambda app, config: config.myst_substitutions.update(version=version()))
    app.connect("html-page-context", sign_page)
    change_bodies(app, lambda app, page, body: with_pdf(body, Path(app.outdir), page))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
