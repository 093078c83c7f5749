"""Sharpness: each mistake, made on purpose in a copy of a module, is found by what tests of processes compare."""

from __future__ import annotations

import importlib
import random
import types
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import konvlib
import konvlib.scale
from tests.scale import ranks
from tests.scale.test_processes import CHANNELS, OPTIONS, columns_are_exact, layer_is_exact, layouts
from tests.scale.test_processes_strips import agreed, drawn, is_exact, penalties_are_exact

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package")

STRIPS = [
    ("a parameter's gradient is this rank's alone", "_Summed.apply(p, group) for name, p", "p for name, p"),
    ("padding stands between strips", "[zeros if place == i else pair", "[pair if place == i else pair"),
    ("zeros around a layer count twice", "zeros = read.zeros if isinstance(layer, KonvLayer) else (0, 0)",
     "zeros = read.zeros"),
    ("what hangs over counts as padding", "halos.pool_sides(read, sides[i][1])", "read.zeros"),
    ("the stride is forgotten where transposed strips begin", "- read.spans[0][0] * whole.stride[i]",
     "- read.spans[0][0]"),
    ("the padding is forgotten where transposed strips begin", "at = start + whole.padding[i][0]", "at = start"),
    ("outputs that no input reaches are left out before", "short = [max(-at, 0),", "short = [0,"),
]  # fmt: skip
SEEN = [
    (
        "both sides of the mirror change places",
        "samples.index_select(axis, left), core,",
        "samples.index_select(axis, right), core,",
    ),
    ("what a mirror shows gets no slope", "samples.index_add_(axis, left, parts[0])", "samples"),
    ("what others see gets no slope", "part.add_(values)", "part.add_(0 * values)"),
    ("their slopes take the place of its own", "part.add_(values)", "part.copy_(values)"),
    ("slopes of what nobody sees are left open", "total.zero_()", "total.fill_(1)"),
    ("each piece stands where the first does", "place += last - first", "pass"),
    ("zeros before are left out", "seen.narrow(axis, 0, before).zero_()", "seen.narrow(axis, 0, before).fill_(1)"),
]
"""Of the exchange."""
PENALTIES = [
    ("a sum's derivative is this rank's alone", "        return _Total.apply(*grad_outputs, ctx.group), None\n\n\ndef",
     "        return grad_outputs[0], None\n\n\ndef"),
]  # fmt: skip
SEEN_TWICE = [
    ("what slopes give back is lost", "Seen.apply(*grad_outputs,", "Seen.apply(0 * grad_outputs[0],"),
    ("the exchange is differentiated once", "Given.apply(*grad_outputs,", "Given.apply(grad_outputs[0].detach(),"),
]
SHARDS = [
    ("a bias counts once for each rank", "conv2d", "([P], [CHANNELS, Shard(1), P])", "([P], [CHANNELS, Shard(1), R])"),
    ("a transposed bias, too", "conv_transpose2d", "([P], [CHANNELS, Shard(0), P])", "([P], [CHANNELS, Shard(0), R])"),
    ("and a Konvolution's", "konv2d", "([P], [CHANNELS, Shard(2), P])", "([P], [CHANNELS, Shard(2), R])"),
    ("a weight's slope is not summed", "conv2d", '"conv_weight_grad": _dense(([P]', '"conv_weight_grad": _dense(([R]'),
    ("nor is that of kappa", "konv2d", '"konv_kappa_grad": _dense(([P]', '"konv_kappa_grad": _dense(([R]'),
    ("groups shard channels", "conv2d", "rows if given[-1] == 1 else rows[:1]", "rows"),
    ("columns shard channels", "col2im", '"col2im": _each(1, 1, BATCH)', '"col2im": _each(1, 1, BATCH, CHANNELS)'),
    ("what is remembered knows no strides", "conv2d", "RuntimeSchemaInfo(sum(is_tensor), ", "RuntimeSchemaInfo(100, "),
    *[("none", kind, "", "") for kind in ("conv2d", "konv2d", "conv_transpose2d", "col2im")],
]  # fmt: skip
"""Each with the function whose results it spoils."""


def mutated(module, old, new):
    """A copy of a module of konvlib.scale with another text in it."""
    source = Path(importlib.import_module(f"konvlib.scale.{module}").__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"the text to replace occurs {source.count(old)} times in {module}: {old}"
    copy = types.ModuleType("mutant")
    exec(compile(source.replace(old, new), "mutant", "exec"), vars(copy))
    return copy


def strips_with(old, new):
    return mutated("spatial", old, new).strips


def exchanged_with(old, new):
    """The function, with another text in the exchange that it uses."""
    exchange, spatial = (
        mutated("exchange", old, new),
        mutated("spatial", "import Seen, exchange_of", "import Seen as _"),
    )
    spatial.Seen, spatial.exchange_of = exchange.Seen, exchange.exchange_of
    return spatial.strips


def strips_kill(rank, world):
    alive = []
    first, second = (is_exact, ("conv", "konv", "transpose", "avg")), (penalties_are_exact, ("conv",))
    for rows, of, (check, kinds) in (
        (STRIPS, strips_with, first), (SEEN, exchanged_with, first),
        (PENALTIES, strips_with, second), (SEEN_TWICE, exchanged_with, second),
    ):  # fmt: skip
        for name, old, new in rows:
            draw = random.Random(17)
            torch.manual_seed(17)
            cases = (drawn(draw, world, kinds=kinds) for _ in range(80))
            function = of(old, new)
            if not any(check(case, rank, function) is False for case in cases):
                alive.append(name)
    assert not alive, alive


def test_mistakes_in_strips_are_found(tmp_path):
    ranks.run(strips_kill, 2, tmp_path)


def shards_kill(rank, world):
    """Each mistake on sizes of its own: of others torch remembers how they were placed."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard

    mesh, alive = init_device_mesh("cpu", (world,)), []
    torch.manual_seed(17)
    for number, (name, kind, old, new) in enumerate(SHARDS):
        module = mutated("sharding", old, new) if old else importlib.import_module("konvlib.scale.sharding")
        konvlib.runtime.SHARDED = ()
        module.register()
        size = 8 + number, 9
        if kind in CHANNELS:
            calls = [(layer_is_exact, kind, mesh, *case, size) for case in product(layouts(kind), OPTIONS)]
        else:
            calls = [(columns_are_exact, kind, mesh, Shard(dim), 1, size) for dim in (0, 1)]
        if all(is_right(*call) for call in calls) is not (name == "none"):
            alive.append((name, kind))
    assert not alive, alive


def is_right(check, *given):
    try:
        right = check(*given) is not False
    except (ValueError, RuntimeError):
        right = False
    return agreed(right)


def test_mistakes_in_placements_are_found(tmp_path):
    ranks.run(shards_kill, 2, tmp_path)
