"""That the benchmark of the host's time runs through: its table has every call asked for, once for each form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")


def table(*arguments: str) -> dict[str, list[float]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.host_time", "--rounds", "1", *arguments],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    _, *rows = done.stdout.splitlines()
    return {row[:30].strip(): list(map(float, row[30:].split())) for row in rows}


def test_each_call_has_a_least_time_and_a_median_in_both_forms():
    found = table("--only", "pool2d")
    assert [*found] == ["max_pool2d", "max_pool2d, a step", "avg_pool2d", "avg_pool2d, a step"]
    for triton_least, triton_median, gluon_least, gluon_median in found.values():
        assert 0 < triton_least <= triton_median
        assert 0 < gluon_least <= gluon_median
    assert found["max_pool2d, a step"][0] > found["max_pool2d"][0]
