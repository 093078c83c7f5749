"""Chromium, and a page that shows one explorable and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from konvlib import explore
from konvlib.explore.element import FOLDER
from tests.book.browsing import QuietHandler, running_browser, served

PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>An explorable</title>
<link rel="icon" href="data:,"><script type="module" src="{word}.js"></script></head>
<body style="background: {ground}; margin: 8px"><main><h1 style="font-size: 0">An explorable</h1>{element}</main></body>
</html>"""
GROUNDS = {"light": "#ffffff", "dark": "#15181c"}


class Handler(QuietHandler):
    """Serves the modules, and at /<word>.html a page with the explorable in its first state."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if not path.endswith(".html"):
            return super().do_GET()
        word = path.strip("/").removesuffix(".html")
        task = next((part.removeprefix("task=") for part in query.split("&") if part.startswith("task=")), None)
        element = getattr(explore, word)(task=task).element
        ground = GROUNDS["dark" if "dark" in query.split("&") else "light"]
        body = PAGE.format(word=word, element=element, ground=ground).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="session")
def modules() -> Iterator[str]:
    """The address of a server of the modules."""
    handler = functools.partial(Handler, directory=str(FOLDER))
    with served(handler) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as chromium:
        yield chromium
