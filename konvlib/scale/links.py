"""The links of a chain, as a user names them, and each made ready: what it reads, and what it computes of a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, Padding, PerAxis, PoolGeometry, halos
from konvlib.geometry.arguments import is_sequence
from konvlib.geometry.arguments import shown as told
from konvlib.images import arrays as images
from konvlib.scale import lazy
from konvlib.scale.blocks import Part


class PaddedLayer(NamedTuple):
    """One convolution of a chain: a `konvlib.Layer` with padding.

    Attributes
    ----------
    weight : array_like, shape (C_out, C_in // groups, *kernel_size)
        The weight; or a bare kernel of one or two axes, which has one channel.
    stride, dilation : int or sequence of int
        One for all axes, or one each.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    groups : int
        Into how many groups the channels fall.
    padding, padding_mode
        As in `konvlib.conv2d`.
    """

    weight: Any
    stride: PerAxis = 1
    dilation: PerAxis = 1
    bias: Any = None
    groups: int = 1
    padding: Padding = 0
    padding_mode: str = "zeros"


@dataclass(frozen=True, eq=False)
class MaxPool:
    """One pooling of a chain: the largest sample of each window, with the arguments of `konvlib.max_pool2d`."""

    kernel_size: PerAxis
    _: KW_ONLY
    stride: PerAxis | None = None
    padding: Padding = 0
    dilation: PerAxis = 1
    ceil_mode: bool = False


@dataclass(frozen=True, eq=False)
class AvgPool:
    """One pooling of a chain: the mean of each window, with the arguments of `konvlib.avg_pool2d`."""

    kernel_size: PerAxis
    _: KW_ONLY
    stride: PerAxis | None = None
    padding: Padding = 0
    dilation: PerAxis = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None


@dataclass(frozen=True, eq=False)
class Konv:
    """One Konvolution of a chain, with the arguments of `konvlib.konv2d`.

    Attributes
    ----------
    kappa : array_like, shape (C_out, degree + 1, C_in // groups, *kernel_size)
        The coefficients.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    basis, stride, padding, dilation, groups, padding_mode, pad
        As in `konvlib.konv2d`.
    """

    kappa: Any
    bias: Any = None
    _: KW_ONLY
    basis: str = "chebyshev"
    stride: PerAxis = 1
    padding: Padding = 0
    dilation: PerAxis = 1
    groups: int = 1
    padding_mode: str = "zeros"
    pad: str = "basis"


@dataclass(frozen=True, eq=False)
class ConvTranspose:
    """One transposed convolution of a chain, with the arguments of `konvlib.conv_transpose2d`.

    Attributes
    ----------
    weight : array_like, shape (C_in, C_out // groups, *kernel_size)
        The weight; or a bare kernel of one or two axes, which has one channel.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    stride, padding, output_padding, output_size, dilation, groups
        As in `konvlib.conv_transpose2d`.
    """

    weight: Any
    bias: Any = None
    _: KW_ONLY
    stride: PerAxis = 1
    padding: Padding = 0
    output_padding: PerAxis = 0
    output_size: PerAxis | None = None
    dilation: PerAxis = 1
    groups: int = 1


NAMED = (PaddedLayer, MaxPool, AvgPool, Konv, ConvTranspose)


@dataclass(frozen=True)
class Step:
    """A link made ready: a layer, a pooling, or a function, which along axes is a layer of one tap.

    ``compute(block, parts)`` gives a block of outputs of the samples that it sees.
    """

    layer: ConvGeometry | PoolGeometry
    dtype: np.dtype
    compute: Callable[[np.ndarray, dict[int, Part]], np.ndarray]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.layer.output_shape

    @property
    def is_circular(self) -> bool:
        """Whether its padding shows the far end."""
        return getattr(self.layer, "padding_mode", "zeros") == "circular" and any(self.layer.sides)

    def read(self, i: int, start: int, stop: int) -> halos.Read:
        """What outputs ``start`` to ``stop`` read along a spatial axis."""
        return halos.read_by(self.layer, i, start, stop, getattr(self.layer, "padding_mode", "zeros"))

    def cuts(self, i: int, bounds: Sequence[int]) -> tuple[int, ...]:
        """Where to cut the outputs along a spatial axis, of an input that is cut at bounds."""
        return halos.outputs_beside(bounds, self.layer.output_size[i], **halos.window_of(self.layer, i))


class TransposedStep(Step):
    """The transpose of its layer, whose input is its output."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.layer.input_shape

    def read(self, i: int, start: int, stop: int) -> halos.Read:
        return lazy.read_transposed(start, stop, self.layer.output_size[i], halos.window_of(self.layer, i))

    def cuts(self, i: int, bounds: Sequence[int]) -> tuple[int, ...]:
        return halos.outputs_beside_transposed(bounds, self.layer.input_size[i], **halos.window_of(self.layer, i))


def operands_of(link: Any) -> dict[str, Any]:
    """Return the arrays of a link, made ready; poolings and functions have none.

    Examples
    --------
    >>> operands_of(PaddedLayer([[[1, 2]]]))["w"].shape, operands_of(MaxPool(2))
    ((1, 1, 2), {})
    """
    if isinstance(link, Konv):
        return lazy.checked({"kappa": link.kappa, "bias": link.bias})
    if isinstance(link, (PaddedLayer, ConvTranspose)):
        return lazy.checked({"w": link.weight, "bias": link.bias})
    return {}


def spatial_axes(link: Any, operands: dict[str, Any]) -> int | None:
    """Return how many spatial axes a link tells: by its array, or by one size for each; None if it does not.

    Examples
    --------
    >>> spatial_axes(MaxPool((2, 3)), {}), spatial_axes(MaxPool(2), {})
    (2, None)
    """
    if "w" in operands:
        return geometry.kernel_axes(operands["w"].shape, "w")
    if "kappa" in operands:
        shape = operands["kappa"].shape
        if not 4 <= len(shape) <= 6:
            raise ValueError(
                f"kappa must have 4 to 6 axes (C_out, degree + 1, C_in // groups, *kernel_size), got shape {shape}"
            )
        return len(shape) - 3
    sizes = getattr(link, "kernel_size", None)
    if not is_sequence(sizes):
        return None
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"kernel_size must have one to three entries, got {told(tuple(sizes))}")
    return len(sizes)


def step_of(link: Any, operands: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype, axes: int) -> Step:
    """Return a link made ready for an input of a shape ``(N, C, *size)`` and a dtype.

    Raises
    ------
    TypeError, ValueError
        As the function that the link names; also if a function does not look at each place by itself.

    Examples
    --------
    >>> step = step_of(AvgPool(2, ceil_mode=True), {}, (1, 4, 7), np.dtype(int), 1)
    >>> step.output_shape, step.dtype, step.read(0, 3, 4).spans
    ((1, 4, 4), dtype('float64'), ((6, 7),))
    """
    if callable(link):
        return _function_step(link, shape, dtype, axes)
    options: dict[str, Any] = {"axes": axes} | (link._asdict() if isinstance(link, PaddedLayer) else vars(link))
    if isinstance(link, (MaxPool, AvgPool)):
        return _pooling_step(link, shape, dtype, options)
    options = {name: option for name, option in options.items() if name not in ("weight", "kappa", "bias")}
    if isinstance(link, Konv):
        return _konv_step(operands, shape, dtype, options)
    return _layer_step(isinstance(link, ConvTranspose), operands, shape, dtype, options)


def _pooling_step(link: Any, shape: tuple[int, ...], dtype: np.dtype, options: dict[str, Any]) -> Step:
    if isinstance(link, AvgPool):
        pool = geometry.avg_pool_geometry(shape, **options)
        return Step(pool, geometry.mean_dtype(dtype), partial(lazy._pool_block, images.avg_pool, pool=pool))
    geometry.check_ordered(np.empty(0, dtype), "x")
    pool = geometry.max_pool_geometry(shape, **options)
    return Step(pool, dtype.newbyteorder("="), partial(lazy._pool_block, images.max_pool, pool=pool))


def _konv_step(operands: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype, options: dict[str, Any]) -> Step:
    kappa, bias, basis = operands["kappa"], operands["bias"], options.pop("basis")
    result = lazy.konv_dtype(basis, np.empty(0, dtype), kappa, bias)
    given = geometry.konv_geometry(shape, kappa.shape, None if bias is None else bias.shape, **options)
    compute = partial(lazy._konv_block, kappa=kappa, bias=bias, given=given, basis=basis, dtype=result)
    return Step(given.layer, result, compute)


def _layer_step(
    transposed: bool, operands: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype, options: dict[str, Any]
) -> Step:
    w, bias = operands["w"], operands["bias"]
    if w.ndim == options["axes"]:
        w = w[None, None]
    shapes = shape, w.shape, None if bias is None else bias.shape
    result = lazy.common_dtype(np.empty(0, dtype), w, bias)
    if transposed:
        layer = geometry.conv_transpose_geometry(*shapes, **options)
        return TransposedStep(layer, result, partial(lazy._transposed_block, w=w, bias=bias, layer=layer))
    layer = geometry.conv_geometry(*shapes, **options)
    return Step(layer, result, partial(lazy._conv_block, w=w, bias=bias, layer=layer))


def _function_step(function: Any, shape: tuple[int, ...], dtype: np.dtype, axes: int) -> Step:
    layer = geometry.conv_geometry(shape, (shape[1], 1, *(1,) * axes), axes=axes, groups=shape[1])
    return Step(layer, _checked_function(function, shape[1], axes, dtype), partial(_function_block, function=function))


def _function_block(x: np.ndarray, parts: dict[int, Part], function: Any) -> np.ndarray:
    return function(x)


def _checked_function(function: Any, channels: int, axes: int, dtype: np.dtype) -> np.dtype:
    """The dtype that a function gives, seen on a small array, where it must look at each place by itself."""
    shape = (2, channels, *(2, 3, 4)[:axes])
    probe = np.arange(prod(shape)).reshape(shape).astype(dtype)
    first, last = ((side, slice(None), *[side] * axes) for side in (slice(1), slice(1, None)))
    try:
        with np.errstate(all="ignore"):
            whole, *alone = [function(part) for part in (probe, probe[first], probe[last])]
    except Exception as error:
        raise TypeError(f"a function must take an array, and raised {type(error).__name__}: {error}") from error
    if not isinstance(whole, np.ndarray) or whole.shape != shape:
        raise ValueError(f"a function must give an array of the shape that it gets, got {told(whole)}")
    for place, part in zip((first, last), alone, strict=True):
        if np.shape(part) != whole[place].shape or not np.allclose(whole[place], part, equal_nan=True):
            raise ValueError("a function must look at each place by itself, got one that looks at others too")
    return whole.dtype
