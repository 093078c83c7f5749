"""Buttons that open a chapter in Binder or Colab, on a site whose build is told where the repository is.

The publishing workflow sets ``KONVLIB_REPOSITORY`` to the address, ``https://github.com/<owner>/<name>``. Without it
there are no buttons, so that no copy of the site shows a link that leads nowhere. Binder opens the repository's own
notebook. Colab has no konvlib: it opens a copy that installs it first. The copies are written into the site, in
``colab/``, and the workflow publishes the site on the branch ``gh-pages``, where Colab finds them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from plainnotebooks import beginning_with, copies
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

VARIABLE = "KONVLIB_REPOSITORY"
BRANCH, SITE_BRANCH = "main", "gh-pages"
COPIES = "colab"
BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
DATA = Path(__file__).parents[2] / "notebooks" / "data"


def repository() -> str | None:
    """Return the address that the build was told, or None."""
    address = os.environ.get(VARIABLE, "").rstrip("/")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ExtensionError(f"{VARIABLE} must be https://github.com/<owner>/<name>, got {address!r}")
    return address or None


def elsewhere(page: str) -> dict[str, str]:
    """Return where a page that is a notebook runs, by the name of who runs it, if the build was told the repository."""
    address = repository()
    if address is None:
        return {}
    name = address.removeprefix("https://github.com/")
    return {
        "Colab": f"{COLAB}/github/{name}/blob/{SITE_BRANCH}/{COPIES}/{page}.ipynb",
        "Binder": f"{BINDER}/v2/gh/{name}/{BRANCH}?urlpath=lab/tree/{page}.ipynb",
    }


def add_buttons(app: Sphinx, config: Config) -> None:
    """Tell the theme of the repository, so that it draws the buttons."""
    address = repository()
    if address is not None:
        config.html_theme_options |= {
            "repository_url": address,
            "repository_branch": BRANCH,
            "path_to_docs": "",
            "use_repository_button": True,
            "launch_buttons": {
                "binderhub_url": BINDER,
                "colab_url": COLAB,
                "notebook_interface": "jupyterlab",
            },
        }


def lead_colab_to_copies(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the theme's Colab button of a page open its copy."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("text") == "Colab":
                button["url"] = button["url"].replace(f"/blob/{BRANCH}/", f"/blob/{SITE_BRANCH}/{COPIES}/")


def fetching(address: str) -> list[str]:
    """Return the lines that fetch the pictures that notebooks read, to where the notebooks look for them."""
    names = sorted(path.name for path in DATA.iterdir() if path.suffix != ".md") if DATA.exists() else []
    lines = ["    from pathlib import Path\n", "    from urllib.request import urlretrieve\n", "\n"]
    lines += ['    Path("../data").mkdir(exist_ok=True)\n']
    where = address.replace("github.com", "raw.githubusercontent.com") + f"/{BRANCH}/notebooks/data"
    return lines + [f'    urlretrieve("{where}/{name}", "../data/{name}")\n' for name in names] if names else []


def installing(notebook: dict[str, Any], address: str) -> dict[str, Any]:
    """Return a copy of a notebook whose first code cell installs konvlib where it is missing."""
    source = [
        "import importlib.util\n",
        "\n",
        'if importlib.util.find_spec("konvlib") is None:\n',
        f'    %pip install --quiet "konvlib[notebooks] @ git+{address}"\n',
        *fetching(address),
    ]
    return beginning_with("".join(source), "install-konvlib", notebook)


def write_copies(app: Sphinx, error: Exception | None) -> None:
    """Write the copies for Colab into the site."""
    address = repository()
    if error is not None or address is None or app.builder.format != "html":
        return
    for page, notebook in copies(app).items():
        target = Path(app.outdir, COPIES, f"{page}.ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(installing(notebook, address), indent=1, ensure_ascii=False)
        target.write_text(text + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add buttons before the theme reads its options, and mend them after the theme has drawn them."""
    app.connect("config-inited", add_buttons)
    app.connect("html-page-context", lead_colab_to_copies, priority=900)
    app.connect("build-finished", write_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
