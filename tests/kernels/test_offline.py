"""Every kernel compiles for Hopper, spills no register and fits in shared memory, on any machine with Triton.

A chapter adds its kernels as rows: one per signature and set of constants that its launchers use. What the main loops
of the rows are made of is held to ``offline/bounds.json``.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.offline import halo as offline_halo
from tests.kernels.offline import layers as offline_layers
from tests.kernels.offline import pooling as offline_pooling
from tests.kernels.offline import preparation as offline_preparation
from tests.kernels.offline import sequences as offline_sequences
from tests.kernels.offline.compiling import SHARED_MEMORY, figures

triton = pytest.importorskip("triton")

FAMILIES = {
    "sequences": offline_sequences,
    "layers": offline_layers,
    "halo": offline_halo,
    "preparation": offline_preparation,
    "pooling and columns": offline_pooling,
}
BOUNDED = ("layers", "halo", "preparation", "pooling and columns")
BOUNDS = json.loads(Path(__file__).with_name("offline").joinpath("bounds.json").read_text(encoding="utf-8"))
"""Of each row's main loop: matrix products, asynchronous copies, waits, drains, instructions of the machine."""

CHANCE = 1.02
"""The assembler orders and moves instructions by chance: a small change elsewhere makes a loop that much longer."""


EVERY = (pytest.param(4, id="one in four"), pytest.param(1, id="all", marks=pytest.mark.slow))
"""Compiling takes a second a row: all rows are for the long run."""


@cache
def reports_of(family: str, step: int) -> dict[str, dict[str, Any]]:
    return figures(FAMILIES[family].ROWS[::step])


@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_fit_on_hopper(family, step):
    """One test per family, since each starts a compiler of its own."""
    names = [row.name for row in FAMILIES[family].ROWS]
    assert len(set(names)) == len(names)
    reports = reports_of(family, step)
    most = getattr(FAMILIES[family], "SPILLED", 0)
    assert not [name for name, report in reports.items() if max(report["spilled"], report["stack"]) > most]
    assert not [name for name, report in reports.items() if report["shared"] > SHARED_MEMORY]
    assert not [name for name, report in reports.items() if report["registers"] * report["warps"] * 32 > 65536]
    products = {row.name for row in getattr(FAMILIES[family], "PRODUCTS", [])} & set(reports)
    assert not [name for name in products if not reports[name]["tensor_core"]]
    wide = {row.name for row in getattr(FAMILIES[family], "WIDE", [])} & set(reports)
    assert not [name for name in wide if reports[name]["loads"] + reports[name]["stores"] != [16, 16]]
    gemms = {row.name for row in getattr(FAMILIES[family], "GEMMS", [])} & set(reports)
    assert not [name for name in gemms if not reports[name]["asynchronous"] or reports[name]["drains"]]


@pytest.mark.skipif(triton.__version__ != BOUNDS["triton"], reason="the bounds are another compiler's")
@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("family", BOUNDED)
def test_main_loops_stay_as_short_as_they_are(family, step):
    """No product fewer or more, no copy that became a load, no wait more, and no instruction more but for chance."""
    for name, report in reports_of(family, step).items():
        products, copies, waits, drains, instructions = BOUNDS[name]
        assert (report["products"], report["copies"]) == (products, copies), name
        assert report["waits"] <= waits, name
        assert report["drains"] <= drains, name
        assert report["instructions"] <= CHANCE * instructions, name


def test_every_row_has_bounds():
    rows = [row.name for family in BOUNDED for row in FAMILIES[family].ROWS]
    assert sorted([*rows, "triton"]) == sorted(BOUNDS)
