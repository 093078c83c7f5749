"""Scripts and styles that one page needs, and no other page loads."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

FILES = {
    "book/ledger": ("ledger.js", "ledger.css"),
    "book/translation": ("translation.js", "translation.css"),
    "search": ("search.js",),
}


def add_files(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a page its own files."""
    for name in FILES.get(pagename, ()):
        if name.endswith(".js"):
            app.add_js_file(name, priority=900)  # after the theme's and Sphinx's own
        else:
            app.add_css_file(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at every page before it is written."""
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
