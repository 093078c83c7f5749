"""Explorables on the site: each page links the modules that it needs, once.

A notebook's output brings its module along, so that it lives wherever the notebook runs; here that text is taken out,
and the module is linked from ``_static``. The browser waits for it before it paints, so that nothing moves. A page of
Markdown shows an explorable by the directive ``{explorable} sequences``.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from konvlib import explore

FOLDER = "explore"
ELEMENT = re.compile(r"<kv-([a-z-]+)[ >]")
SCRIPT = re.compile(r'\s*<script type="module" data-kv-explore="\w+">.*?</script>', re.S)


class ExplorableDirective(SphinxDirective):
    """Shows an explorable in its first state, or one of its tasks; ``:moves:`` lets it begin to play."""

    required_arguments = 1
    option_spec = {"task": directives.unchanged, "moves": directives.flag}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Return the element."""
        element = getattr(explore, self.arguments[0])(task=self.options.get("task")).element
        if "moves" in self.options:
            element = element.replace(" class=", " moves class=", 1)
        return [nodes.raw("", element, format="html")]


def words_of(body: str) -> list[str]:
    """Return the explorables of a page."""
    return sorted({name.replace("-", "_") for name in ELEMENT.findall(body)} & set(explore.__all__))


def link(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take the modules out of a page, and link them instead."""
    words = words_of(context.get("body", ""))
    if not words:
        return
    context["body"] = SCRIPT.sub("", context["body"])
    for name in explore.SHARED:
        href = context["pathto"](f"_static/{FOLDER}/{name}.js", 1)
        context["metatags"] = context.get("metatags", "") + f'\n<link rel="modulepreload" href="{href}">'
    for word in words:
        app.add_js_file(f"{FOLDER}/{word}.js", type="module", blocking="render")


def copy_modules(app: Sphinx) -> None:
    """Put the modules into the site."""
    if app.builder.format == "html":
        folder = Path(app.outdir, "_static", FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        for path in explore.FOLDER.glob("*.js"):
            shutil.copy(path, folder)


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at every page."""
    app.add_directive("explorable", ExplorableDirective)
    app.connect("builder-inited", copy_modules)
    app.connect("html-page-context", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
