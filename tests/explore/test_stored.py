"""What notebooks store of explorables: the modules as they are, and one in the opening page of each chapter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from konvlib.explore import element

ROOT = Path(__file__).parents[2]
SCRIPT = re.compile(r'<script type="module" data-kv-explore="(\w+)">\n(.*?)</script>', re.S)


def stored(path: Path) -> list[tuple[str, str]]:
    """The explorables that a notebook stores: the word and the module of each."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    return [found for text in texts for found in SCRIPT.findall(text)]


PAGES = {path: found for path in sorted(ROOT.glob("notebooks/*/*.ipynb")) if (found := stored(path))}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_stored_modules_are_those_of_the_library(path: Path):
    old = [word for word, text in PAGES[path] if text != element.module(word)]
    assert not old, "execute the notebook again: make notebooks"


@pytest.mark.parametrize("chapter", sorted(ROOT.glob("notebooks/[1-7]_*")), ids=lambda chapter: chapter.name)
def test_each_chapter_begins_with_its_explorable_and_has_exercises_in_it(chapter: Path):
    word = chapter.name[2:]
    assert [found for found, _ in PAGES[chapter / "index.ipynb"]] == [word]
    assert len(PAGES[chapter / "exercises.ipynb"]) >= 2
