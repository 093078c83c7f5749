"""The examples run as a reader runs them, for a moment only, and learn something in it."""

from __future__ import annotations

import importlib.util
import json
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


# The comparison of chapter 7


COMPARISON = str(ROOT / "examples" / "comparison.py")
ROWS = ("Konvolution", "plain, equal parameters", "plain, equal time")


def test_comparison_tunes_both_sides_and_writes_its_record(tmp_path):
    record = tmp_path / "record.json"
    options = ("--steps", "20", "--seeds", "2", "--tuning-seeds", "1", "--tasks", "digits", "one layer")
    done = run(COMPARISON, *options, "--record", str(record))
    assert "100%" in done.stderr, "the progress bar"
    found = json.loads(record.read_text())
    assert list(found["tasks"]) == ["digits", "one layer"]
    for name, task in found["tasks"].items():
        assert f"{name}: one step of Konvolution takes {task['time ratio']:.2f}" in done.stdout
        assert tuple(task["rows"]) == ROWS
        ours, plain, longer = task["rows"].values()
        assert plain["parameters"] == longer["parameters"]
        assert abs(plain["parameters"] - ours["parameters"]) <= 0.05 * ours["parameters"]
        assert ours["steps"] == plain["steps"] == 20
        assert longer["steps"] == max(1, round(task["time ratio"] * 20))
        assert all(len(row["runs"]) == 2 for row in task["rows"].values())
    assert all(run["accuracy"] > 0.4 for run in found["tasks"]["digits"]["rows"]["Konvolution"]["runs"])
    assert all(run["loss"] < 1 for run in found["tasks"]["one layer"]["rows"]["Konvolution"]["runs"])


def test_the_record_of_the_comparison_is_of_the_program_as_it_stands():
    """All tasks and rows, five seeds, and the grid; parameters are those of the networks that the program makes."""
    spec = importlib.util.spec_from_file_location("comparison", COMPARISON)
    comparison = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(comparison)
    record = json.loads((ROOT / "notebooks" / "data" / "konvolution_comparison.json").read_text())
    assert tuple(record["tasks"]) == comparison.TASKS
    assert tuple(record["settings"]["learning rates"]) == comparison.LEARNING_RATES
    assert tuple(record["settings"]["weight decays"]) == comparison.WEIGHT_DECAYS
    for name, task in record["tasks"].items():
        ours, plain = (comparison.count(make()) for make in comparison.makers(name).values())
        assert tuple(task["rows"]) == comparison.SIDES
        assert [row["parameters"] for row in task["rows"].values()] == [ours, plain, plain]
        assert all(len(row["runs"]) == 5 for row in task["rows"].values())
