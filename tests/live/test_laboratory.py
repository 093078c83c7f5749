"""The laboratory: what is brought together for it is checked by hash, and the pages' notebooks run in a browser."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import laboratory
import pytest

from tests.book.browsing import QuietHandler, running_browser, served

ROOT = Path(__file__).parents[2]
HOW = f"set {laboratory.PARTS} to a folder with Pyodide's files, as book/live/parts.json names them, to run these tests"
FIRST_PAGES = sorted(path.parent.name for path in ROOT.glob("notebooks/[1-7]_*/index.ipynb"))
RUN_ALL = """async () => {
    const panel = () => window.jupyterapp?.shell.currentWidget;
    while (!panel()?.sessionContext?.session?.kernel) await new Promise((wait) => setTimeout(wait, 100));
    await panel().context.ready;
    await window.jupyterapp.commands.execute("notebook:run-all-cells");
    return panel().context.model.toJSON();
}"""


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
    wheels = [tmp_path / "konvlib-0.1.0-py3-none-any.whl", tmp_path / "ssl-1.0.0-py3-none-any.whl"]
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
        {"cell_type": "markdown", "metadata": {}, "source": ["# T"]},
        {"cell_type": "code", "metadata": {}, "source": ["x = 1"]},
        {"cell_type": "code", "metadata": {"tags": ["torch"]}, "source": ["import torch\n", "torch.ones(2)"]},
    ]
    found = laboratory.in_browser({"cells": cells})["cells"]
    assert ["".join(cell["source"]) for cell in found] == [
        "# T", laboratory.NEEDS, "x = 1", "%%needs PyTorch\nimport torch\ntorch.ones(2)",
    ]  # fmt: skip
    assert cells[2]["source"][0] == "import torch\n"
    assert laboratory.in_browser({"cells": cells[:2]})["cells"] == cells[:2]


@pytest.mark.parametrize("live", [False, True])
def test_a_page_says_where_it_runs_if_the_site_has_a_laboratory(live):
    app = SimpleNamespace(config=SimpleNamespace(kv_live=live), srcdir=ROOT)
    body = "<h1>Title<a>#</a></h1><p>text</p>"
    found = laboratory.say_where(app, "notebooks/1_sequences/index", body)
    link = re.search(r'</h1>\s*<p class="kv-live"><a href="([^"]*)">.*\(it loads (\d+) MB', found)
    assert (found == body) is not live
    if live:
        assert link[1] == "../../live/notebooks/index.html?path=notebooks/1_sequences/index.ipynb"
        assert int(link[2]) == laboratory.megabytes() > 10
    assert laboratory.say_where(app, "book/conventions", body) == body


def test_a_page_with_an_import_that_the_laboratory_lacks_is_not_offered():
    app = SimpleNamespace(config=SimpleNamespace(kv_live=True), srcdir=ROOT)
    pages = [path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.glob("notebooks/*/*.ipynb")]
    found = {page for page in pages if laboratory.say_where(app, page, "<h1></h1>") == "<h1></h1>"}
    assert found == {
        "notebooks/3_matrices/fully_connected", "notebooks/5_gradients/pooling", "notebooks/5_gradients/small_cnn",
        "notebooks/7_konvolution/exercises", "notebooks/7_konvolution/training",  # scikit-learn
        "notebooks/gpu/processor", "notebooks/gpu/records",  # benchmarks
    }  # fmt: skip
    cells = [{"cell_type": "code", "metadata": {"tags": tags}, "source": ["import torch"]} for tags in (["torch"], [])]
    assert [laboratory.missing({"cells": [cell]}) for cell in cells] == [set(), {"torch"}]


@pytest.mark.browser
@pytest.mark.parametrize("able", [True, False])
def test_a_browser_that_cannot_run_a_page_says_so(tmp_path, able):
    way = laboratory.WAY.format(href="there", size=1).removeprefix("</h1>")
    script = (ROOT / "book" / "_static" / "konvbook.js").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(f"<body>{way}<script>{script}</script></body>", encoding="utf-8")
    with served(functools.partial(QuietHandler, directory=tmp_path)) as address, running_browser() as browser:
        page = browser.new_page()
        if not able:
            page.add_init_script("delete globalThis.WebAssembly")
        page.goto(f"{address}page.html")
        assert page.locator("p.kv-live a").count() == able
        assert ("has no WebAssembly" in page.inner_text("body")) is not able


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if laboratory.PARTS not in os.environ:
        pytest.skip(HOW)
    folder = tmp_path_factory.mktemp("live")
    pages = [f"notebooks/{chapter}/index" for chapter in FIRST_PAGES]
    notebooks = {page: json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8")) for page in pages}
    laboratory.write_contents(folder / laboratory.WORK, notebooks, ROOT / laboratory.DATA)
    (folder / "html").mkdir()
    laboratory.build(folder / "html")
    with served(functools.partial(QuietHandler, directory=folder / "html")) as address, running_browser() as browser:
        yield SimpleNamespace(address=address, browser=browser)


def printed(cell: dict) -> str:
    """What a cell printed, and the text of its values, figures aside."""
    texts = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        if output["output_type"] == "error":
            texts.append(f"{output['ename']}: {output['evalue']}")
        elif "text" in output:
            texts.append("".join(output["text"]) if output["name"] == "stdout" else "")
        elif not any(kind.startswith("image/") for kind in data):
            texts.append("".join(data.get("text/plain", "")))
    return "".join(texts).strip()


@pytest.mark.browser
@pytest.mark.parametrize("chapter", FIRST_PAGES)
def test_the_first_page_of_a_chapter_runs_in_the_browser_and_prints_what_is_stored(site, chapter):
    requests: list[str] = []
    page = site.browser.new_page()
    page.context.on("request", lambda request: requests.append(request.url))
    page.goto(f"{site.address}live/notebooks/index.html?path=notebooks/{chapter}/index.ipynb")
    found = {cell["id"]: cell for cell in page.evaluate(RUN_ALL)["cells"]}
    page.close()
    stored = json.loads((ROOT / "notebooks" / chapter / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    ran = 0
    for cell in stored:
        if cell["cell_type"] != "code":
            continue
        ran += 1
        here = printed(found[cell["id"]])
        if set(cell["metadata"].get("tags", [])) & set(laboratory.ELSEWHERE):
            assert here.startswith("This cell needs ")
        else:
            assert here == printed(cell), cell["id"]
    assert ran
    assert all(url.startswith((site.address, "data:", "blob:")) for url in requests)
