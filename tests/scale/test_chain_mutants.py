"""Sharpness of the tests of chains and stores: each usual mistake, made on purpose, makes some random block differ."""

import importlib
from functools import partial
from operator import attrgetter

import dask.array as da
import numpy as np
import pytest

from konvlib.scale import chain, from_store
from tests.scale.chain_cases import chains
from tests.scale.mutated import mutated_code
from tests.scale.sources import cut, single_layers

READERS = "[partial(step.read, i) for step in steps]"
ENDLESS = """[partial(step.read, i) if step is steps[0] or not hasattr(step.layer, "padding_mode") else lambda start,
    stop, step=step: halos.read(*halos.inputs_of(start, stop, **halos.window_of(step.layer, i)), 99)
    for step in steps]"""

MUTANTS = [
    ("scale.chains", "_reads", "images between layers without an end", READERS, ENDLESS),
    ("scale.chains", "_reads", "steps the other way round", "for step in steps]", "for step in steps[::-1]]"),
    ("scale.chains", "_chain_block", "mirrored samples of the second layer only", "if number:", "if number == 1:"),
    ("scale.chains", "_chain_block", "block one too long", "part.stop)\n", "part.stop + 1)\n"),
    ("scale.chains", "_chain_block", "what a layer reads for what it gives", "[number + 1].spans", "[number].spans"),
    ("scale.links", "Step.read", "all padding of zeros", 'getattr(self.layer, "padding_mode", "zeros")', '"zeros"'),
    ("scale.links", "TransposedStep.read", "an output less", "(start, stop,", "(start + 1, stop,"),
    ("scale.links", "TransposedStep.read", "all inputs but the last", "output_size[i],", "output_size[i] - 1,"),
    ("scale.links", "step_of", "stride forgotten", '"kappa", "bias")', '"kappa", "bias", "stride")'),
    ("scale.links", "_pooling_step", "means are largest samples", "images.avg_pool, ", "images.max_pool, "),
    ("scale.links", "_layer_step", "layers without bias", "_conv_block, w=w, bias=bias", "_conv_block, w=w, bias=None"),
    ("scale.links", "_layer_step", "a transpose without bias", "d_block, w=w, bias=bias", "d_block, w=w, bias=None"),
    ("scale.links", "_konv_step", "a Konvolution without bias", "kappa=kappa, bias=bias,", "kappa=kappa, bias=None,"),
    ("scale.links", "_konv_step", "pad forgotten", "**options)\n    comp", "**options | {'pad': 'basis'})\n    comp"),
    ("scale.blocks", "slices_of", "one end of two", "in spans[axis]]", "in spans[axis][:1]]"),
    ("scale.blocks", "slices_of", "one sample off", "slice(*span)", "slice(span[0] + 1, span[1] + 1)"),
    ("scale.blocks", "_sliced", "the batch from its begin", "else (span,)", "else ((0, span[1] - span[0]),)"),
    ("scale.blocks", "_sliced", "mirrored samples not shown", "shown(block, axis, part.read)", "block"),
    ("geometry.halos", "inputs_of_chain", "a sample less", "[number](start, stop)", "[number](start, stop - 1)"),
    ("geometry.halos", "inputs_of_chain", "the last layer's reads for all", "[number](start", "[-1](start"),
    ("geometry.halos", "pool_sides", "overhang counts", "min(read.zeros[1], padding_after)", "read.zeros[1]"),
    ("geometry.halos", "pool_sides", "padding after a pooling only", "return read.zeros[0]", "return 0"),
]  # fmt: skip


def differs(rng, want, function) -> bool:
    """Whether blocks, cut at random, are not the whole."""
    chunks = (cut(rng, len(want)), want.shape[1], *[cut(rng, n) for n in want.shape[2:]])
    try:
        with np.errstate(all="ignore"):
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
    code = mutated_code(file, name, right, wrong)
    monkeypatch.setattr(attrgetter(name)(importlib.import_module(f"konvlib.{file}")), "__code__", code)
    assert noticed(200)


def test_without_a_mistake_nothing_is_noticed():
    assert not noticed(10)
