"""Sharpness of the tests of sequences' kernels: each usual mistake, made in a copy of them, fails one of the tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from konvlib import sequences
from konvlib.sequences import tensors
from tests.engine import backends
from tests.engine.test_mutants import killers, mutate, passes
from tests.kernels import test_sequences_kernels
from tests.kernels.sequence_mutants import MUTANTS

TESTS = killers(test_sequences_kernels, "backend")


def passes_with(test: Callable[..., None], kernels: object) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "kernels", kernels)
        return passes(lambda: test(backends.TensorBackend(sequences, kernels=True)))


@cache
def passes_unchanged(test: Callable[..., None]) -> bool:
    return passes_with(test, tensors.kernels)


@pytest.mark.parametrize(("mistake", "old", "new"), MUTANTS, ids=[mistake for mistake, *_ in MUTANTS])
def test_the_mistake_is_caught(mistake, old, new, tmp_path):
    mutant = mutate("sequences", "kernels", old, new, tmp_path)
    assert any(not passes_with(test, mutant) and passes_unchanged(test) for test in TESTS), (
        f"nothing catches: {mistake}"
    )


def test_an_unchanged_copy_passes(tmp_path):
    same = "from __future__ import annotations"
    copy = mutate("sequences", "kernels", same, same, tmp_path)
    assert TESTS
    assert all(passes_with(test, copy) for test in TESTS)
