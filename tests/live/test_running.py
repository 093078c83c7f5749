"""The pages run where there is no PyTorch: in CPython that cannot import it, and in Chromium with Pyodide."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import laboratory
import pytest

from tests.book.browsing import CHROMIUM, FLAGS, QuietHandler, running_browser, served
from tests.live.outputs import differences, printed

ROOT = Path(__file__).parents[2]
HOW = f"set {laboratory.PARTS} to a folder with Pyodide's files, as book/live/parts.json names them, to run these tests"
FOLDERS = sorted(path.parent.name for path in ROOT.glob("notebooks/*/index.ipynb"))
WHOLE = ("5_gradients", "7_konvolution")
"""Chapters of which Chromium runs every page; of the others it runs the first."""
PAGES = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in ROOT.glob("notebooks/*/*.ipynb")
    if path.stem == "index" or path.parent.name in WHOLE or path.stem == "records"  # the records, by benchmarks
)
ADDRESS = "{site}live/notebooks/index.html?path=notebooks/{page}.ipynb"
READY = """async () => {
    const panel = () => window.jupyterapp?.shell.currentWidget;
    while (!panel()?.sessionContext?.session?.kernel) await new Promise((wait) => setTimeout(wait, 50));
    await panel().context.ready;
}"""
RUN_ALL = """async () => {
    const content = window.jupyterapp.shell.currentWidget.context.model;
    const first = [...content.cells].find((cell) => cell.type === "code");
    let answered;
    first.stateChanged.connect((_, change) => {
        if (change.name === "executionCount" && change.newValue) answered ??= performance.now();
    });
    await window.jupyterapp.commands.execute("notebook:run-all-cells");
    return [content.toJSON().cells, answered / 1000, performance.now() / 1000];
}"""


def notebook(page: str) -> dict[str, Any]:
    return json.loads((ROOT / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_all_pages_run_without_torch_and_print_what_is_stored(folder, tmp_path):
    command = [sys.executable, "-m", "tests.live.without_torch", f"notebooks/{folder}", str(tmp_path / "printed.json")]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "book" / "_ext")))
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    found = json.loads((tmp_path / "printed.json").read_text(encoding="utf-8"))
    assert "index" in found
    assert not {page: wrong for page in found if (wrong := differences(notebook(f"{folder}/{page}"), found[page]))}


class Counting(QuietHandler):
    """Notes how many bytes each file has that it sends."""

    sent: ClassVar[list[int]] = []

    def copyfile(self, source, outputfile):
        content = source.read()
        self.sent.append(len(content))
        outputfile.write(content)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if laboratory.PARTS not in os.environ:
        pytest.skip(HOW)
    folder = tmp_path_factory.mktemp("live")
    notebooks = {f"notebooks/{page}": notebook(page) for page in PAGES}
    laboratory.write_contents(folder / laboratory.WORK, notebooks, ROOT / laboratory.DATA)
    html = folder / "html"
    html.mkdir()
    laboratory.build(html)
    with served(functools.partial(Counting, directory=html)) as address, running_browser() as browser:
        yield SimpleNamespace(folder=html, address=address, browser=browser)


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_in_the_browser_and_prints_what_is_stored(site, name, capsys):
    requests: list[str] = []
    page = site.browser.new_page()
    page.context.on("request", lambda request: requests.append(request.url))
    page.goto(ADDRESS.format(site=site.address, page=name))
    page.evaluate(READY)
    cells, first, last = page.evaluate(RUN_ALL)
    page.close()
    assert not differences(notebook(name), {cell["id"]: printed(cell) for cell in cells if cell["cell_type"] == "code"})
    assert all(url.startswith((site.address, "data:", "blob:")) for url in requests)
    with capsys.disabled():
        print(f"\n{name}: the first answer after {first:.1f} s, the last after {last:.1f} s")


@pytest.mark.browser
def test_a_second_visit_loads_from_the_cache(site, tmp_path):
    sizes = []
    kept = {"user_data_dir": str(tmp_path), "executable_path": CHROMIUM, "args": FLAGS}
    with site.browser.browser_type.launch_persistent_context(**kept) as reader:
        for _ in range(2):
            Counting.sent.clear()
            page = reader.new_page()
            page.goto(ADDRESS.format(site=site.address, page="1_sequences/index"))
            page.evaluate(READY)
            page.evaluate(RUN_ALL)
            page.close()
            sizes.append(sum(Counting.sent))
    assert sizes[0] > 40e6
    assert sizes[1] < 1e6


@pytest.mark.browser
def test_what_a_reader_changes_is_kept_until_the_page_is_told_to_start_again(site):
    name = "1_sequences/index"
    way = laboratory.WAY.format(page=f"notebooks/{name}", href="", size=1, others="")
    script = (ROOT / "book" / "_static" / laboratory.SCRIPT).read_text(encoding="utf-8")
    (site.folder / "page.html").write_text(f"<h1>{way}<script>{script}</script>", encoding="utf-8")
    first = "window.jupyterapp.shell.currentWidget.context.model.cells.get(1).sharedModel"
    with site.browser.new_context() as reader:
        book, lab = reader.new_page(), reader.new_page()

        def source():
            lab.goto(ADDRESS.format(site=site.address, page=name))
            lab.evaluate(READY)
            return lab.evaluate(f"{first}.getSource()")

        book.goto(f"{site.address}page.html")
        stored = source()
        lab.evaluate(f"{first}.setSource('# Mine')")
        lab.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        assert source() == "# Mine"
        assert not book.get_by_role("button").count()
        book.reload()
        book.get_by_role("button", name="Start again").click()
        book.get_by_text("Your copy is thrown away").wait_for()
        assert source() == stored
