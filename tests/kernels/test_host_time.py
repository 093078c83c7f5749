"""That the benchmark of the host's time times what it says: calls that launch their kernels, once for each form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

LAUNCHES = {"max_pool2d": 1, "max_pool2d, a step": 2, "avg_pool2d": 1, "avg_pool2d, a step": 2}
COUNTED = """
import json
import os

os.environ["TRITON_INTERPRET"] = "0"
from benchmarks import host_time
from tests.kernels import driverless

timed, found, launches = host_time.timed, [], 0


def launched(self, *given):
    global launches
    launches += 1


def counted(call, rounds):
    calls, before = 0, launches

    def one():
        nonlocal calls
        calls += 1
        return call()

    times = timed(one, rounds)
    found.append([calls, launches - before])
    return times


driverless.Launcher._launched, host_time.timed = launched, counted
host_time.main(["--rounds", "1", "--only", "pool2d"])
print(json.dumps([host_time.PER_ROUND, found]))
"""


@cache
def printed() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def test_each_call_has_a_least_time_and_a_median_in_both_forms():
    _, *rows, _ = printed()
    found = {row[:30].strip(): list(map(float, row[30:].split())) for row in rows}
    assert [*found] == [*LAUNCHES]
    for triton_least, triton_median, gluon_least, gluon_median in found.values():
        assert 0 < triton_least <= triton_median
        assert 0 < gluon_least <= gluon_median


def test_what_is_timed_launches_its_kernels():
    """The call itself and, of a step, what sends its gradient back: so often as it is called, and that is a round."""
    per_round, found = json.loads(printed()[-1])
    assert [launches / calls for calls, launches in found] == [*LAUNCHES.values()] * 2
    assert all(calls >= per_round for calls, _ in found)
