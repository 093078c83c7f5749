"""The command for a card runs through, here without one: every part to its summary, whatever a table or test does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks import card, harness

ROOT = Path(__file__).parents[2]
TABLES = {
    1: {"konvolution_forward": 3, "konvolution_step": 3},
    2: dict.fromkeys(("layers_forward", "layers_input_grad", "layers_weight_grad", "layers_transposed"), 3),
    3: dict.fromkeys(("layers_depthwise_forward", "layers_depthwise_input_grad", "layers_depthwise_weight_grad"), 3)
    | {"layers_sequences_forward": 3, "im2col_gpu": 3, "sequences_gpu": 4},
}


def run(folder: Path, part: int, fault: str = "", minutes: float = 30) -> tuple[int, list[str]]:
    """The exit status, and the lines of the summary."""
    environment = {"STAND_IN_RESULTS": str(folder / "results"), "STAND_IN_FAULT": fault}
    environment |= {"TRITON_INTERPRET": "0", "STAND_IN_COLLECT": "" if fault else "1"}
    command = [sys.executable, "-m", "tests.kernels.stand_in", "-m", "benchmarks.card", "--part", str(part)]
    command += ["--minutes", str(minutes), "--commit", "abc", "--out", str(folder), "--processes", "1"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert "== summary" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    return done.returncode, done.stdout.partition("== summary\n")[2].splitlines()


def record(folder: Path, name: str) -> dict:
    return json.loads((folder / "results" / f"stand-in-{name}.json").read_text(encoding="utf-8"))


SLOW = [(1, ""), (2, ""), (3, ""), (1, "forward raises"), (1, "forward hangs"), (2, "forward illegal")]
RUNS = [(1, "forward illegal"), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)]
ERRORS = {
    "raises": "RuntimeError: no such layer",
    "illegal": "RuntimeError: CUDA error: an illegal memory access was encountered",
    "hangs": "not done after 45 s",
}


@pytest.mark.parametrize(("part", "fault"), RUNS)
def test_every_part_runs_through_and_a_row_that_fails_costs_only_itself(part, fault, tmp_path):
    status, lines = run(tmp_path, part, fault)
    assert status == int(bool(fault)), lines
    for name, rows in TABLES[part].items():
        kept = record(tmp_path, name)
        failed = {1} if fault and name.endswith("_forward") else set()
        assert (kept["commit"], kept["planned"], len(kept["rows"])) == ("abc", rows, rows)
        assert f"{name}: exit status {len(failed)}" in lines
        assert f"{name}: {rows} of {rows} rows, {len(failed)} of them wrong" in lines
        for place, row in enumerate(kept["rows"]):
            seconds = {each["seconds"] for each in row["competitors"].values()}
            assert seconds == ({None} if place in failed else {1e-3}), row
            if place in failed:
                assert row["competitors"]["konvlib"]["error"] == ERRORS[fault.partition(" ")[2]]
    if part == 1:
        peers, count = ("eager", "torch.compile", "cuDNN, input expanded before"), 2 if fault else 3
        for peer in peers:
            assert f"konvolution_forward: {peer} / konvlib, mean 1.00, worst 1.00, {count} rows" in lines
        assert any(line.startswith("konvolution_forward: floor / konvlib") for line in lines)
        assert "peak_mib" in record(tmp_path, "konvolution_step")["rows"][0]
    with tarfile.open(tmp_path / f"card-part{part}.tgz") as archive:
        names = {*archive.getnames()}
    assert {f"stand-in-{name}.json" for name in TABLES[part]} < names
    assert {f"card-part{part}/summary.txt", f"choices-part{part}.json"} < names


def test_what_does_not_fit_into_the_minutes_is_left_out_and_named(tmp_path):
    begin = time.monotonic()
    _, lines = run(tmp_path, 2, minutes=0.4)
    assert time.monotonic() - begin < 60
    assert "layers_transposed: left out: no time" in lines
    assert any(line.startswith("layers_transposed: no record") for line in lines)


def test_a_process_that_hangs_is_ended_at_its_limit_with_what_it_started(tmp_path):
    inner = f"import time, pathlib; time.sleep(3); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    outer = f"import subprocess, sys; print('here', flush=True); subprocess.run([sys.executable, '-c', {inner!r}])"
    log = io.StringIO()
    assert card.ended_within(1.5, [sys.executable, "-c", outer], log, {}) == "ended at its limit of 2 s"
    time.sleep(3)
    assert log.getvalue() == "here\n"
    assert not (tmp_path / "late").exists()
    assert card.ended_within(30, [sys.executable, "-c", "raise SystemExit(3)"], log, {}) == harness.LOST


def test_each_file_of_kernels_is_tested_in_one_part():
    files = [argument for part in (1, 2, 3) for argument in card.steps(part, 2, Path("c.json"))[0].arguments]
    files = [argument for argument in files if argument.startswith("tests/kernels")]
    there = {f"tests/kernels/{path.name}" for path in (ROOT / "tests" / "kernels").glob("test_*.py")}
    assert len(files) == len(set(files))
    assert there - {*files} == {name for name in there if any(word in name for word in card.OFFLINE)}
