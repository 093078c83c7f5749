"""What chains and stores are tested on: a source that counts, random chunks, and random layers."""

import itertools

import numpy as np

import konvlib
from konvlib.geometry import PADDING_MODES


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
