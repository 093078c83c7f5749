"""The marks of the tests: which test verifies which label, in which box, and in how many cases.

pytest itself collects them, in a process of its own, so that parametrised counts and computed boxes are true. This
module is both sides: as a pytest plugin it writes what was collected, and `collect_marks` starts pytest and reads it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT = "KONVBOOK_MARKS"
COLLECT = ["-m", "pytest", "--collect-only", "-q", "-p", "marks", "-p", "no:cacheprovider", "tests"]


@dataclass(frozen=True)
class Mark:
    """One test function's claim on one label: how many cases it has, its box, and the line that it begins on."""

    label: str
    test: str
    cases: int
    box: str
    exact: bool
    line: int = 1

    @property
    def file(self) -> str:
        """The file that the test stands in, from the root of the repository."""
        return self.test.partition("::")[0]


def pytest_collection_finish(session: Any) -> None:
    """Write every collected test, and its ``verifies`` marks, to the file that the environment names."""
    items = [
        {
            "test": item.nodeid.split("[")[0],
            "line": item.location[1] + 1,
            "marks": [
                {"labels": mark.args, "box": mark.kwargs.get("box"), "exact": bool(mark.kwargs.get("exact"))}
                for mark in item.iter_markers("verifies")
            ],
        }
        for item in session.items
    ]
    Path(os.environ[OUTPUT]).write_text(json.dumps(items), encoding="utf-8")


def collect_tests(root: Path) -> list[dict[str, Any]]:
    """Return one record per collected test case: its function and its marks."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "marks.json")
        path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, *COLLECT],
            cwd=root,
            env={**os.environ, OUTPUT: str(output), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not output.exists():
            raise RuntimeError(f"pytest could not collect the tests:\n{done.stdout}{done.stderr}")
        return json.loads(output.read_text(encoding="utf-8"))


def marks_in(tests: Iterable[dict[str, Any]]) -> list[Mark]:
    """Join the cases of each test function: one `Mark` per function, label, box and exactness."""
    cases: dict[tuple[str, str, str, bool, int], int] = {}
    for test in tests:
        for mark in test["marks"]:
            for label in mark["labels"]:
                key = (label, test["test"], mark["box"] or "", mark["exact"], test.get("line", 1))
                cases[key] = cases.get(key, 0) + 1
    return [Mark(label, test, count, *rest) for (label, test, *rest), count in cases.items()]


def collect_marks(root: Path) -> list[Mark]:
    """Return what the tests under ``root`` claim to verify."""
    return marks_in(collect_tests(root))
