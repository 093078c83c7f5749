"""The first page's picture is the one that its program draws, and its numbers are konvlib's."""

from __future__ import annotations

import re

import sliding

import konvlib
from tests.book.pages import ROOT

PICTURE = (ROOT / "book" / "_static" / "sliding.svg").read_text(encoding="utf-8")


def test_the_picture_is_drawn_by_its_program():
    assert sliding.picture() == PICTURE


def test_its_sums_are_the_convolution():
    sums = [line.replace("−", "-").split(" = ") for line in re.findall(r">([^<]+ = [^<]+)</text>", PICTURE)]
    assert [int(value) for _, value in sums] == konvlib.convolve(sliding.F, sliding.G).tolist()
    assert [eval(line.replace("·", "*")) for line, _ in sums] == [int(value) for _, value in sums]


def test_it_stops_moving_within_five_seconds_and_does_not_move_where_that_is_not_wanted():
    places = len(sliding.F) + len(sliding.G) - 1
    assert places * sliding.STEP < 5
    assert "prefers-reduced-motion: reduce" in PICTURE
