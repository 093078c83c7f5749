"""Random calls of every function that has a lazy form, and whether blocks give what one call on the whole gives."""

import itertools
from collections.abc import Callable

import dask.array as da
import numpy as np

import konvlib
from konvlib.geometry import PADDING_MODES

SEQUENCES = ("convolve", "correlate", "normalized_correlation", "resample", "convolve_nd")
POOLINGS = ("max_pool", "avg_pool", "indices", "max_pool_grad", "avg_pool_grad")
LAYERS = ("conv", "conv_transpose", "input_grad", "weight_grad", "bias_grad", "konv", "konv_input_grad", "kappa_grad")
KINDS = (*SEQUENCES, *POOLINGS, *LAYERS)


class Source:
    """An array that counts how often it is read."""

    def __init__(self, values):
        self.values, self.reads = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, at):
        self.reads += 1
        return self.values[at]


def lazy(source: Source, chunks: tuple) -> da.Array:
    """The source as a Dask array: nothing of it is read to learn what it holds."""
    return da.from_array(source, chunks=chunks, asarray=False, meta=np.empty((0,) * source.ndim, source.dtype))


def chunks_of(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    """Down to one sample; sometimes none."""
    cuts = sorted([0, size, *rng.integers(0, size + 1, rng.integers(0, 6)).tolist()])
    sizes = tuple(b - a for a, b in itertools.pairwise(cuts))
    return sizes if rng.integers(4) == 0 else tuple(filter(None, sizes)) or (0,)


def case(rng: np.random.Generator, kind: str, change: Callable) -> tuple[Callable, list[np.ndarray]]:
    """A function, and its operands that may be Dask arrays. Not all geometries are good: ValueError.

    ``change`` makes of integers what operands and weights are.
    """
    if kind in SEQUENCES:
        return _sequences(rng, kind, change)
    axes = int(rng.integers(1, 4))
    size = rng.integers(1, {1: 24, 2: 10, 3: 5}[axes], axes)
    kernel = rng.integers(1, 5, axes).tolist()
    window = {"stride": rng.integers(1, 4, axes).tolist(), "dilation": rng.integers(1, 3, axes).tolist()}
    if kind in POOLINGS:
        function, operands = _poolings(rng, kind, axes, size, kernel, window)
    else:
        function, operands = _layers(rng, kind, axes, size, kernel, window, change)
    if rng.integers(4) == 0:  # one sample, without a batch
        operands = [operand[0] for operand in operands]
    return function, [change(operand) for operand in operands]


def _sequences(rng, kind, change):
    if kind == "convolve_nd":
        axes = int(rng.integers(1, 5))
        f = rng.integers(-9, 10, rng.integers(1, {1: 25, 2: 10, 3: 6, 4: 4}[axes], axes))
        g, mode = change(rng.integers(-9, 10, rng.integers(1, 5, axes))), str(rng.choice(["full", "same", "valid"]))
        return lambda f: konvlib.convolve_nd(f, g, mode=mode), [change(f)]
    n, m = int(rng.integers(1, 30)), int(rng.integers(1, 9))
    f = rng.integers(-9, 10, [(n,), (3, n), (2, 1, n), (1, 3, n)][rng.integers(4)])
    g = change(rng.integers(-9, 10, [(m,), (m,), (3, m), (2, 3, m)][rng.integers(4)]))
    options = {} if f.ndim == 1 or g.ndim > f.ndim else {"axis": int(rng.integers(-f.ndim, f.ndim))}
    if kind == "resample":
        options |= {"up": int(rng.integers(1, 6)), "down": int(rng.integers(1, 6))}
    else:
        options["mode"] = str(rng.choice(["full", "same", "valid"]))
        if options["mode"] == "same" and kind != "normalized_correlation":
            options["boundary"] = str(rng.choice([*PADDING_MODES, "symmetric"]))
    return lambda f: getattr(konvlib, kind)(f, g, **options), [change(f)]


def _poolings(rng, kind, axes, size, kernel, window):
    x = rng.integers(-4, 5, (rng.integers(1, 3), rng.integers(1, 4), *size))
    window["padding"] = [(int(rng.integers(0, k // 2 + 1)), int(rng.integers(0, k // 2 + 1))) for k in kernel]
    window["ceil_mode"] = bool(rng.integers(2))
    largest, mean = (getattr(konvlib, f"{name}_pool{axes}d") for name in ("max", "avg"))
    if kind == "max_pool":
        return lambda x: largest(x, kernel, **window), [x]
    if kind == "indices":
        return lambda x: largest(x, kernel, return_indices=True, **window)[1], [x]
    # What is divided by up to 4 in each axis stays an integer.
    dy = 12**3 * rng.integers(-9, 10, largest(x, kernel, **window).shape)
    if kind == "max_pool_grad":
        return lambda x, dy: getattr(konvlib, f"max_pool{axes}d_grad")(x, dy, kernel, **window), [x, dy]
    window["count_include_pad"] = bool(rng.integers(2))
    if kind == "avg_pool":
        return lambda x: mean(x, kernel, **window), [x]
    gradient = getattr(konvlib, f"avg_pool{axes}d_grad")
    return lambda dy: gradient(dy, kernel, input_size=x.shape[2:], **window), [dy]


def _layers(rng, kind, axes, size, kernel, window, change):
    groups = int(rng.integers(1, 3))
    inputs, outputs = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    x = rng.integers(-4, 5, (rng.integers(1, 3), inputs, *size))
    bias = rng.integers(-9, 10, outputs) if rng.integers(2) else None
    window |= {"groups": groups, "padding": [tuple(pair) for pair in rng.integers(0, 6, (axes, 2)).tolist()]}
    if kind == "conv_transpose":
        w = change(rng.integers(-9, 10, (inputs, outputs // groups, *kernel)))
        return lambda x: getattr(konvlib, f"conv_transpose{axes}d")(x, w, bias, **window), [x]
    window["padding_mode"] = str(rng.choice(PADDING_MODES))
    w = change(rng.integers(-9, 10, (outputs, inputs // groups, *kernel)))
    conv = getattr(konvlib, f"conv{axes}d")
    dy = rng.integers(-9, 10, conv(x, w, **window).shape)
    gradient = getattr(konvlib, f"conv{axes}d_{kind}", None)
    if kind == "conv":
        return lambda x: conv(x, w, bias, **window), [x]
    if kind == "input_grad":
        return lambda dy: gradient(dy, w, input_size=x.shape[2:], **window), [dy]
    if kind == "weight_grad":
        return lambda x, dy: gradient(x, dy, kernel_size=kernel, **window), [x, dy]
    if kind == "bias_grad":
        return gradient, [dy]
    degree, window["pad"] = int(rng.integers(0, 4)), str(rng.choice(["basis", "input"]))
    window["basis"] = str(rng.choice(["chebyshev", "monomial"]))
    kappa = change(rng.integers(-3, 4, (outputs, degree + 1, inputs // groups, *kernel)))
    if kind == "konv":
        return lambda x: getattr(konvlib, f"konv{axes}d")(x, kappa, bias, **window), [x]
    if kind == "konv_input_grad":
        return lambda dy, x: getattr(konvlib, f"konv{axes}d_input_grad")(dy, x, kappa, **window), [dy, x]
    gradient = getattr(konvlib, f"konv{axes}d_kappa_grad")
    return lambda x, dy: gradient(x, dy, degree=degree, kernel_size=kernel, **window), [x, dy]


def spoiled(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Floats, some of them NaN or infinite, in half of all cases."""
    values = values.astype(float)
    count = int(rng.integers(0, 4)) * int(rng.integers(2))
    values.flat[rng.integers(0, values.size, count)] = rng.choice([np.nan, np.inf, -np.inf], count)
    return values


def check(rng: np.random.Generator, kind: str, change: Callable = lambda values: values) -> bool:
    """Hold one random call in random chunks to that on the whole; False if its geometry was not good.

    ``change`` makes of integers what operands and weights are.

    Raises
    ------
    AssertionError
        If something was read before it was asked for, or if shape, dtype or a value differs.
    """
    try:
        function, operands = case(rng, kind, change)
        with np.errstate(invalid="ignore", over="ignore"):
            want = function(*operands)
    except ValueError:
        return False
    sources = [Source(operand) for operand in operands]
    given = [lazy(source, tuple(chunks_of(rng, n) for n in source.shape)) for source in sources]
    if len(given) > 1 and rng.integers(4) == 0:  # an array beside a Dask array
        which = int(rng.integers(2))
        given[which] = operands[which]
    got = function(*given)
    assert isinstance(got, da.Array)
    assert not any([source.reads for source in sources])
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        value = got.compute(scheduler="sync")
    assert (value.shape, value.dtype) == (want.shape, want.dtype)
    assert np.array_equal(value, want, equal_nan=value.dtype.kind in "fc"), [
        x.chunks for x in given if hasattr(x, "chunks")
    ]
    return True
