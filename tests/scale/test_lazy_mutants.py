"""Sharpness of the tests of Dask arrays: each usual mistake, made on purpose, makes some random call differ."""

import importlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import konvlib
from tests.scale.lazy_cases import check, spoiled
from tests.scale.lazy_mutants import MUTANTS

MOST = 300
"""Calls of each kind until a mistake counts as not noticed."""


def mutated_code(file: str, name: str, right: str, wrong: str):
    """The code of a function with a mistake; nothing else of its module is touched."""
    path = Path(konvlib.__file__).parent / f"{file.replace('.', '/')}.py"
    source = path.read_text(encoding="utf-8")
    start = source.index(f"def {name}(")
    end = source.find("\n\n\n", start)
    function = source[start : end if end > 0 else None]
    assert function.count(right) == 1, f"the text to replace occurs {function.count(right)} times in {name}"
    namespace = dict(vars(importlib.import_module(f"konvlib.{file}")))
    text = source[:start] + function.replace(right, wrong) + source[start + len(function) :]
    exec(compile(text, str(path), "exec"), namespace)
    return namespace[name].__code__


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
