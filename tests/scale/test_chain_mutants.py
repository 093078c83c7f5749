"""Sharpness of the tests of chains and stores: each usual mistake, made on purpose, makes some random block differ."""

import importlib
from functools import partial

import dask.array as da
import numpy as np
import pytest

from konvlib.scale import chain, from_store
from tests.scale.mutated import mutated_code
from tests.scale.sources import chains, cut, single_layers

MUTANTS = [
    ("chains", "_reads", "zeros between layers not clipped", "size[i] for", "size[i] + 9 * (step is not steps[0]) for"),
    ("chains", "_reads", "all padding of zeros", "step.layer.padding_mode if", '"zeros" if'),
    ("chains", "_reads", "a sample less", "inputs_of_chain(start, stop,", "inputs_of_chain(start, stop - 1,"),
    ("chains", "_chain_block", "mirrored samples of the second layer only", "if number:", "if number == 1:"),
    ("chains", "_chain_block", "block one too long", "(part.start, part.stop)\n", "(part.start, part.stop + 1)\n"),
    ("chains", "_chain_block", "what a layer reads for what it gives", "[number + 1].spans", "[number].spans"),
    ("chains", "_step", "stride forgotten", '"stride", "padding"', '"padding"'),
    ("chains", "_step", "bias forgotten", "Step(made, w, bias, None", "Step(made, w, None, None"),
    ("blocks", "slices_of", "one end of two", "in spans[axis]]", "in spans[axis][:1]]"),
    ("blocks", "slices_of", "one sample off", "slice(*span)", "slice(span[0] + 1, span[1] + 1)"),
    ("blocks", "_sliced", "the batch from its begin", "else (span,)", "else ((0, span[1] - span[0]),)"),
    ("blocks", "_sliced", "mirrored samples not shown", "shown(block, axis, part.read)", "block"),
]  # fmt: skip


def differs(rng, want, function) -> bool:
    """Whether blocks, cut at random, are not the whole."""
    chunks = (cut(rng, len(want)), want.shape[1], *[cut(rng, n) for n in want.shape[2:]])
    try:
        got = function(chunks=chunks).compute(scheduler="sync")
    except Exception:  # whatever a mistake leads to
        return True
    return not np.array_equal(got, want)


def noticed(count: int) -> bool:
    for rng, x, layers, want in chains(17, count):
        lazy = da.from_array(x, chunks=tuple([cut(rng, n) for n in x.shape]))
        if any([differs(rng, want, partial(chain, given, layers)) for given in (x, lazy)]):
            return True
    for rng, x, weights, options, want in single_layers(17, count):
        if differs(rng, want, partial(from_store, x, *weights, **options)):
            return True
    return False


@pytest.mark.parametrize("row", MUTANTS, ids=[f"{row[1]}: {row[2]}" for row in MUTANTS])
def test_each_mistake_is_noticed(row, monkeypatch):
    file, name, _, right, wrong = row
    code = mutated_code(f"scale.{file}", name, right, wrong)
    monkeypatch.setattr(getattr(importlib.import_module(f"konvlib.scale.{file}"), name), "__code__", code)
    assert noticed(40)


def test_without_a_mistake_nothing_is_noticed():
    assert not noticed(10)
