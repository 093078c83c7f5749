"""Explorables in JupyterLab: a sentence where an output is stored and not trusted, alive when the cell has run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from konvlib import explore

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # JupyterLab on a busy machine takes minutes, or misses a click
ROOT = Path(__file__).parents[2]
PATIENCE = 120


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab with one notebook, whose output is stored and whose author is a stranger."""
    folder = tmp_path_factory.mktemp("lab")
    cell = nbformat.v4.new_code_cell("from konvlib import explore\n\nexplore.strides(w1=[1, 2])")
    shown = explore.strides(w1=[1, 2])
    data = {"text/plain": repr(shown), "text/html": shown._repr_html_()}
    cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "page.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    private = {name: str(folder / name) for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = os.environ | private | {"PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_for(f"{address}api", server)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(PATIENCE):
        assert server.poll() is None, "JupyterLab has ended"
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(1)
    pytest.fail("JupyterLab does not answer")


def test_a_stored_output_is_a_sentence_and_lives_when_the_cell_runs(laboratory: str, browser: Any):
    page = browser.new_page()
    page.goto(f"{laboratory}doc/tree/page.ipynb", timeout=1000 * PATIENCE)
    output = page.locator(".jp-OutputArea-output")
    sentence = explore.strides(w1=[1, 2]).sentence
    output.get_by_text(sentence).wait_for(timeout=1000 * PATIENCE)
    assert output.inner_text().strip() == sentence
    idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    idle.wait_for(state="attached", timeout=1000 * PATIENCE)
    page.locator(".jp-CodeCell .cm-content").click()
    page.locator("[data-command='notebook:run-cell-and-select-next']").first.click()
    said = output.locator("kv-strides .say")
    said.wait_for(timeout=1000 * PATIENCE)
    assert "w[2]" in said.inner_text()
    assert output.get_by_role("button", name="Copy link").count() == 0
    assert output.get_by_role("button", name="Copy NumPy").count() == 1
    page.close()
