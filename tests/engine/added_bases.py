"""Bases of polynomials that a test adds: they are known as long as it runs."""

from __future__ import annotations

from fractions import Fraction

import pytest

from konvlib.konvolution import bases, recurrences
from konvlib.konvolution.recurrences import Basis, Recurrence


def laguerre(n: int) -> tuple[Fraction, Fraction, Fraction]:
    """n + 1 times the next polynomial is (2n + 1 - x) this less n times the last."""
    return Fraction(-1, n + 1), Fraction(2 * n + 1, n + 1), Fraction(n, n + 1)


def add_for_this_test(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    recurrence: Recurrence,
    domain: tuple[float, float] = (-1, 1),
) -> Basis:
    known = dict(bases.BASES)
    for module in (bases, recurrences):
        monkeypatch.setattr(module, "BASES", known)
    return bases.add_basis(name, recurrence, domain=domain)
