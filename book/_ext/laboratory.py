"""The laboratory: every page's notebook in the reader's browser, by JupyterLite and Pyodide, without a server.

``make live`` tells the build so by the variable ``KONVLIB_LIVE``, and each page whose notebook can run then says "Run
this page in your browser" below its title. Afterwards this file, run on the site, puts the laboratory beside it:
Pyodide, each file checked against the hash that ``book/live/parts.json`` holds, konvlib as a wheel, and copies of the
notebooks. Pyodide's files come from the folder that ``PYODIDE_DIST`` names, else from its official release. What a
reader changes there stays in the browser, and the page's line can throw it away (``_static/laboratory.js``).
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from hooks import change_bodies
from launch import elsewhere
from plainnotebooks import DATA, beginning_with, copies, digest
from sphinx.application import Sphinx
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
PINS = ROOT / "book" / "live"
FOLDER, WORK, CONTENTS = "live", "laboratory", "content"
"""Where it stands in the site; where it is made, beside the site; and there, what it offers."""
LIVE, PARTS = "KONVLIB_LIVE", "PYODIDE_DIST"
WHEELS = ("comm", "tqdm")
"""What notebooks and their kernel import besides Pyodide's own packages: pure Python, pinned in requirements.txt."""
ELSEWHERE = {"torch": "PyTorch", "jax": "JAX", "dask": "Dask"}
NEEDS = """from IPython.core.magic import register_cell_magic


@register_cell_magic
def needs(library, cell):
    print(f"This cell needs {library}, which is not in this laboratory. make lab runs it, and so do Colab and Binder.")
"""
TITLE = re.compile(r"^(# .*\n)", re.M)
NOTE = r"""\1
:::{admonition} This page runs here, in your browser
:class: tip

*Run › Run All Cells* runs it; Shift and Enter run one cell. `[*]` stands beside a cell that runs or waits: the first
waits until Python, NumPy, SciPy and Matplotlib are loaded. What you change is kept in this browser: *File › Download*
saves it, and *Start again* on the book's page throws it away.
:::
"""
IMPORT = re.compile(r"^\s*(?:import|from) (\w+)", re.M)
WAY = (
    '</h1>\n<p class="kv-live" data-notebook="{page}.ipynb"><a href="{href}">Run this page in your browser</a> '
    "<span>(it loads {size} MB the first time, and installs nothing)</span>{others}</p>"
)
SCRIPT = "laboratory.js"
READ_BY_PAGES = "benchmarks"
"""A package that pages of the last part import from the project's root, with the records that it reads."""


class BadPart(Exception):
    """A file of Pyodide is missing, or is not the one that is pinned."""


@cache
def pinned() -> dict[str, Any]:
    """Return the pins: where the release is, and the hash and size of each file."""
    return json.loads((PINS / "parts.json").read_text(encoding="utf-8"))


def gather(target: Path, pins: dict[str, Any], source: str | None) -> None:
    """Bring Pyodide's files into a folder, each checked against its hash.

    Raises
    ------
    BadPart
        If a file is missing or has another hash; nothing that was not checked is written.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name, pin in tqdm(pins["files"].items(), desc="Pyodide", unit="file"):
        path = target / name
        if path.exists() and digest(path.read_bytes()) == pin["sha256"]:
            continue
        content = read(name, pins["release"], source)
        if digest(content) != pin["sha256"]:
            where = source or pins["release"]
            raise BadPart(f"{name} of {where} has SHA-256 {digest(content)}, not the pinned {pin['sha256']}")
        path.write_bytes(content)


def read(name: str, release: str, source: str | None) -> bytes:
    """Return a file of the folder, or of the release."""
    try:
        if source is not None:
            return Path(source, name).read_bytes()
        with urlopen(release + name, timeout=120) as reply:
            return reply.read()
    except OSError as error:
        told = "" if source is not None else f"; {PARTS} may name a folder that has the files"
        raise BadPart(f"{name} is missing from {source or release}: {error}{told}") from error


def build_wheels(target: Path) -> list[Path]:
    """Make konvlib's wheel, and fetch those that go with it, in the versions of requirements.txt."""
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M))
    wanted = [f"{name}=={pins[name]}" for name in WHEELS]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(target), str(ROOT), *wanted], check=True)
    write_empty_wheel(target / "ssl-1.0.0-py3-none-any.whl")
    return sorted(target.glob("*.whl"))


def write_empty_wheel(path: Path) -> None:
    """Write a package without content: the kernel asks for ``ssl``, which nothing here uses and which is large."""
    name, version = path.name.split("-")[:2]
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: konvlib\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for part, text in texts.items():
            archive.writestr(f"{name}-{version}.dist-info/{part}", text)


