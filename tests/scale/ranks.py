"""Ranks for tests: how a group of them runs a function, and random layers with whole numbers in them.

Ranks compute by ATen, whatever the tests around them do: what Triton interprets would take minutes.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

import konvlib
from konvlib.geometry import PADDING_MODES

SECONDS = 120


def run(function, world, folder, *given):
    """Run ``function(rank, world, *given)`` on each rank of a group; raise what one raises, or that they do not end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "0")
        ranks = spawn(_rank, args=(world, function, str(folder), *given), nprocs=world, join=False)
    end = time.monotonic() + SECONDS
    while not ranks.join(timeout=max(end - time.monotonic(), 0)):
        if time.monotonic() > end:
            for process in ranks.processes:
                process.kill()
            raise TimeoutError(f"{function.__name__}: ranks wait for each other, or took {SECONDS} s")


def _rank(rank, world, function, folder, *given):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=SECONDS))
    function(rank, world, *given)
    dist.barrier()
    os._exit(0)  # to take the group apart may wait for a thread of gloo that waits for Python


def integers(*shape):
    return torch.randint(-3, 4, shape).double()


def with_integers(layer):
    layer.double()
    for parameter in layer.parameters():
        parameter.data = integers(*parameter.shape)
    return layer


def drawn_bounds(draw, size, world):
    return [0, *sorted(draw.sample(range(1, size), world - 1)), size]


def drawn_layer(draw, axes, axis, kinds=("conv", "konv", "transpose", "max", "avg")):
    """A layer of two channels, random along the axis that is cut, and plain along the others."""
    k, s, d = draw.choice([1, 2, 3, 4, 5]), draw.choice([1, 1, 2, 3]), draw.choice([1, 1, 2])
    mode = draw.choice(PADDING_MODES)
    kind = draw.choice(kinds)
    p = draw.randint(0, k // 2 if kind in ("max", "avg") else k)

    def along(here, others):
        return tuple(here if place == axis - 2 else others for place in range(axes))

    ks, ss, ds, ps = along(k, 3), along(s, 1), along(d, 1), along(p, 1)
    if kind == "max":
        return getattr(nn, f"MaxPool{axes}d")(ks, ss, ps, ds, ceil_mode=draw.random() < 0.5)
    if kind == "avg":
        options = {"ceil_mode": draw.random() < 0.5, "count_include_pad": draw.random() < 0.5}
        return getattr(nn, f"AvgPool{axes}d")(*((v[0] for v in (ks, ss, ps)) if axes == 1 else (ks, ss, ps)), **options)
    options = {"stride": ss, "padding": ps, "dilation": ds, "groups": draw.choice([1, 2])}
    if kind == "transpose":
        more = along(draw.randint(0, max(s, d) - 1), 0)
        return with_integers(getattr(nn, f"ConvTranspose{axes}d")(2, 4, ks, output_padding=more, **options))
    if kind == "conv":
        return with_integers(getattr(nn, f"Conv{axes}d")(2, 4, ks, padding_mode=mode, **options))
    options |= {"squash": "none", "basis": "monomial", "degree": 2, "affine": draw.random() < 0.5}
    pad = draw.choice(["basis", "input"])
    return with_integers(getattr(konvlib, f"Konv{axes}d")(2, 4, ks, padding_mode=mode, pad=pad, **options))


def kind_of(layer):
    """The name of a layer's class, without its axes."""
    return type(layer).__name__[:-2]


def on_whole(layer, x):
    """The layer on a whole image, by konvlib's own functions, which take all that strips do."""
    axes, kind = x.dim() - 2, kind_of(layer)
    if kind == "Konv":
        return layer(x)
    names = {
        "MaxPool": ("stride", "padding", "dilation", "ceil_mode"),
        "AvgPool": ("stride", "padding", "ceil_mode", "count_include_pad"),
        "Conv": ("stride", "padding", "dilation", "groups", "padding_mode"),
        "ConvTranspose": ("stride", "padding", "dilation", "groups", "output_padding"),
    }[kind]
    options = {name: getattr(layer, name) for name in names}
    if kind in ("MaxPool", "AvgPool"):
        return getattr(konvlib, f"{'max' if kind == 'MaxPool' else 'avg'}_pool{axes}d")(x, layer.kernel_size, **options)
    function = getattr(konvlib, f"{'conv' if kind == 'Conv' else 'conv_transpose'}{axes}d")
    return function(x, layer.weight, layer.bias, **options)
