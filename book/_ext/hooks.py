"""Hooks into a build that several extensions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sphinx.application import Sphinx

Change = Callable[[Sphinx, str, str], str]
"""Takes the build, a page's name and its body, and returns the body as it is to be written."""


def change_bodies(app: Sphinx, change: Change, priority: int = 500) -> None:
    """Pass the body of each page through a function before it is written."""

    def on_page(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        if "body" in context:
            context["body"] = change(app, pagename, context["body"])

    app.connect("html-page-context", on_page, priority=priority)


def make_anew(app: Sphinx, pages: str) -> None:
    """Read the pages whose names begin so in every build: they come from what Sphinx does not watch."""

    def outdated(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
        return [name for name in env.found_docs if name.startswith(pages)]

    app.connect("env-get-outdated", outdated)
