"""Every kernel compiles for Hopper, spills no register and fits in shared memory, on any machine with Triton.

A chapter adds its kernels as rows: one per signature and set of constants that its launchers use. What the main loops
of the rows are made of stands in ``benchmarks/results/sm_90-offline.json``, which ``python -m benchmarks.offline``
writes: a row that is there as its sources are now is not compiled again.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest

pytest.importorskip("triton")

import triton

from tests.kernels import launches
from tests.kernels.offline import compiling, table
from tests.kernels.offline.compiling import SHARED_MEMORY

FAMILIES = table.FAMILIES
KEPT = table.read()
OF_THIS_COMPILER = pytest.mark.skipif(
    triton.__version__ != KEPT.get("triton"), reason="the table is another compiler's"
)
AGAIN = "run python -m benchmarks.offline"
LIMITS = {
    "halo 128 channels 128 128 64 8 6$": 95,
    "halo degree 8 128 128 64 8 6$": 84,
    "halo balanced 128 channels$": 87,
    "halo balanced 512 channels$": 87,
    "halo balanced degree 8$": 86,
    "halo beside 16 channels 256 32 192 8 3$": 238,
    "halo beside 64 outputs 64 256 192 8 3$": 128,
    "halo beside 32 channels 64 256 192 8 3$": 106,
    "conv_forward bf16 128 256 64 8 3 .*DEGREES=1 ": 104,
    "conv_forward bf16 128 128 64 8 3 .*DEGREES=1 ": 167,
    "conv_forward bf16 128 128 64 8 3 .*DEGREES=4 ": 1122,
    "conv_input_grad bf16 128 256 64 8 3 ": 104,
    "forward boxes 56 bfloat16 128 128 64 8 4 ": 100,
    "input_grad boxes 56 bfloat16 128 128 64 8 4 ": 102,
    "columns 128 channels 128 64 64 8 4$": 52,
    "polynomial_input_grad bf16 64 64 64 8 3 ": 500,
    "weight_grad_boxes bf16 fp32 128 128 64 8 4 ": 160,
    "weight_grad_boxes bf16 fp32 128 256 64 8 4 ": 82,
    "conv_weight_grad bf16 128 64 64 4 4 .*IN_LINE=True DEGREE=1 ": 472,
    "conv_weight_grad bf16 128 128 64 8 3 .*DEGREE=4 ": 1176,
}
"""How many instructions each of eight warps has in a main loop for 128 by 128 by 64 products, and a tenth more."""

LAUNCHES = {
    "conv2d": 2,
    "conv2d, its gradients too": 6,
    "conv2d, depthwise, its gradients too": 6,
    "konv2d of degree 4": 2,
    "konv2d of degree 4, its gradients too": 12,
    "max_pool2d": 1,
    "im2col": 1,
}
"""The most kernels and operations that a call may launch."""


@cache
def keys() -> dict[str, str]:
    return compiling.keys([row for _, row in table.every_row().values()])


@cache
def reports() -> dict[str, dict[str, Any]]:
    """With another compiler than the table's all must be compiled, a second each: then one row in four is."""
    step = 1 if triton.__version__ == KEPT.get("triton") else 4
    return table.figures([row for _, row in table.every_row().values()][::step], keys())


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_fit_on_hopper(family):
    names = [row.name for row in FAMILIES[family].ROWS]
    assert len(set(names)) == len(names)
    found = {name: report for name, report in reports().items() if name in names}
    most = getattr(FAMILIES[family], "SPILLED", 0)
    assert not [name for name, report in found.items() if max(report["spilled"], report["stack"]) > most]
    assert not [name for name, report in found.items() if report["shared"] > SHARED_MEMORY]
    assert not [name for name, report in found.items() if report["registers"] * report["warps"] * 32 > 65536]
    products = {row.name for row in getattr(FAMILIES[family], "PRODUCTS", [])} & set(found)
    assert not [name for name in products if not found[name]["tensor_core"]]
    wide = {row.name for row in getattr(FAMILIES[family], "WIDE", [])} & set(found)
    assert not [name for name in wide if {*found[name]["loads"], *found[name]["stores"]} != {"16"}]
    gemms = {row.name for row in getattr(FAMILIES[family], "GEMMS", [])} & set(found)
    assert not [name for name in gemms if not found[name]["asynchronous"] or found[name]["drains"]]


