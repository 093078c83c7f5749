"""What the tests know of each explorable: states that are refused, and states that solve its tasks.

Each word has a module of its own, ``cases_<word>.py``, with

- ``SOLUTIONS``: for each task the state that solves it, as text;
- ``REFUSALS``: arguments of the Python function that the engine refuses, as dictionaries;
- ``states(random)``: an endless iterator of states, as dictionaries of arguments, that are not refused;
- ``engine(state)``: what konvlib says that the explorable's ``result`` is in a state.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from konvlib import explore

WORDS = [name for name in explore.__all__ if name != "Explorable"]


def accepted(engine: Callable[[dict[str, Any]], Any], state: dict[str, Any]) -> bool:
    """Whether the engine refuses nothing in a state."""
    try:
        engine(state)
    except ValueError:
        return False
    return True


def cases(word: str) -> ModuleType:
    """Return what the tests know of an explorable."""
    return importlib.import_module(f"tests.explore.cases_{word}")
