"""The example with Dask filters a small store, as it would one larger than memory."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed")
EXAMPLE = Path(__file__).parents[2] / "examples" / "zarr_filter.py"


def test_two_workers_filter_a_store(tmp_path):
    command = [sys.executable, str(EXAMPLE), "--size", "700", "--chunk", "256", "--folder", str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    assert "100% Completed" in told
    assert re.search(r"^2 MB in 9 chunks, by workers that may hold 800 MB together$", told, re.MULTILINE)
    assert re.search(r"^most memory of one: \d+ MB; sent between them: \d{1,4} bytes$", told, re.MULTILINE)
    assert told.endswith("largest difference from the definition: 0.0\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.zarr", "sharp.zarr"]
