"""The geometry of a transposed convolution, of the zeros inserted into its operand, and of overlapping taps."""

from __future__ import annotations

from collections.abc import Sequence

from konvlib.geometry.arguments import (
    MOST_SAMPLES,
    SIZED_PADDINGS,
    check_channels,
    check_untraced,
    integer,
    padding_pair,
    per_axis,
)
from konvlib.geometry.layers import (
    AXIS_NAMES,
    ConvGeometry,
    Padding,
    PerAxis,
    check_bias,
    checked_shape,
    least_strides,
    weight_axes,
)
from konvlib.geometry.matrices import axis_sizes, spatial_axes
from konvlib.geometry.sizes import conv_transpose_size, paddings, span


def conv_transpose_geometry(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    bias_shape: Sequence[int] | None = None,
    *,
    axes: int | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> ConvGeometry:
    """Check every argument of a transposed convolution and return the geometry of the convolution that it transposes.

    Its input is the transposed convolution's output: ``x_shape`` is the result's ``output_shape``.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        ``(N, C_in, *size)`` and ``(C_in, C_out // groups, *kernel)``.
    bias_shape : sequence of int, optional
        ``(C_out,)``.
    axes : {1, 2, 3}, optional
        How many spatial axes the called function has; by default as many as ``w`` has.

    Raises
    ------
    TypeError, ValueError
        As `conv_geometry`; also if ``output_padding`` is not less than stride or dilation, if there is no such
        ``output_size``, or if both are given.

    Examples
    --------
    >>> conv_transpose_geometry((1, 4, 3, 5), (4, 2, 3, 3), axes=2, stride=2).input_shape
    (1, 2, 7, 11)
    >>> conv_transpose_geometry((1, 4, 3, 5), (4, 2, 3, 3), axes=2, stride=2, output_size=(8, 12)).input_shape
    (1, 2, 8, 12)
    >>> layer = conv_transpose_geometry((1, 4, 3, 5), (4, 2, 3, 3), axes=2, stride=2, padding="same_upper")
    >>> layer.input_shape, layer.padding
    ((1, 2, 6, 10), ((0, 1), (0, 1)))
    """
    axes = spatial_axes(w_shape, "w", "C_in, C_out // groups") if axes is None else axes
    batch, in_channels, *size = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    rows, depth, *kernel = checked_shape(w_shape, "w", axes, weight_axes(axes, "C_in, C_out // groups"))
    if rows != in_channels:
        raise ValueError(f"w must have {in_channels} channels in, as x has, got {rows}")
    groups = check_channels(in_channels, in_channels, groups)
    out_channels = depth * groups
    check_bias(bias_shape, out_channels, f"w with groups {groups}")
    steps, gaps = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    extras = per_axis(output_padding, axes, "output_padding", least=0)
    wanted = None if output_size is None else per_axis(output_size, axes, "output_size", most=MOST_SAMPLES)
    if wanted:
        check_untraced("output_size")
    sized = isinstance(padding, str) and padding in SIZED_PADDINGS
    if any(extras) and (sized or wanted):
        given = f"padding {padding!r}" if sized else f"output_size {wanted}"
        raise ValueError(f"output_padding must be 0 where {given} is given, got {extras}")
    if sized:
        outputs = outputs_of_same(size, steps, wanted)
        pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps, size=outputs)
    else:
        pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps)
        if wanted:
            each = zip(size, kernel, wanted, steps, pads, gaps, strict=True)
            extras = [chosen_output_padding(n, k, o, stride=s, padding=p, dilation=d) for n, k, o, s, p, d in each]
        each = zip(size, kernel, steps, pads, extras, gaps, strict=True)
        outputs = tuple(
            conv_transpose_size(n, k, stride=s, padding=p, output_padding=e, dilation=d) for n, k, s, p, e, d in each
        )
    steps = least_strides(steps, outputs, pads)
    return ConvGeometry(
        batch, out_channels, in_channels, groups, outputs, tuple(kernel), steps, pads, gaps, "zeros", tuple(size)
    )


def chosen_output_padding(
    size: int, kernel: int, wanted: int, *, stride: int = 1, padding: tuple[int, int] = (0, 0), dilation: int = 1
) -> int:
    """Return the ``output_padding`` with which a transposed convolution has ``wanted`` outputs, as PyTorch chooses it.

    Raises
    ------
    ValueError
        If ``wanted`` is none of the ``stride`` output sizes that there are.

    Examples
    --------
    >>> chosen_output_padding(3, 3, 8, stride=2)
    1
    """
    size, covered = integer(size, "size", least=1), span(kernel, dilation=dilation)
    stride, (before, after) = integer(stride, "stride", least=1), padding_pair(padding, "padding")
    least = (size - 1) * stride + covered - before - after
    check_among(wanted, least, least + stride - 1)
    return wanted - least


def outputs_of_same(size: Sequence[int], stride: Sequence[int], wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Return the sizes of which ``"same_upper"`` makes these by these strides: the largest, or those that are wanted.

    Raises
    ------
    ValueError
        If of those that are wanted it makes other sizes.

    Examples
    --------
    >>> outputs_of_same((3, 5), (2, 1), None), outputs_of_same((3, 5), (2, 1), (5, 5))
    ((6, 5), (5, 5))
    """
    if wanted is None:
        return tuple([n * s for n, s in zip(size, stride, strict=True)])
    for n, s, output in zip(size, stride, wanted, strict=True):
        check_among(output, (n - 1) * s + 1, n * s)
    return tuple(wanted)


def check_among(wanted: int, least: int, most: int) -> None:
    """Check that the output size that is asked of a transposed convolution, or an unpooling, is one that it can have.

    Raises
    ------
    ValueError
        If it is less than ``least`` or more than ``most``.

    Examples
    --------
    >>> check_among(9, 7, 8)
    Traceback (most recent call last):
    ...
    ValueError: output_size must be 7 to 8, got 9
    """
    if most < 1:
        raise ValueError(f"padding must leave an output, got one that leaves at most {most}")
    if not least <= wanted <= most:
        raise ValueError(f"output_size must be {max(least, 1)} to {most}, got {wanted}")


def overlap_geometry(
    size: int | Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
) -> ConvGeometry:
    """Return the geometry of a transposed convolution from one channel of ``size`` samples to one.

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose_geometry`.

    Examples
    --------
    >>> overlap_geometry((3, 5), 3, stride=2).input_size
    (7, 11)
    """
    given = axis_sizes(size, "size")
    kernel = per_axis(kernel_size, len(given), "kernel_size")
    return conv_transpose_geometry(
        (1, 1, *given),
        (1, 1, *kernel),
        axes=len(given),
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        output_size=output_size,
        dilation=dilation,
    )


def inserted_size(x_shape: Sequence[int], stride: PerAxis) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the strides, one per axis, and the sizes once ``stride - 1`` zeros lie between samples.

    Raises
    ------
    TypeError, ValueError
        As `per_axis`; also if ``x`` is empty or has the wrong rank.

    Examples
    --------
    >>> inserted_size((1, 1, 3, 4), (2, 3))
    ((2, 3), (5, 10))
    """
    axes = spatial_axes(x_shape, "x")
    if 0 in x_shape[1:]:
        raise ValueError(f"x must not be empty, got shape {tuple(x_shape)}")
    steps = per_axis(stride, axes, "stride")
    return steps, tuple((n - 1) * s + 1 for n, s in zip(x_shape[2:], steps, strict=True))
