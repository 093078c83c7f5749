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

from tests.kernels.offline import layers as offline_layers
from tests.kernels.offline import pooling as offline_pooling
from tests.kernels.offline import sequences as offline_sequences
from tests.kernels.offline.compiling import SHARED_MEMORY, figures

triton = pytest.importorskip("triton")

FAMILIES = {"sequences": offline_sequences, "layers": offline_layers, "pooling and columns": offline_pooling}
BOUNDS = json.loads(Path(__file__).with_name("offline").joinpath("bounds.json").read_text(encoding="utf-8"))
"""Of each row's main loop: matrix products, asynchronous copies, waits, drains, instructions of the machine."""

CHANCE = 1.02
"""The assembler orders and moves instructions by chance: a small change elsewhere makes a loop that much longer."""


@cache
def reports_of(family: str) -> dict[str, dict[str, Any]]:
    return figures(FAMILIES[family].ROWS)


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_fit_on_hopper(family):
    """One test per family, since each starts a compiler of its own."""
    rows = FAMILIES[family].ROWS
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    reports = reports_of(family)
    assert not [name for name, report in reports.items() if (report["spilled"], report["stack"]) != (0, 0)]
    assert not [name for name, report in reports.items() if report["shared"] > SHARED_MEMORY]
    assert not [name for name, report in reports.items() if report["registers"] * report["warps"] * 32 > 65536]
    products = {row.name for row in getattr(FAMILIES[family], "PRODUCTS", [])}
    assert not [name for name in products if not reports[name]["tensor_core"]]
    gemms = {row.name for row in getattr(FAMILIES[family], "GEMMS", [])}
    assert not [name for name in gemms if not reports[name]["asynchronous"] or reports[name]["drains"]]


@pytest.mark.skipif(triton.__version__ != BOUNDS["triton"], reason="the bounds are another compiler's")
@pytest.mark.parametrize("family", ["layers", "pooling and columns"])
def test_main_loops_stay_as_short_as_they_are(family):
    """No product fewer or more, no copy that became a load, no wait more, and no instruction more but for chance."""
    for name, report in reports_of(family).items():
        products, copies, waits, drains, instructions = BOUNDS[name]
        assert (report["products"], report["copies"]) == (products, copies), name
        assert report["waits"] <= waits, name
        assert report["drains"] <= drains, name
        assert report["instructions"] <= CHANCE * instructions, name


def test_every_row_has_bounds():
    rows = [row.name for family in ("layers", "pooling and columns") for row in FAMILIES[family].ROWS]
    assert sorted([*rows, "triton"]) == sorted(BOUNDS)