@OF_THIS_COMPILER
@pytest.mark.parametrize("pattern", LIMITS)
def test_main_loops_are_short(pattern):
    found = {row["name"]: row["per_step"] for row in KEPT["rows"] if re.match(pattern, row["name"])}
    assert found
    assert not {name: steps for name, steps in found.items() if steps > 1.1 * LIMITS[pattern]}


@OF_THIS_COMPILER
def test_the_table_is_of_the_sources_that_stand_here():
    rows = table.every_row()
    assert not table.stale(KEPT, keys()), AGAIN
    assert [(row["name"], row["family"]) for row in KEPT["rows"]] == [(name, rows[name][0]) for name in rows], AGAIN


BY_CHANCE = ("registers", "stack", "spilled", "instructions", "per_step", "all_instructions")
"""What differs from one run of the compiler to the next where it spills: by little, and in few rows."""

SAMPLE = ("max_pool fp32 contiguous 3 3", "conv_forward bf16 64 64 64", "halo degree 8 128 128")
FRESH = (pytest.param(SAMPLE, id="three"), pytest.param(("",), id="all", marks=pytest.mark.slow))


@OF_THIS_COMPILER
@pytest.mark.parametrize("beginnings", FRESH)
def test_the_table_says_what_a_compiler_says_now(beginnings):
    """All of them in the long run: a row takes a second."""
    kept = {row["name"]: row for row in KEPT["rows"]}
    chosen = [row for _, row in table.every_row().values() if row.name.startswith(beginnings)]
    chosen = chosen if "" in beginnings else [next(row for row in chosen if row.name.startswith(b)) for b in beginnings]
    for name, found in compiling.figures(chosen).items():
        row = kept[name]
        assert {key: row[key] for key in found if key not in BY_CHANCE} == {
            key: value for key, value in found.items() if key not in BY_CHANCE
        }, AGAIN
        assert found["instructions"] == pytest.approx(row["instructions"], rel=0.02), AGAIN


def test_calls_launch_what_the_table_says():
    found = launches.of_calls()
    assert found == KEPT["launches"], AGAIN
    assert not {name: found[name] for name, most in LAUNCHES.items() if len(found[name]) > most}


def test_stale_rows_are_named():
    kept = {"rows": [{"name": "same", "key": "1"}, {"name": "changed", "key": "1"}, {"name": "gone", "key": "1"}]}
    assert table.stale(kept, {"same": "1", "changed": "2", "new": "1"}) == ["changed", "gone", "new"]


def test_only_what_changed_is_compiled_and_a_stopped_run_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    rows = {str(number): ("family", compiling.Row(str(number), "", "", {}, {})) for number in range(5)}
    now, compiled = {name: name for name in rows}, []

    def figures(part):
        compiled.extend(row.name for row in part)
        if "4" in compiled and len(compiled) < 6:
            raise KeyboardInterrupt
        return {row.name: dict.fromkeys(table.FIGURES, len(compiled)) for row in part}

    monkeypatch.setattr(table, "every_row", lambda: rows)
    monkeypatch.setattr(table, "TOGETHER", 2)
    monkeypatch.setattr(compiling, "keys", lambda rows: now)
    monkeypatch.setattr(compiling, "figures", figures)
    with pytest.raises(KeyboardInterrupt):
        table.update(path)
    assert [row["name"] for row in table.read(path)["rows"]] == ["0", "1", "2", "3"]
    assert table.update(path)[0] == 1
    assert compiled == ["0", "1", "2", "3", "4", "4"]
    now["2"] = "other"
    assert table.update(path) == (1, [f"2: {name} 7, were 4" for name in table.FIGURES])
    assert compiled[6:] == ["2"]
    assert [row["key"] for row in json.loads(path.read_text())["rows"]] == ["0", "1", "other", "3", "4"]
    assert table.figures([row for _, row in rows.values()], now, path)["2"]["instructions"] == 7
    assert table.update(path) == (0, [])
    now.update(dict.fromkeys(rows, "other"))
    monkeypatch.setattr(table, "TOGETHER", 1)
    monkeypatch.setattr(compiling, "figures", lambda part: figures(part) if part[0].name < "3" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        table.update(path)
    assert [row["key"] for row in table.read(path)["rows"]] == ["other", "other", "other", "3", "4"]
