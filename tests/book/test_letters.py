"""One letter has one meaning: what can be tested of the table of letters on the page of conventions.

A coloured macro says what a thing is, so what stands in it must be a letter of that role, or a number. Letters that the
book has given up for one meaning do not come back.
"""

from __future__ import annotations

import re

import pytest

from tests.book.pages import CHAPTERS, NOTEBOOKS, ROOT, Part

ROLES = {
    "inp": {"f", "x", "F", "X", "v", "t", "hat"},
    "knl": {"g", "w", "G", "W", "K", "h", "kappa", "phi", "tilde", "beta", "V"},
    "out": {"y", "Y"},
    "grd": {"dx", "dw", "dy", "db", "d", "da", "df", "dX", "dW", "dY", "L", "G", "H", "partial"},
}
"""What may stand first in a coloured macro: the letters of the role, or a mark over one."""

GIVEN_UP = {
    r"K\^\{?T\}?(?![a-z\\])": "the transpose is K^\\top",
    r"K'(?!')": "the transpose is K^\\top",
    r"\\mathsf\{?T\}?": "the transpose is ^\\top",
    r"\\intercal": "the transpose is ^\\top",
    r"k_4(?!\d)": "the filter of two layers is g_4",
}
ALLOWED = {"notebooks/6_strides/two_layers", "notebooks/6_strides/mistakes", "notebooks/6_strides/index"}
"""Where the letters of the homework stand, as its own."""

every_page = pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.title)


def formulas(page: Part) -> list[str]:
    return re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+(?:\n[^$\n]+)*?)\$", page.markdown, re.S)


def test_the_table_of_letters_has_each_letter_once():
    text = (ROOT / "book" / "conventions.md").read_text(encoding="utf-8")
    table = text.split("| Letter | Meaning | In code |\n", 1)[1].split("\n\n")[0]
    cells = [line.split(" | ")[0].strip("| ") for line in table.splitlines()[1:]]
    letters = [letter.strip() for cell in cells for letter in re.split(r"[,;]\s*(?![^{}]*\})", cell.replace("$", ""))]
    plain = [re.sub(r"\\(?:inp|knl|out|grd)\{(.+)\}$", r"\1", letter) for letter in letters]
    assert len(plain) > 40
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("macro", ROLES)
@every_page
def test_a_colour_stands_for_the_letters_of_its_role(page: Part, macro: str):
    mathematics = " ".join("".join(pair) for pair in formulas(page))
    inside = re.findall(rf"\\{macro}\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}", mathematics)
    plain = [re.sub(r"\\(?:text|begin|end)\{[^{}]*\}|\\[;,]", "", content) for content in inside]
    first = [found[0] for content in plain if (found := re.search(r"[a-zA-Z]+", content))]
    assert not set(first) - ROLES[macro]


@every_page
def test_letters_that_were_given_up_stay_away(page: Part):
    if page.title not in ALLOWED:
        mathematics = " ".join("".join(pair) for pair in formulas(page))
        found = {pattern: why for pattern, why in GIVEN_UP.items() if re.search(pattern, mathematics)}
        assert not found


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.title)
def test_the_imaginary_unit_stands_upright(chapter: Part):
    mathematics = " ".join("".join(pair) for pair in formulas(chapter))
    assert not re.search(r"e\^\{[^{}]*(?<![a-z{\\])i\b(?![_\[])[^{}]*\\pi", mathematics)
    assert not re.search(r"2\s*\\pi\s*i\b", mathematics)
