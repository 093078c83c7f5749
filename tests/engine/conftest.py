"""The engine's tests run tensors on the CPU as users do, by ATen; the backend ``kernels`` turns the interpreter on."""

from __future__ import annotations

import pytest

from konvlib import runtime


@pytest.fixture(autouse=True)
def _without_the_interpreter(monkeypatch):
    monkeypatch.setattr(runtime, "INTERPRET", False)
