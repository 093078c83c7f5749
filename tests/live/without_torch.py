"""Run the notebooks of a folder as the laboratory has them, where neither PyTorch, JAX nor Dask can be imported.

What each cell prints is written as JSON, by page and cell. All notebooks share one process, which is quick, and each
begins with an empty shell.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import laboratory
import matplotlib
from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from tqdm import tqdm

from tests.live.outputs import text_of

ABSENT = {"torch", "triton", "jax", "jaxlib", "sklearn", "dask", "distributed", "zarr"}


class NotThere:
    """Finds no module of the absent libraries, before all others look."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Shown(DisplayHook):
    """Shows a cell's value as it shows all else."""

    def __call__(self, result: Any = None) -> None:
        if result is not None and not self.quiet():
            display(result)


def run(shell: InteractiveShell, notebook: dict[str, Any]) -> dict[str, str]:
    """Return what each code cell of a notebook prints, and the text of its values, figures aside."""
    shell.reset()
    matplotlib.rcdefaults()
    found = {}
    for cell in laboratory.in_browser(notebook)["cells"]:
        if cell["cell_type"] == "code":
            with capture_output() as captured:
                done = shell.run_cell("".join(cell["source"]))
            error = done.error_in_exec or done.error_before_exec
            texts = [text_of(output.data) for output in captured.outputs]
            told = "".join(traceback.format_exception_only(error)) if error else ""
            found[cell["id"]] = (captured.stdout + "".join(texts) + told).strip()
    return found


if __name__ == "__main__":
    sys.meta_path.insert(0, NotThere)  # type: ignore[arg-type]
    matplotlib.use("module://matplotlib_inline.backend_inline")
    shell = InteractiveShell.instance(colors="nocolor", displayhook_class=Shown)
    folder = Path(sys.argv[1]).resolve()
    os.chdir(folder)
    pages = sorted(folder.glob("*.ipynb"))
    told = {page.stem: run(shell, json.loads(page.read_text(encoding="utf-8"))) for page in tqdm(pages, unit="page")}
    assert not ABSENT & {name.partition(".")[0] for name in sys.modules}
    Path(sys.argv[2]).write_text(json.dumps(told), encoding="utf-8")
