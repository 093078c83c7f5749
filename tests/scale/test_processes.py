"""Layers over 2 and 4 processes, exact against one: one spawned group for all cases."""

from __future__ import annotations

import os
import random
from datetime import timedelta
from itertools import product

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

import konvlib
import konvlib.scale

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package")
STRIPS = 80


def integers(*shape):
    return torch.randint(-3, 4, shape).double()


def joined(rank, world, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=120))


def drawn_layer(draw, axis):
    """A layer with integer parameters, random along the axis that is cut."""
    k, s, d = draw.choice([1, 2, 3, 4, 5]), draw.choice([1, 1, 2, 3]), draw.choice([1, 1, 2])
    mode = draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    kind = draw.choice(["conv", "konv", "transpose", "max", "avg"])
    p = draw.randint(0, k // 2 if kind in ("max", "avg") else k)
    ks, ss, ds, ps = [(a, b) if axis == 2 else (b, a) for a, b in ((k, 3), (s, 1), (d, 1), (p, 1))]
    if kind == "max":
        return nn.MaxPool2d(ks, ss, ps, ds, ceil_mode=draw.random() < 0.5)
    if kind == "avg":
        return nn.AvgPool2d(ks, ss, ps, ceil_mode=draw.random() < 0.5, count_include_pad=draw.random() < 0.5)
    options = {"stride": ss, "padding": ps, "dilation": ds, "groups": draw.choice([1, 2])}
    if kind == "transpose":
        more = draw.randint(0, max(s, d) - 1)
        layer = nn.ConvTranspose2d(2, 4, ks, output_padding=(more, 0) if axis == 2 else (0, more), **options)
    elif kind == "conv":
        layer = nn.Conv2d(2, 4, ks, padding_mode=mode, **options)
    else:
        pad = draw.choice(["basis", "input"])
        options |= {"squash": "none", "basis": "monomial", "degree": 2}
        layer = konvlib.Konv2d(2, 4, ks, padding_mode=mode, pad=pad, **options)
    layer.double()
    for parameter in layer.parameters():
        parameter.data = integers(*parameter.shape)
    return layer


def on_whole(layer, x):
    """By konvlib's own functions, which take all that strips do."""
    if isinstance(layer, konvlib.Konv2d):
        return layer(x)
    if isinstance(layer, nn.MaxPool2d):
        return konvlib.max_pool2d(
            x, layer.kernel_size, stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
            ceil_mode=layer.ceil_mode,
        )  # fmt: skip
    if isinstance(layer, nn.AvgPool2d):
        return konvlib.avg_pool2d(
            x, layer.kernel_size, stride=layer.stride, padding=layer.padding, ceil_mode=layer.ceil_mode,
            count_include_pad=layer.count_include_pad,
        )  # fmt: skip
    options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    if isinstance(layer, nn.Conv2d):
        return konvlib.conv2d(x, layer.weight, layer.bias, padding_mode=layer.padding_mode, **options)
    return konvlib.conv_transpose2d(x, layer.weight, layer.bias, output_padding=layer.output_padding, **options)


def strips_are_exact(rank, world, folder):
    joined(rank, world, folder)
    draw = random.Random(17)
    torch.manual_seed(17)
    seen, refused = {}, 0
    for _ in range(STRIPS):
        axis, n = draw.choice([2, 3]), draw.randint(world, 22)
        bounds = [0, *sorted(draw.sample(range(1, n), world - 1)), n]
        layer = drawn_layer(draw, axis)
        x = integers(2, 2, *((n, 6) if axis == 2 else (6, n))).requires_grad_()
        try:
            y = on_whole(layer, x)
        except ValueError:
            continue
        dy = 12 * integers(*y.shape)
        y.backward(dy)
        whole = [parameter.grad for parameter in layer.parameters()]
        layer.zero_grad()
        mine = x.detach().narrow(axis, bounds[rank], bounds[rank + 1] - bounds[rank]).clone().requires_grad_()
        try:
            strip, cuts = konvlib.scale.strips(layer, mine, bounds, axis=axis)
        except ValueError as error:
            if "leave rank" not in str(error):
                raise
            refused += 1
            continue
        at = cuts[rank], cuts[rank + 1] - cuts[rank]
        strip.backward(dy.narrow(axis, *at))
        same = torch.equal if not isinstance(layer, nn.AvgPool2d) else torch.allclose
        assert cuts[-1] == y.shape[axis], (layer, bounds, cuts)
        assert same(strip, y.narrow(axis, *at)), (layer, bounds)
        assert same(mine.grad, x.grad.narrow(axis, bounds[rank], mine.shape[axis])), (layer, bounds)
        for parameter, expected in zip(layer.parameters(), whole, strict=True):
            assert torch.equal(parameter.grad, expected), (layer, bounds)
        seen[type(layer).__name__] = seen.get(type(layer).__name__, 0) + 1
    assert len(seen) == 5, (seen, refused)
    assert sum(seen.values()) > STRIPS // 4, (seen, refused)
    if rank == 0:
        print(world, seen, "refused", refused)
    with pytest.raises(ValueError, match=r"x must have|another rank"):  # one is wrong: all are told, none waits
        konvlib.scale.strips(nn.MaxPool2d(2), torch.ones(1, 1, 4 + (rank == 1), 4), range(0, 4 * world + 1, 4))
    with pytest.raises(ValueError, match="no outputs"):
        konvlib.scale.strips(nn.MaxPool2d(4 * world), torch.ones(1, 1, 4, 4 * world), range(0, 4 * world + 1, 4))
    leave()


def leave():
    """End a rank when all are done; to take the group apart may wait for a thread of gloo that waits for Python."""
    dist.barrier()
    os._exit(0)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs another on ranks, by ATen: what Triton interprets would take minutes."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    return lambda function, world: spawn(function, args=(world, str(tmp_path)), nprocs=world)


@pytest.mark.parametrize("world", [2, 4])
def test_strips_are_exact(world, run):
    run(strips_are_exact, world)


def shards_are_exact(rank, world, folder):
    """Every placement of each operator; strides 1 and 2 on equal shapes, so that what is remembered must differ."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    joined(rank, world, folder)
    konvlib.scale.register()
    mesh = init_device_mesh("cpu", (world,))
    torch.manual_seed(17)
    channels = {"conv2d": (0, 1), "konv2d": (0, 2), "conv_transpose2d": (1, 0)}
    for kind, (out, into) in channels.items():
        layouts = ((Shard(0), Replicate(), Replicate()), (Replicate(), Shard(out), Shard(0)),
                   (Shard(1), Shard(into), Replicate()))  # fmt: skip
        for layout in layouts:
            for groups, options in ((1, (1, 1)), (1, (2, 1)), (1, (1, 0)), (2, (2, 1))):
                weight = (4, 3, 4 // groups, 3, 3) if kind == "konv2d" else (4, 4 // groups, 3, 3)
                if groups == 2 and weight[layout[1].dim if isinstance(layout[1], Shard) else 0] % world:
                    continue
                given = [integers(4, 4, 8, 9), integers(*weight), integers(4)]
                keywords = {"stride": options[0], "padding": options[1], "groups": groups}
                plain = [tensor.clone().requires_grad_() for tensor in given]
                y = getattr(konvlib, kind)(*plain, **keywords)
                dy = integers(*y.shape)
                y.backward(dy)
                placed = [distribute_tensor(t, mesh, [p]).requires_grad_() for t, p in zip(given, layout, strict=True)]
                z = getattr(konvlib, kind)(*placed, **keywords)
                z.backward(distribute_tensor(dy, mesh, [Replicate()]))
                assert torch.equal(z.full_tensor(), y), (kind, layout, keywords)
                for ours, theirs in zip(placed, plain, strict=True):
                    assert torch.equal(ours.grad.full_tensor(), theirs.grad), (kind, layout, keywords)
    for kind, placement, stride in product(("max_pool2d", "avg_pool2d", "im2col"), (Shard(0), Shard(1)), (1, 2)):
        x = integers(4, 4, 8, 9)
        plain, placed = x.clone().requires_grad_(), distribute_tensor(x, mesh, [placement]).requires_grad_()
        y, z = (getattr(konvlib, kind)(given, 2, stride=stride) for given in (plain, placed))
        dy = 4 * integers(*y.shape)
        y.backward(dy)
        z.backward(distribute_tensor(dy, mesh, [Replicate()]))
        assert z.placements == (placement,)
        assert torch.equal(z.full_tensor(), y), (kind, placement, stride)
        assert torch.equal(placed.grad.full_tensor(), plain.grad), (kind, placement, stride)
    uneven = distribute_tensor(integers(world + 1, 4, 8, 9), mesh, [Shard(0)])
    whole = distribute_tensor(integers(4, 4, 3, 3), mesh, [Replicate()])
    with pytest.raises(ValueError, match=f"{world} ranks cannot share its axis 0"):
        konvlib.conv2d(uneven, whole)
    leave()


@pytest.mark.parametrize("world", [2, 4])
def test_shards_are_exact(world, run):
    run(shards_are_exact, world)
