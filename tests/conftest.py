"""What must be said before torch, NumPy and Triton are imported.

Tests run side by side, each on one thread: their arrays are small, and threads would wait for each other. Where there
is no CUDA device, kernels run in Triton's interpreter.

``--record`` keeps what a run on a CUDA device found, beside the benchmarks' records, for the book to show.
"""

from __future__ import annotations

import json
import os
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

torch.backends.cudnn.deterministic = True
"""cuDNN's gradients may change from run to run, which `torch.autograd.gradcheck` refuses."""


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write <device>-tests.json into benchmarks/results")


def pytest_sessionfinish(session, exitstatus):
    """Write device, versions, commit and counts per file; only for a run that had a device."""
    if not session.config.getoption("--record") or not torch.cuda.is_available():
        return
    from benchmarks import harness

    reports = session.config.pluginmanager.get_plugin("terminalreporter").stats
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reports.get(outcome, []):
            counts.setdefault(report.nodeid.partition("::")[0], Counter())[outcome] += 1
    facts = {"tests": "CUDA", **harness.facts("cuda"), "exit_status": int(exitstatus)}
    path = harness.RESULTS / f"{harness.slug(facts['device'])}-tests.json"
    path.write_text(json.dumps({**facts, "files": counts}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
