"""The buttons that open a chapter elsewhere: there if the build is told the repository's address, and else not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import launch
import pytest
import yaml
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[2]

ADDRESS = "https://github.com/someone/konvolution"
FIRST = ROOT / "notebooks" / "1_sequences" / "index.ipynb"


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setenv(launch.VARIABLE, ADDRESS + "/")


def options(**given):
    config = SimpleNamespace(html_theme_options={"launch_buttons": {}, **given})
    launch.add_buttons(None, config)
    return config.html_theme_options


def app(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(outdir=folder, builder=SimpleNamespace(format="html"))


@pytest.fixture(autouse=True)
def one_copy(monkeypatch):
    copies = {"notebooks/1_sequences/index": json.loads(FIRST.read_text(encoding="utf-8"))}
    monkeypatch.setattr(launch, "copies", lambda app: copies)


def test_without_an_address_nothing_is_added(monkeypatch, tmp_path):
    monkeypatch.delenv(launch.VARIABLE, raising=False)
    assert options() == {"launch_buttons": {}}
    launch.write_copies(app(tmp_path), None)
    assert not list(tmp_path.iterdir())
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert settings["sphinx"]["config"]["html_theme_options"]["launch_buttons"] == {}


def test_the_theme_is_told_the_repository(told):
    found = options(search_bar_text="Search")
    assert found["search_bar_text"] == "Search"
    assert (found["repository_url"], found["repository_branch"]) == (ADDRESS, "main")
    assert set(found["launch_buttons"]) == {"binderhub_url", "colab_url", "notebook_interface"}


@pytest.mark.parametrize("address", ["github.com/a/b", "https://github.com/a", "https://example.org/a/b"])
def test_another_address_is_refused_by_name(monkeypatch, address):
    monkeypatch.setenv(launch.VARIABLE, address)
    with pytest.raises(
        ExtensionError, match=f"KONVLIB_REPOSITORY must be https://github.com/<owner>/<name>.*{address}"
    ):
        options()


def test_colab_opens_the_copy_and_binder_the_notebook():
    links = {name: {"text": name, "url": f"https://x/blob/main/{FIRST.name}"} for name in ("Colab", "Binder")}
    context = {"header_buttons": [{"buttons": list(links.values())}, {"text": "a button that is no group"}]}
    launch.lead_colab_to_copies(None, "", "", context, None)
    assert links["Colab"]["url"] == f"https://x/blob/gh-pages/colab/{FIRST.name}"
    assert links["Binder"]["url"] == f"https://x/blob/main/{FIRST.name}"


def test_the_copies_install_konvlib_first_and_are_the_notebook_otherwise(told, tmp_path):
    before = FIRST.read_bytes()
    launch.write_copies(app(tmp_path), None)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ipynb")] == [
        "colab/notebooks/1_sequences/index.ipynb"
    ]
    found = json.loads((tmp_path / "colab/notebooks/1_sequences/index.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert f'%pip install --quiet "konvlib[notebooks] @ git+{ADDRESS}"' in "".join(code[0]["source"])
    for picture in (ROOT / "notebooks" / "data").glob("*.png"):
        where = "https://raw.githubusercontent.com/someone/konvolution/main/notebooks/data"
        assert f'urlretrieve("{where}/{picture.name}", "../data/{picture.name}")' in "".join(code[0]["source"])
    found["cells"].remove(code[0])
    assert found == json.loads(before)
    assert FIRST.read_bytes() == before


def test_what_binder_needs_is_there():
    folder = ROOT / ".binder"
    assert (folder / "requirements.txt").read_text(encoding="utf-8") == "-r ../requirements.txt\n"
    assert "pip install --no-deps --editable ." in (folder / "postBuild").read_text(encoding="utf-8")
    assert (folder / "postBuild").stat().st_mode & 0o111
    assert (folder / "runtime.txt").read_text(encoding="utf-8").startswith("python-3.")


def test_the_workflow_runs_what_ci_runs_and_what_takes_long_and_tells_the_build_where_it_is():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    test, publish = workflow["jobs"]["test"], workflow["jobs"]["publish"]
    assert test["steps"][-1]["run"] == "bash .ci/run test-all"
    assert publish["needs"] == "test"
    build = next(step for step in publish["steps"] if step.get("run") == "make live")
    assert launch.VARIABLE in build["env"]
    push = publish["steps"][-1]
    assert push["working-directory"] == "_build/html"
    assert f"--initial-branch={launch.SITE_BRANCH}" in push["run"]
