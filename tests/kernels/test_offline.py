"""Every kernel compiles for Hopper, spills no register and fits in shared memory, on any machine with Triton.

A chapter adds its kernels as rows: one per signature and set of constants that its launchers use.
"""

from __future__ import annotations

import pytest

from tests.kernels.offline import layers as offline_layers
from tests.kernels.offline import pooling as offline_pooling
from tests.kernels.offline import sequences as offline_sequences
from tests.kernels.offline.compiling import SHARED_MEMORY, figures

pytest.importorskip("triton")

FAMILIES = {"sequences": offline_sequences, "layers": offline_layers, "pooling and columns": offline_pooling}


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_fit_on_hopper(family):
    """One test per family, since each starts a compiler of its own."""
    rows = FAMILIES[family].ROWS
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    reports = figures(rows)
    assert not [name for name, report in reports.items() if (report["spilled"], report["stack"]) != (0, 0)]
    assert not [name for name, report in reports.items() if report["shared"] > SHARED_MEMORY]
    assert not [name for name, report in reports.items() if report["registers"] * report["warps"] * 32 > 65536]
    products = {row.name for row in getattr(FAMILIES[family], "PRODUCTS", [])}
    assert not [name for name in products if not reports[name]["tensor_core"]]
    gemms = {row.name for row in getattr(FAMILIES[family], "GEMMS", [])}
    assert not [name for name in gemms if not reports[name]["asynchronous"] or reports[name]["drains"]]
