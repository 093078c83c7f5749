"""The built site and a browser, once for all tests that look at pages."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.book.browsing import ROOT, Page, QuietHandler, running_browser, served


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the book as it is published, its laboratory aside, warnings being errors, into a folder of its own.

    ``KONVLIB_SITE`` names one that is built already, for who works on the tests.
    """
    if built := os.environ.get("KONVLIB_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("site")
    build = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", build, "build", ".", "-W", "-n", "--keep-going", "--path-output", str(folder)],
        cwd=ROOT,
        env=os.environ | {"KONVLIB_LIVE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the build failed:\n{done.stdout[-500:]}\n{done.stderr[-6000:]}", pytrace=False)
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    files = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    return {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in files}


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(site))
    with served(handler) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as chromium:
        yield chromium
