"""Competitors that tell in which process they ran, and with how many threads: for tests of the timers.

A process that times them imports this module by its name.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def telling(folder: Path) -> tuple[Mapping[str, Callable[[], float]], float]:
    """Each writes down its process; the last one is wrong."""
    right = {name: functools.partial(_tell, folder, name) for name in ("konvlib", "peer", "other")}
    return {**right, "wrong": lambda: 2.0}, 1.0


def raising() -> Any:
    raise ValueError("no such layer\nand more")


def ending() -> Any:
    os._exit(1)


def ending_when_timed() -> tuple[Mapping[str, Callable[[], float]], float]:
    """The second one is right when it is first called, and ends its process when it is called again."""
    called = []

    def once() -> float:
        if called:
            os._exit(1)
        called.append(True)
        return 1.0

    return {"konvlib": lambda: 1.0, "peer": once}, 1.0


def _tell(folder: Path, name: str) -> float:
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {os.environ['OPENBLAS_NUM_THREADS']}\n")
    return 1.0
