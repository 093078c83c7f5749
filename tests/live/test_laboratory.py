"""The laboratory: what is brought together for it is checked by hash, and pages say where they run."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import laboratory
import launch
import pytest

from tests.book.browsing import QuietHandler, running_browser, served

ROOT = Path(__file__).parents[2]


def pins(**files: bytes) -> dict:
    described = {name: {"sha256": laboratory.digest(content)} for name, content in files.items()}
    return {"release": "https://release.invalid/", "files": described}


def test_each_file_is_taken_by_its_hash(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "first.js").write_bytes(b"one")
    laboratory.gather(target, pins(**{"first.js": b"one"}), str(source))
    assert (target / "first.js").read_bytes() == b"one"
    shutil.rmtree(source)
    laboratory.gather(target, pins(**{"first.js": b"one"}), str(source))  # what is there is not read again


def test_a_file_that_differs_is_named_and_not_written(tmp_path):
    (tmp_path / "first.js").write_bytes(b"another")
    with pytest.raises(laboratory.BadPart, match=r"first\.js of .* has SHA-256 \w{64}, not the pinned \w{64}"):
        laboratory.gather(tmp_path / "target", pins(**{"first.js": b"one"}), str(tmp_path))
    assert not list((tmp_path / "target").iterdir())


def test_a_file_that_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(laboratory.BadPart, match=r"first\.js is missing from "):
        laboratory.gather(tmp_path / "target", pins(**{"first.js": b"one"}), str(tmp_path))

    def unreachable(address, timeout):
        raise URLError(f"no route to {address}")

    monkeypatch.setattr(laboratory, "urlopen", unreachable)
    told = r"first\.js is missing from https://release.invalid/: .*; PYODIDE_DIST may name a folder"
    with pytest.raises(laboratory.BadPart, match=told):
        laboratory.gather(tmp_path / "target", pins(**{"first.js": b"one"}), None)


def test_all_packages_of_the_lock_are_pinned_by_the_same_hash_and_need_only_each_other(tmp_path):
    wheels = [tmp_path / f"{name}-1.0.0-py3-none-any.whl" for name in ("konvlib", "ssl", *laboratory.WHEELS)]
    for wheel in wheels:
        laboratory.write_empty_wheel(wheel)
    files, packages = laboratory.pinned()["files"], laboratory.lock(wheels)["packages"]
    names = {name.replace("_", "-") for name in packages}
    ours = {wheel.name: laboratory.digest(wheel.read_bytes()) for wheel in wheels}
    for package in packages.values():
        pin = files.get(package["file_name"])
        assert package["sha256"] == (pin["sha256"] if pin else ours[package["file_name"]])
        assert {name.replace("_", "-") for name in package["depends"]} <= names
    assert packages["konvlib"]["imports"] == ["konvlib"]


def test_cells_that_need_what_no_browser_runs_say_so():
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# T\n", "text"]},
        {"cell_type": "code", "metadata": {}, "source": ["x = 1"]},
        {"cell_type": "code", "metadata": {"tags": ["torch"]}, "source": ["import torch\n", "torch.ones(2)"]},
    ]
    found = laboratory.in_browser({"cells": cells})["cells"]
    assert [cell["source"] for cell in found] == [
        laboratory.NOTE.replace("\\1", "# T\n") + "text",
        laboratory.NEEDS,
        "x = 1",
        "%%needs PyTorch\nimport torch\ntorch.ones(2)",
    ]
    assert cells[0]["source"] == ["# T\n", "text"]
    assert cells[2]["source"][0] == "import torch\n"
    assert laboratory.in_browser({"cells": cells[:2]})["cells"][1]["source"] == "x = 1"


@pytest.mark.parametrize("live", [False, True])
def test_a_page_says_where_it_runs_if_the_site_has_a_laboratory(live):
    app = SimpleNamespace(config=SimpleNamespace(kv_live=live), srcdir=ROOT)
    body = "<h1>Title<a>#</a></h1><p>text</p>"
    found = laboratory.say_where(app, "notebooks/1_sequences/index", body)
    link = re.search(r'</h1>\s*<p class="kv-live" data-notebook="\S*"><a href="([^"]*)">.*\(it loads (\d+) MB', found)
    assert (found == body) is not live
    if live:
        assert link[1] == "../../live/notebooks/index.html?path=notebooks/1_sequences/index.ipynb"
        assert int(link[2]) == laboratory.megabytes() > 10
        assert "Colab" not in found
    assert laboratory.say_where(app, "book/conventions", body) == body


def test_the_laboratory_comes_first_and_then_who_runs_a_page_on_a_server(monkeypatch):
    monkeypatch.setenv(launch.VARIABLE, "https://github.com/o/konvlib")
    app = SimpleNamespace(config=SimpleNamespace(kv_live=True), srcdir=ROOT)
    found = laboratory.say_where(app, "notebooks/1_sequences/index", "<h1>Title</h1>")
    assert re.findall(r'href="([^"]*)">([\w ]*)', found) == [
        ("../../live/notebooks/index.html?path=notebooks/1_sequences/index.ipynb", "Run this page in your browser"),
        (f"{launch.COLAB}/github/o/konvlib/blob/gh-pages/colab/notebooks/1_sequences/index.ipynb", "Colab"),
        (f"{launch.BINDER}/v2/gh/o/konvlib/main?urlpath=lab/tree/notebooks/1_sequences/index.ipynb", "Binder"),
    ]


def test_every_page_is_offered_and_none_whose_imports_the_laboratory_lacks():
    app = SimpleNamespace(config=SimpleNamespace(kv_live=True), srcdir=ROOT)
    pages = [path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.glob("notebooks/*/*.ipynb")]
    assert len(pages) > 100
    assert not [page for page in pages if laboratory.say_where(app, page, "<h1></h1>") == "<h1></h1>"]
    cells = [{"cell_type": "code", "metadata": {"tags": tags}, "source": ["import torch"]} for tags in (["torch"], [])]
    assert [laboratory.missing({"cells": [cell]}) for cell in cells] == [set(), {"torch"}]


@pytest.mark.browser
@pytest.mark.parametrize("able", [True, False])
def test_a_browser_that_cannot_run_a_page_says_so(tmp_path, able):
    way = laboratory.WAY.format(page="page", href="there", size=1, others="").removeprefix("</h1>")
    script = (ROOT / "book" / "_static" / laboratory.SCRIPT).read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(f"<body>{way}<script>{script}</script></body>", encoding="utf-8")
    with served(functools.partial(QuietHandler, directory=tmp_path)) as address, running_browser() as browser:
        page = browser.new_page()
        if not able:
            page.add_init_script("delete globalThis.WebAssembly")
        page.goto(f"{address}page.html")
        assert page.locator("p.kv-live a").count() == able
        assert ("has no WebAssembly" in page.inner_text("body")) is not able
