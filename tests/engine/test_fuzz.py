"""Garbage in every argument of everything: a result, or an error that names the argument, and never a crash or a hang.

The calls are made in a process of their own, which may die of them: `tests.engine.fuzz` says how, and has the long run.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import konvlib
from konvlib.sequences import arrays
from tests.engine import fuzz


@pytest.mark.parametrize(("calls", "more"), [(8000, []), (2000, ["--operators"])], ids=["functions", "operators"])
def test_garbage_is_named(tmp_path, calls, more):
    log = tmp_path / "call"
    options = ["--calls", str(calls), "--seed", "1", "--log", str(log), *more]
    command = [sys.executable, "-m", "tests.engine.fuzz", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    told = f"{done.stdout}\n{done.stderr[-2000:]}\nthe last call: {log.read_text().strip() if log.exists() else None}"
    assert done.returncode == 0, told
    assert f"{calls} calls with seed 1, 0 of them wrong" in done.stdout


def test_the_same_seed_makes_the_same_calls():
    def first(seed):
        return [call for (call, _), _ in zip(fuzz.calls(seed), range(50), strict=False)]

    assert first(3) == first(3) != first(4)


def test_every_public_function_is_called():
    called = " ".join(target.call for target in fuzz.targets())
    public = [name for name in konvlib.__all__ if callable(getattr(konvlib, name))]
    missing = [name for name in (*public, *konvlib.konvolution.MODULES) if f"konvlib.{name}(" not in called]
    assert missing == ["Layer"]


def test_what_is_no_fault():
    """An error that names the argument, a result, and arguments that cannot be made."""
    for call in ("convolve(f=None, g=[1, 2])", "convolve(f=[1, 2, 3], g=[1, 2])", "convolve(f=np.ones(-1), g=[1])"):
        assert fuzz.fault(f"konvlib.{call}", ["f"]) is None


def test_what_is_a_fault(monkeypatch):
    """An argument that is not named, an error of another kind, and a call that takes too long."""
    found = fuzz.fault("konvlib.convolve(f=None, g=[1, 2])", ["mode"])
    assert found.startswith("names none of mode: TypeError: f must be an array")
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    assert fuzz.fault("konvlib.convolve(f=[0 for _ in iter(int, 1)], g=[1])", ["f"]) == "TimeoutError: more than 0.05 s"

    def broken(*_):
        raise OverflowError("too large")

    monkeypatch.setattr(arrays, "convolve", broken)
    assert fuzz.fault("konvlib.convolve(f=np.ones((2, 9)), g=[1, 2])", ["f"]) == "OverflowError: too large"
