"""The benchmarks beyond one machine, on images too small for figures that say something: rows are right, and kept."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import pytest

pytest.importorskip("distributed")
pytest.importorskip("zarr")

import dask
import zarr
from distributed import Client, LocalCluster

from benchmarks import cluster, harness, scale_cpu, strips_cpu

SIZE, CHUNK = 96, 32


@pytest.fixture(scope="module")
def on_cluster():
    """Rows of one cluster, which starts once."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 40}
    with LocalCluster(**options) as workers, Client(workers) as client:

        def measured(job):
            return cluster.whole(job) if job.row == cluster.WHOLE else cluster.on_cluster(job, workers, client)

        yield measured


def test_all_rows_are_right_and_in_the_records(on_cluster, tmp_path, capsys):
    given = scale_cpu.arguments(["--size", str(SIZE), "--chunk", str(CHUNK), "--rounds", "1"])
    timer = scale_cpu.ClusterTimer(given.rounds, on_cluster)
    with dask.config.set({"array.chunk-size": 2 * CHUNK**2 * 4}):
        assert scale_cpu.run(given, tmp_path, timer, tmp_path / "records") == 0
    records = {path.stem.rpartition("-")[2]: json.loads(path.read_text()) for path in (tmp_path / "records").iterdir()}
    filters, chains = records["scale_cpu"]["rows"], records["scale_chain_cpu"]["rows"]
    assert [row["label"]["stride"] for row in filters] == [1, 2]
    for row in [*filters, *chains]:
        assert list(row["competitors"]) == ([*cluster.FILTERS, cluster.WHOLE] if row in filters else [*cluster.CHAINS])
        for name, found in row["competitors"].items():
            assert found["error"] <= row["tolerance"], (name, found)
            assert found["seconds"] > 0
            assert found["peak_bytes"] > 2**20
            image = (SIZE if row in filters else SIZE // 2) ** 2 * 4
            assert image <= found["read_bytes"] < 2.5 * image, (name, found)
    moved = {name: found["moved_bytes"] for name, found in filters[0]["competitors"].items()}
    blocks = (SIZE // CHUNK) ** 2
    assert moved["from_store"] <= 16 * blocks < moved["lazy"]  # that a block is written is told in 16 bytes
    assert moved[cluster.WHOLE] == 0
    assert "from_store" in capsys.readouterr().out
    assert not list((tmp_path / "results").iterdir())


def test_a_row_runs_in_processes_of_its_own(tmp_path):
    cluster.image(str(tmp_path / "image"), SIZE, CHUNK)
    job = cluster.Job("lazy", str(tmp_path / "image"), str(tmp_path / "result"), CHUNK, 3)
    before, found = cluster.Counting.total, cluster.measured(job)
    assert found.read == SIZE * SIZE * 4
    assert found.peak > 2**20
    assert scale_cpu.error_in_windows(job) == 0
    assert cluster.Counting.total == before  # not here


def test_what_is_wrong_or_missing_is_a_row_without_a_time(tmp_path, monkeypatch):
    cluster.image(str(tmp_path / "image"), SIZE, CHUNK)

    def measured(job):
        if job.row == "map_overlap, SciPy":
            raise ModuleNotFoundError("No module named 'scipy'")
        done = cluster.whole(replace(job, row=cluster.WHOLE))
        if job.row == "dask-image":
            zarr.open_array(job.target)[50, 60] += 1
        return done

    job = cluster.Job("", str(tmp_path / "image"), str(tmp_path / "results"), CHUNK, 7)
    case = harness.Case({}, functools.partial(scale_cpu.prepare, job, [*cluster.FILTERS]), 0.0)
    errors, timings = scale_cpu.ClusterTimer(2, measured).measure(case)
    assert set(timings) == {"lazy", "from_store", "map_overlap, konvlib"}
    assert errors["map_overlap, SciPy"] == "ModuleNotFoundError: No module named 'scipy'"
    assert errors["dask-image"] > 0
    assert timings["lazy"].samples == 2
    monkeypatch.setattr(cluster, "filter_of", lambda kernel: 2 * cluster.layers_of(kernel)[0][0, 0])
    assert scale_cpu.ClusterTimer(1, lambda job: cluster.Measured(1, 1, 0, 0)).measure(case)[1] == {}


def test_strips_are_right_and_in_the_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    size, kernel = 32, 5
    options = {"size": size, "kernels": kernel, "rounds": 1, "calls": 1}
    assert (
        strips_cpu.main([part for name, value in options.items() for part in (f"--{name}", str(value))], tmp_path) == 0
    )
    (path,) = tmp_path.iterdir()
    (row,) = json.loads(path.read_text())["rows"]
    ours, alone = row["competitors"].values()
    assert max(ours["error"], alone["error"]) <= row["tolerance"]
    assert alone["sent_bytes"] == 0
    assert alone["held_bytes"] == 2 * ours["held_bytes"] == 4 * size * size * (1 + 8 + 8)
    halo = 4 * size * (kernel // 2)
    parameters = [8 * (25 + 1), 8 * (8 * 25 + 1), 8 * 25 + 1]
    # Forward all channels, backward but those of the image; each parameter's slope; what ranks say before exchanges.
    assert ours["sent_bytes"] == halo * (1 + 8 + 8) + halo * (8 + 8) + 4 * sum(parameters) + 3 * 4 * 8
    assert "of one process's time" in capsys.readouterr().out
