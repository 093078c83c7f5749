"""The example under torchrun trains a network on two strips."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "strips.py"


def test_two_processes_train_on_strips():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(EXAMPLE)]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    told = subprocess.run(
        [*command, "--size", "48", "--steps", "8"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=environment,
    )
    losses = [float(found) for found in re.findall(r"loss ([\d.]+)", told.stdout)]
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_the_book_shows_what_stands_in_the_example():
    page = json.loads((EXAMPLE.parents[1] / "notebooks" / "scale" / "processes.ipynb").read_text(encoding="utf-8"))
    markdown = "\n".join("".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "markdown")
    (shown,) = re.findall(r"^:::\{code-block\} python\n(.*?)^:::", markdown, re.M | re.S)
    assert shown.strip("\n") in EXAMPLE.read_text(encoding="utf-8")
