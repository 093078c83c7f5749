"""What chains and stores are tested on: a source that counts, random chunks and layers, and these one by one."""

import itertools

import numpy as np

import konvlib
from konvlib.geometry import PADDING_MODES
from konvlib.scale import PaddedLayer


class Source:
    """An array that counts how often it is read, and keeps which samples of its last axis were."""

    def __init__(self, values):
        self.values, self.reads, self.spans = values, 0, []
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, at):
        self.reads += 1
        self.spans.append((at[-1].start, at[-1].stop))
        return self.values[at]


def cut(rng, size):
    """Random chunks of an axis, down to one sample."""
    cuts = sorted({0, size, *rng.integers(0, size + 1, rng.integers(0, 6)).tolist()})
    return tuple([b - a for a, b in itertools.pairwise(cuts)])


def layer_by_layer(x, layers):
    for layer in layers:
        if callable(layer):
            x = layer(x)
            continue
        w = np.asarray(layer.weight)
        conv = getattr(konvlib, f"conv{w.ndim - 2}d")
        options = {part: getattr(layer, part) for part in ("stride", "padding", "dilation", "groups", "padding_mode")}
        x = conv(x, w, layer.bias, **options)
    return x


def _chain(rng):
    """An input and a chain of layers and activations, where axes, channels and sides differ."""
    axes = int(rng.integers(1, 4))
    channels = int(rng.integers(1, 3)) * 2
    x = rng.integers(-4, 5, (rng.integers(1, 4), channels, *rng.integers(1, {1: 25, 2: 11, 3: 6}[axes], axes)))
    layers = []
    for _ in range(rng.integers(1, 5)):
        if layers and rng.integers(4) == 0:
            layers.append(rng.choice([np.abs, np.sign]))
            continue
        outputs, groups = int(rng.integers(1, 3)) * 2, int(rng.integers(1, 3))
        w = rng.integers(-2, 3, (outputs, channels // groups, *rng.integers(1, 5, axes)))
        bias = rng.integers(-3, 4, outputs) if rng.integers(2) else None
        stride, dilation = rng.integers(1, 4, axes).tolist(), rng.integers(1, 3, axes).tolist()
        padding = [tuple(pair) for pair in rng.integers(0, 6, (axes, 2)).tolist()]
        mode = str(rng.choice(["zeros", "zeros", "reflect", "replicate"]))
        layers.append(PaddedLayer(w, stride, dilation, bias, groups, padding, mode))
        channels = outputs
    return x, layers


def chains(seed, count):
    """Random inputs and chains, with what layer by layer gives."""
    rng = np.random.default_rng(seed)
    while count:
        x, layers = _chain(rng)
        try:
            want = layer_by_layer(x, layers)
        except ValueError:  # a kernel that does not fit
            continue
        yield rng, x, layers, want
        count -= 1


def single_layers(seed, count):
    """Random inputs, weights and options of a layer in every mode, with what one call gives."""
    rng = np.random.default_rng(seed)
    while count:
        axes, groups = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        inputs, outputs = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 4))
        x = rng.integers(-4, 5, (rng.integers(1, 4), inputs, *rng.integers(1, {1: 25, 2: 11, 3: 6}[axes], axes)))
        w = rng.integers(-9, 10, (outputs, inputs // groups, *rng.integers(1, 6, axes)))
        bias = rng.integers(-9, 10, outputs) if rng.integers(2) else None
        options = {name: rng.integers(1, 4, axes).tolist() for name in ("stride", "dilation")}
        options |= {"groups": groups, "padding_mode": str(rng.choice(PADDING_MODES))}
        options["padding"] = [tuple(pair) for pair in rng.integers(0, 9, (axes, 2)).tolist()]
        try:
            want = getattr(konvlib, f"conv{axes}d")(x, w, bias, **options)
        except ValueError:  # a kernel that does not fit
            continue
        yield rng, x, (w, bias), options, want
        count -= 1