def lock(wheels: list[Path]) -> dict[str, Any]:
    """Return Pyodide's list of packages with ours in it, so that an import in a cell loads them."""
    found = json.loads((PINS / "pyodide-lock.json").read_text(encoding="utf-8"))
    # What its modules import, some of them inside functions; and what the benchmarks beside it import.
    needed = {"konvlib": ["numpy", "scipy", "matplotlib", *WHEELS]}
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        found["packages"][name] = {
            "depends": needed.get(name, []),
            "file_name": wheel.name,
            "imports": [name],
            "install_dir": "site",
            "name": name,
            "package_type": "package",
            "sha256": digest(wheel.read_bytes()),
            "unvendored_tests": False,
            "version": version,
        }
    return found


def in_browser(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a notebook that says how to run it, and whose cells say if they need what no browser runs."""
    found = copy.deepcopy(notebook)
    title = next(cell for cell in found["cells"] if TITLE.search("".join(cell["source"])))
    title["source"] = TITLE.sub(NOTE, "".join(title["source"]), count=1)
    tagged = [(cell, tag) for cell in found["cells"] for tag in cell["metadata"].get("tags", []) if tag in ELSEWHERE]
    for cell, tag in tagged:
        cell["source"] = [f"%%needs {ELSEWHERE[tag]}\n", *cell["source"]]
    found = beginning_with(NEEDS, "needs", found) if tagged else found
    for cell in found["cells"]:
        cell["source"] = "".join(cell["source"])  # without a server nothing else joins lines for JupyterLab's contents
    return found


def missing(notebook: dict[str, Any]) -> set[str]:
    """Return what a notebook's cells import, the tagged ones aside, that the laboratory does not have."""
    packages = json.loads((PINS / "pyodide-lock.json").read_text(encoding="utf-8"))["packages"].values()
    there = {
        "konvlib",
        READ_BY_PAGES,
        *WHEELS,
        *sys.stdlib_module_names,
        *(name for each in packages for name in each["imports"]),
    }
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    own = ["".join(cell["source"]) for cell in cells if not set(ELSEWHERE) & set(cell["metadata"].get("tags", []))]
    return {name for code in own for name in IMPORT.findall(code)} - there


def write_contents(work: Path, notebooks: dict[str, dict[str, Any]], data: Path) -> None:
    """Write what the laboratory offers: the pages' notebooks, by name, and the files that they read."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(data, work / CONTENTS / DATA)
    unused = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / READ_BY_PAGES, work / CONTENTS / READ_BY_PAGES, ignore=unused)
    for page, notebook in notebooks.items():
        target = work / CONTENTS / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(in_browser(notebook), ensure_ascii=False), encoding="utf-8")


def build(site: Path) -> None:
    """Put the laboratory beside the pages of a site that stands in ``site``, whose contents are written."""
    parts, work = site.parent / "pyodide", site.parent / WORK
    gather(parts, pinned(), os.environ.get(PARTS))
    wheels = build_wheels(work / "wheels")
    for name in ("jupyter-lite.json", "jupyter_lite_config.json"):
        shutil.copy(PINS / name, work)
    shutil.rmtree(site / FOLDER, ignore_errors=True)
    command = [sys.executable, "-m", "jupyterlite_core", "build", "--lite-dir", ".", "--output-dir"]
    found = subprocess.run([*command, str((site / FOLDER).absolute())], cwd=work, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stdout + found.stderr)
    pyodide = site / FOLDER / "static" / "pyodide"
    shutil.copytree(parts, pyodide)
    for wheel in wheels:
        shutil.copy(wheel, pyodide)
    (pyodide / "pyodide-lock.json").write_text(json.dumps(lock(wheels)), encoding="utf-8")


def megabytes() -> int:
    """Return how much a first visit loads at most, of Pyodide and its packages."""
    return round(sum(pin["bytes"] for pin in pinned()["files"].values()) / 1e6)


def say_where(app: Sphinx, page: str, body: str) -> str:
    """Say below the title of a page that is a notebook that it runs here, if all that it imports is here."""
    path = Path(app.srcdir) / f"{page}.ipynb"
    if not app.config.kv_live or not path.exists() or missing(json.loads(path.read_text(encoding="utf-8"))):
        return body
    up = "../" * page.count("/")
    others = "".join(f', or in <a href="{href}">{name}</a>' for name, href in elsewhere(page).items())
    href = f"{up}{FOLDER}/notebooks/index.html?path={page}.ipynb"
    way = WAY.format(page=page, href=href, size=megabytes(), others=others)
    return body.replace("</h1>", way, 1)


def write_copies(app: Sphinx, error: Exception | None) -> None:
    """Write the contents of a site that is to have a laboratory."""
    if error is None and app.builder.format == "html" and app.config.kv_live:
        write_contents(Path(app.outdir).parent / WORK, copies(app), Path(app.srcdir) / DATA)


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at every page."""
    app.add_config_value("kv_live", bool(os.environ.get(LIVE)), "html")  # pages are written anew when it changes
    change_bodies(app, say_where)
    if os.environ.get(LIVE):
        app.add_js_file(SCRIPT)
    app.connect("build-finished", write_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except BadPart as error:
        sys.exit(str(error))
