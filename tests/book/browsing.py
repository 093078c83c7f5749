"""What the browser tests share: the site's pages as files, Chromium, and a server on this machine."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
NO_CHROMIUM = "no Chromium found: apt-get install chromium, or name one in the variable CHROMIUM"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 375, "height": 800}
DESKTOP = {"width": 1400, "height": 900}


class Page(HTMLParser):
    """What a page refers to, and what others may refer to in it."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.append(value or "")
            if name in ("href", "src") and value is not None:
                self.references.append(value)


def visited(pages: dict[str, Page]) -> list[str]:
    """The pages that a browser looks at, longest first; of the listings of tests, which are all alike, one."""
    names = sorted(set(pages) - {"index.html"}, key=lambda name: -len(pages[name].ids))
    listings = [name for name in names if name.startswith("tests/")]
    return [name for name in names if name not in listings[1:]]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def served(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on this machine that answers as a handler says."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def running_browser() -> Iterator[Any]:
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(NO_CHROMIUM)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def opened(browser: Any, url: str, found: Any = None, **context: Any) -> Any:
    page = browser.new_page(**{"viewport": DESKTOP, "reduced_motion": "reduce", **context})
    if found:
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("requestfailed", lambda request: found.complaints.append(f"failed: {request.url}"))
        page.on("response", lambda reply: reply.ok or found.complaints.append(f"{reply.status}: {reply.url}"))
        page.on("console", lambda line: line.type == "error" and found.complaints.append(line.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.goto(url, wait_until="load")
    page.wait_for_timeout(100)
    return page
