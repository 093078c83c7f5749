"""What tests of this house read from: a source that counts, random chunks, and layers one after the other."""

import itertools

import numpy as np

import konvlib


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
