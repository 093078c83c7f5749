"""The examples run as a reader runs them, for a moment only, and learn something in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("sklearn", reason="scikit-learn, whose digits the example learns, is not installed")
pytest.importorskip("tqdm", reason="tqdm, which draws the example's progress, is not installed")

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "examples" / "digits.py")
NETWORKS = ("Konvolution, degree 2", "convolution, equal parameters", "convolution, equal time")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Python on this tree, without the interpreter of kernels, which tests of the kernels ask for."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done


def rows(printed: str) -> dict[str, list[float]]:
    """Parameters, epochs, seconds, accuracy and loss of each network, as the table has them."""
    return {name: [float(n) for n in re.findall(r"[\d.]+", line[32:])] for name, line in named_lines(printed)}


def named_lines(printed: str) -> list[tuple[str, str]]:
    return [(name, line) for line in printed.splitlines() for name in NETWORKS if line.startswith(name)]


def assert_learned(found: dict[str, list[float]]) -> None:
    """Chance is 10 %, and a loss of log 10 = 2.3; two epochs of any of these networks leave both far behind."""
    assert tuple(found) == NETWORKS
    for parameters, epochs, seconds, accuracy, loss in found.values():
        assert parameters > 1000
        assert epochs >= 1
        assert seconds > 0
        assert 50 < accuracy <= 100
        assert loss < 2
    ours, plain, longer = found.values()
    assert plain[0] == longer[0]
    assert abs(plain[0] - ours[0]) < 0.1 * ours[0]
    assert plain[1] == ours[1] == 2
    assert longer[2] >= ours[2]


COMMAND = (DIGITS, "--epochs", "2", "--degree", "2", "--basis", "legendre", "--seed", "3")


@pytest.fixture(scope="module")
def trained() -> subprocess.CompletedProcess[str]:
    return run(*COMMAND)


def test_digits_learns_and_the_seed_decides(trained):
    again = run(*COMMAND)
    assert "legendre, seed 3, 1 process(es)" in trained.stdout
    assert "100%" in trained.stderr, "the progress bar"
    found = rows(trained.stdout)
    assert_learned(found)
    if torch.cuda.is_available():
        return
    for name in NETWORKS[:2]:
        assert found[name][3:] == rows(again.stdout)[name][3:]


@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes need a device each, or none")
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its distributed package")
def test_digits_in_two_processes_learns_what_it_learns_in_one(trained):
    """Batches are the same and gradients are averaged; what differs is rounding, here amplified by some 30 steps."""
    two = run("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *COMMAND)
    assert two.stdout.count("test accuracy") == 1
    assert "2 process(es)" in two.stdout
    assert_learned(rows(two.stdout))
    for name in NETWORKS[:2]:
        assert abs(rows(two.stdout)[name][4] - rows(trained.stdout)[name][4]) < 0.01


def test_digits_refuses_a_basis_it_does_not_know():
    with pytest.raises(AssertionError, match="basis must be one of monomial, chebyshev"):
        run(DIGITS, "--basis", "fourier")
