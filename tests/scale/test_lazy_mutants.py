"""Sharpness of the tests of Dask arrays: each usual mistake, made on purpose, makes some random call differ."""

import importlib
from functools import partial

import numpy as np
import pytest

from tests.scale.lazy_cases import check, spoiled
from tests.scale.lazy_mutants import MUTANTS
from tests.scale.mutated import mutated_code

MOST = 300
"""Calls of each kind until a mistake counts as not noticed."""


def notices(kind: str, number: int) -> bool:
    rng = np.random.default_rng(number)
    try:
        check(rng, kind, partial(spoiled, rng) if number % 2 else lambda values: values)
    except Exception:  # whatever a mistake leads to
        return True
    return False


@pytest.mark.parametrize("row", MUTANTS, ids=[f"{row[0]}: {row[2]}" for row in MUTANTS])
def test_each_mistake_is_noticed(row, monkeypatch):
    file, name, _, right, wrong, kinds = row
    code = mutated_code(file, name, right, wrong)
    monkeypatch.setattr(getattr(importlib.import_module(f"konvlib.{file}"), name), "__code__", code)
    for kind in kinds.split():
        assert any(notices(kind, number) for number in range(MOST)), kind


def test_without_a_mistake_nothing_is_noticed():
    for kind in {kind for *_, kinds in MUTANTS for kind in kinds.split()}:
        assert not any(notices(kind, number) for number in range(6)), kind
