"""Mends in what other extensions write.

Ids that they repeat on one page, the word that opens a proof, a role that screen readers no longer know, and files that
no page of this site loads.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from hooks import change_bodies
from sphinx.application import Sphinx

PROOF = re.compile(r'<div class="proof admonition" id="proof">\s*<p>Proof\. ')
SEARCH_ID = ' id="search-input"'
TIMES = re.compile(r"(<pre.*?</pre>)|(?<=\d) × (?=\d)", re.S)
REPEATED_ID = re.compile(r' id="(?:proof|exercise|solution)-content"')


def tidy(body: str) -> str:
    """Return a page's body without repeated ids, each proof in a class of its own, sizes such as 4 × 16 in one line."""
    body = PROOF.sub('<div class="proof kv-proof admonition"><p><em class="kv-proof-word">Proof.</em> ', body)
    body = TIMES.sub(lambda found: found[1] or "\u00a0×\u00a0", body)
    return REPEATED_ID.sub("", body).replace('role="doc-biblioentry"', 'role="listitem"')


def tidy_search_page(app: Sphinx, error: Exception | None) -> None:
    """Leave the id that the two search fields of this page share to the first of them."""
    page = Path(app.outdir) / "search.html"
    if error is None and page.exists():
        first, *others = page.read_text(encoding="utf-8").split(SEARCH_ID)
        page.write_text(SEARCH_ID.join([first, "".join(others)]) if others else first, encoding="utf-8")


def leave_out_files(app: Sphinx, error: Exception | None) -> None:
    """Remove Font Awesome, which icons.css replaces, and the maps of the theme's scripts and styles."""
    static = Path(app.outdir) / "_static"
    if error is None and static.exists():
        shutil.rmtree(static / "vendor" / "fontawesome", ignore_errors=True)
        for path in static.rglob("*.map"):
            path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Mend every page."""
    change_bodies(app, lambda app, page, body: tidy(body))
    app.connect("build-finished", tidy_search_page)
    app.connect("build-finished", leave_out_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
