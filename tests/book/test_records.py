"""The reader of benchmarks/results: the newest record of each benchmark and device, and nothing made up."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from benchmarks import harness, processes, records
from tests.book import competitors


def write(folder: Path, file: str, **changes: Any) -> None:
    competitors = {"konvlib": {"seconds": 1.0}, "peer": {"seconds": 2.0}}
    content = {
        "benchmark": "layers",
        "device": "NVIDIA H100",
        "timer": "CUDA events around graph replays",
        "versions": {"torch": "2.11"},
        "commit": "abc",
        "date": "2026-01-02T00:00:00+00:00",
        "rows": [{"label": {}, "competitors": competitors, "ratios": {"peer": ratio}} for ratio in (1.0, 4.0)],
    }
    (folder / file).write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_of_the_same_benchmark_and_device_the_newest_is_read(tmp_path: Path):
    write(tmp_path, "a.json", commit="newest", date="2026-03-01T00:00:00+00:00")
    write(tmp_path, "b.json", commit="older")
    write(tmp_path, "c.json", commit="another device", device="NVIDIA H200")
    write(tmp_path, "d.json", commit="another benchmark", benchmark="sequences")
    write(tmp_path, "e.json", rows=[], device="of no rows")
    assert [record.commit for record in records.read(tmp_path)] == ["newest", "another benchmark", "another device"]


def test_ratios_are_summed_up_by_peer(tmp_path: Path):
    write(tmp_path, "a.json")
    (record,) = records.read(tmp_path)
    assert record.on_gpu
    assert record.ours == "konvlib"
    assert record.wrong == 0
    assert record.ratios() == {"peer": [1.0, 4.0]}
    head, _, run, _, _, _, *lines = records.report([record]).split("\n")
    assert head == "**NVIDIA H100**: torch 2.11."
    assert run == "Commit `abc`, 2026-01-02:"
    assert lines == ["| layers | peer | 2 | 0 | 2.00 | 1.00 | 4.00 |"]


def test_each_run_is_said_once_above_its_table_and_losses_are_bold(tmp_path: Path):
    slow = {
        "label": {},
        "competitors": {"konvlib": {"seconds": 2.0}, "peer": {"seconds": 1.0}},
        "ratios": {"peer": 0.5},
    }
    write(tmp_path, "a.json")
    write(tmp_path, "b.json", benchmark="sequences", rows=[slow])
    write(tmp_path, "c.json", benchmark="images", commit="ab-dirty", date="2026-01-01T00:00:00+00:00")
    text = records.report(records.read(tmp_path))
    assert text.count("Commit `abc`, 2026-01-02:") == 1
    assert text.index("Commit `ab` with changes, 2026-01-01:") < text.index("| images |") < text.index("Commit `abc`")
    assert "| sequences | peer | 1 | 1 | **0.50** | **0.50** | **0.50** |" in text


def test_a_wrong_result_of_ours_is_counted(tmp_path: Path):
    row = {"label": {}, "competitors": {"konvlib": {"seconds": None}, "peer": {"seconds": 2.0}}, "ratios": {}}
    write(tmp_path, "a.json", rows=[row], timer="perf_counter, interleaved")
    (record,) = records.read(tmp_path)
    assert (record.wrong, record.on_gpu, record.ratios()) == (1, False, {})


def test_runs_of_the_tests_are_told_from_benchmarks(tmp_path: Path):
    write(tmp_path, "a.json")
    files = {
        "tests/engine/test_a.py": {"passed": 3, "skipped": 1},
        "tests/kernels/test_b.py": {"passed": 2, "failed": 1},
    }
    run = {"tests": "CUDA", "device": "NVIDIA H100", "date": "2026-01-02", "files": files, "versions": {}}
    (tmp_path / "tests.json").write_text(json.dumps(run), encoding="utf-8")
    (tmp_path / "old.json").write_text(json.dumps({**run, "date": "2025-01-02", "files": {}}), encoding="utf-8")
    (found,) = records.device_tests(tmp_path)
    assert found["counts"] == {"passed": 5, "failed": 1, "error": 0, "skipped": 1}
    assert len(records.read(tmp_path)) == 1


def test_the_table_of_kernels_is_read_by_name_and_is_no_record(tmp_path: Path):
    rows = [{"name": "conv_forward bf16", "instructions": 144}, {"name": "im2col bf16", "instructions": 127}]
    path = tmp_path / "sm_90-offline.json"
    path.write_text(json.dumps({"triton": "3.7", "launches": {"conv2d": ["conv_forward"]}, "rows": rows}))
    table = records.offline(path)
    assert [*table["rows"]] == ["conv_forward bf16", "im2col bf16"]
    assert table["rows"]["im2col bf16"] == rows[1]
    assert (table["triton"], table["launches"]) == ("3.7", {"conv2d": ["conv_forward"]})
    assert records.read(tmp_path) == records.device_tests(tmp_path) == []


def test_a_record_of_overhead_says_wins_and_losses(tmp_path: Path):
    def row(call: str, ours: float, theirs: float, **label: Any) -> dict[str, Any]:
        competitors = {"konvlib": {"seconds": ours}, "PyTorch": {"seconds": theirs}}
        return {"label": {"call": call, **label}, "competitors": competitors, "ratios": {"PyTorch": theirs / ours}}

    rows = [row("conv1d", 1.5e-5, 1e-5, requires_grad=True), row("step", 2e-3, 3.5e-3)]
    figures = {"seconds of import konvlib": 0.25, "extra": {"median": 5.0, "worst": 5.04}}
    write(tmp_path, "a.json", rows=rows, figures=figures)
    (record,) = records.read(tmp_path)
    assert records.overhead(record).split("\n")[2:] == [
        "| conv1d | yes | PyTorch | 15.0 | 10.0 | **5.0** |",
        "| step |  | PyTorch | 2,000.0 | 3,500.0 | \N{MINUS SIGN}1,500.0 |",
        "",
        "Of 2 cases ours is slower in 1 and quicker in 1.",
        "",
        "- seconds of import konvlib: 0.25",
        "- extra: median 5, worst 5.04",
    ]


def test_what_raises_costs_its_row_and_not_the_record(tmp_path: Path, monkeypatch):
    def falls_over(timer, calls):
        raise RuntimeError("the device is gone")

    def unprepared():
        raise MemoryError

    def raising():
        raise ValueError("no such layer\nand more")

    def case(number: int, prepare) -> harness.Case:
        return harness.Case({"case": number}, prepare, 0.0)

    good = {"konvlib": lambda: 1.0, "peer": lambda: 1.0}
    cases = [
        case(0, lambda: (good, 1.0)),
        case(1, unprepared),
        case(2, lambda: ({**good, "peer": raising}, 1.0)),
        case(3, lambda: ({**good, "konvlib": lambda: 2.0}, 1.0)),
    ]
    monkeypatch.setenv("BENCHMARKS_COMMIT", "abc")
    timer = harness.CpuTimer(budget=0, least=2, resolution=0)
    assert harness.run("some", cases, timer=timer, results=tmp_path) == 1
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    competitors = [row["competitors"] for row in record["rows"]]
    assert record["commit"] == "abc"
    assert competitors[0]["konvlib"]["samples"] == competitors[0]["peer"]["samples"] == 2
    assert competitors[1] == {"konvlib": {"error": "MemoryError: ", "seconds": None, "quartiles": None, "samples": 0}}
    assert competitors[2]["peer"]["error"] == "ValueError: no such layer"
    assert competitors[2]["konvlib"]["seconds"] is not None
    assert (competitors[3]["konvlib"]["seconds"], competitors[3]["konvlib"]["error"]) == (None, 1.0)

    monkeypatch.setattr(harness.CpuTimer, "__call__", falls_over)
    assert harness.run("other", cases[:1], timer=timer, results=tmp_path) == 1


def test_each_competitor_has_a_process_of_its_own_for_each_number_of_threads(tmp_path: Path):
    cases = [
        harness.Case({"case": 0}, functools.partial(competitors.telling, tmp_path), 0.0),
        harness.Case({"case": 1}, competitors.raising, 0.0),
        harness.Case({"case": 2}, competitors.ending, 0.0),
        harness.Case({"case": 3}, competitors.ending_when_timed, 0.0),
    ]
    timer = processes.ProcessTimer(budget=0.002, turns=2, rest=0, threads=(3, 1))
    assert harness.run("some", cases, timer=timer, results=tmp_path / "results") == 1
    (path,) = (tmp_path / "results").glob("*.json")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [(row["label"]["case"], row["label"]["threads"]) for row in rows] == [
        (case, threads) for threads in (3, 1) for case in range(4)
    ]
    for row in rows[::4]:
        assert [*row["competitors"]] == ["konvlib", "peer", "other", "wrong"]
        assert [each["samples"] >= 2 for each in row["competitors"].values()] == [True, True, True, False]
        assert [*row["ratios"]] == ["peer", "other"]
    assert [row["competitors"]["konvlib"]["error"] for row in rows[1:3]] == [
        "ValueError: no such layer",
        "the process ended",
    ]
    assert rows[3]["competitors"]["peer"]["error"] == "the process ended"
    told = {
        name: {tuple(line.split()) for line in (tmp_path / name).read_text().splitlines()} for name in rows[0]["ratios"]
    }
    for lines in told.values():
        assert sorted(threads for _, *threads in lines) == [["1", "1"], ["3", "3"]]
    pids = [pid for lines in told.values() for pid, *_ in lines]
    assert len({*pids, str(os.getpid())}) == 5


def test_the_records_that_are_there_are_of_right_results():
    kept = records.read()
    assert len(kept) == len({(record.device, record.benchmark) for record in kept})
    assert {record.benchmark for record in kept} >= {"sequences_cpu", "images_cpu"}
    assert not [record for record in kept if record.wrong]
    assert len(list(harness.RESULTS.glob("*.json"))) >= len(kept)
