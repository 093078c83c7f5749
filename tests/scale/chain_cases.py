"""Random chains of every kind of link, and what they give one by one, on the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import konvlib
from konvlib.scale import AvgPool, ConvTranspose, Konv, MaxPool, PaddedLayer

FUNCTIONS = {MaxPool: "max_pool", AvgPool: "avg_pool", Konv: "konv", ConvTranspose: "conv_transpose"}
KINDS = (PaddedLayer, PaddedLayer, *FUNCTIONS, "activation")


def small(y: np.ndarray) -> np.ndarray:
    """An activation that keeps whole numbers small, so that what is computed of them is exact."""
    return y % 7 - 3


def layer_by_layer(x: np.ndarray, layers: list[Any]) -> np.ndarray:
    """Each link on the whole result of the one before, by the public functions."""
    axes = x.ndim - 2
    for layer in layers:
        if callable(layer):
            x = layer(x)
            continue
        options = layer._asdict() if isinstance(layer, PaddedLayer) else dict(vars(layer))
        operands = [options.pop(name) for name in ("weight", "kappa", "kernel_size", "bias") if name in options]
        x = getattr(konvlib, f"{FUNCTIONS.get(type(layer), 'conv')}{axes}d")(x, *operands, **options)
    return x


def _link(rng: np.random.Generator, kind: Any, channels: int, axes: int) -> tuple[list[Any], int]:
    """A link, with the activations that it needs for its values to be exact, and the channels that it gives."""
    kernel, outputs, groups = rng.integers(1, 5, axes).tolist(), int(rng.integers(1, 3)) * 2, int(rng.integers(1, 3))
    window: dict[str, Any] = {
        "stride": rng.integers(1, 4, axes).tolist(), "dilation": rng.integers(1, 3, axes).tolist(),
        "padding": [tuple(pair) for pair in rng.integers(0, 6, (axes, 2)).tolist()],
    }  # fmt: skip
    bias = rng.integers(-3, 4, outputs) if rng.integers(2) else None
    mode = str(rng.choice(["zeros", "zeros", "reflect", "replicate"]))
    if kind == "activation":
        return [rng.choice([np.abs, np.sign])], channels
    if kind in (MaxPool, AvgPool):
        reach = [d * (k - 1) + 1 for d, k in zip(window["dilation"], kernel, strict=True)]
        window["padding"] = [tuple(rng.integers(0, n // 2 + 1, 2).tolist()) for n in reach]
        window["ceil_mode"] = bool(rng.integers(2))
    if rng.integers(6) == 0:
        window["padding"] = str(rng.choice(["same_upper", "same_lower"]))
    if kind is MaxPool:
        return [MaxPool(kernel, **window)], channels
    if kind is AvgPool:
        # What is divided by up to 4 in each axis stays a whole number.
        window["count_include_pad"] = bool(rng.integers(2))
        window["divisor_override"] = [None, 3][int(rng.integers(6) == 0)]
        return [small, lambda y: 12**axes * y, AvgPool(kernel, **window), small], channels
    if kind is ConvTranspose:
        w = rng.integers(-2, 3, (channels, outputs // groups, *kernel))
        if not isinstance(window["padding"], str):
            window["output_padding"] = rng.integers(0, 2, axes).tolist()
        return [ConvTranspose(w, bias, groups=groups, **window)], outputs
    if kind is Konv:
        kappa = rng.integers(-2, 3, (outputs, rng.integers(1, 4), channels // groups, *kernel))
        window |= {"basis": str(rng.choice(["chebyshev", "monomial"])), "pad": str(rng.choice(["basis", "input"]))}
        return [small, Konv(kappa, bias, groups=groups, padding_mode=mode, **window)], outputs
    w = rng.integers(-2, 3, (outputs, channels // groups, *kernel))
    return [PaddedLayer(w, bias=bias, groups=groups, padding_mode=mode, **window)], outputs


def _chain(rng: np.random.Generator) -> tuple[np.ndarray, list[Any]]:
    """An input and a chain of links, where axes, channels and sides differ."""
    axes, channels = int(rng.integers(1, 4)), int(rng.integers(1, 3)) * 2
    x = rng.integers(-4, 5, (rng.integers(1, 4), channels, *rng.integers(1, {1: 25, 2: 11, 3: 6}[axes], axes)))
    layers: list[Any] = []
    for _ in range(rng.integers(1, 5)):
        links, channels = _link(rng, KINDS[rng.integers(len(KINDS))], channels, axes)
        layers += links
        if any([isinstance(layer, AvgPool) for layer in layers]):
            layers.append(np.rint)  # floats may be convolved by transforms, which round
    return x, layers


def chains(seed: int, count: int) -> Iterator[tuple[np.random.Generator, np.ndarray, list[Any], np.ndarray]]:
    """Random inputs and chains, with what layer by layer gives."""
    rng = np.random.default_rng(seed)
    while count:
        x, layers = _chain(rng)
        try:
            want = layer_by_layer(x, layers)
        except ValueError:  # a kernel that does not fit
            continue
        if want.size > 20_000 or not any([isinstance(layer, (PaddedLayer, Konv, ConvTranspose)) for layer in layers]):
            continue  # transposed layers make images large; weights tell how many axes there are
        yield rng, x, layers, want
        count -= 1
