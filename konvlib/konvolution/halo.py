"""Konvolution by a halo in shared memory: which layers the kernel serves, how it goes over them, and its launch.

It takes layers in halves on Hopper, without groups, with kernels up to 7 on one or two axes; all others go other ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.konvolution.frozen import Keep, anew, place_of
from konvlib.konvolution.halo_kernel import gl, konv_halo_kernel
from konvlib.konvolution.preparation import CHANNELS, Added, Ends, Walk, each_its_own, prepared
from konvlib.layers import autotune, bound, memory
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion
from konvlib.runtime import cdiv, power_of_2

try:
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
except ImportError:  # no Triton, or one that is too old
    TensorDescriptor = None

WIDE = (Tile(128, 128, 64, 8, 6), Tile(64, 128, 64, 4, 5))
NARROW = (Tile(64, 64, 192, 4, 3), Tile(64, 64, 64, 4, 8))
"""Pixels and outputs of a tile, what is summed between two barriers, 64 for each tap, warps, and places in the ring of
weights. For more than 64 outputs, and for fewer."""

LEAST = 48
"""The fewest channels, of the input and of the output: tiles have 64, and what is padded is computed in vain."""

SHARED_MEMORY = 227 * 1024
Launch = tuple[Any, tuple[int], dict[str, Any]]
"""A kernel, its grid and its arguments."""


@lru_cache(1024)
def walk_of(layer: ConvGeometry) -> Walk:
    """How the kernel goes over a layer of one or two axes: down that with the longer kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> walk_of(conv_geometry((32, 64, 56, 56), (64, 64, 3, 3), axes=2, padding=1))
    Walk(rows=0, columns=1, phases=1, step=1, halo=2, gap=1)
    """
    rows = max(range(layer.axes), key=layer.kernel_size.__getitem__)
    columns = 1 - rows if layer.axes == 2 else None
    kernel, stride, dilation = layer.kernel_size[rows], layer.stride[rows], layer.dilation[rows]
    common = math.gcd(stride, dilation)
    phases, step = min(kernel, stride // common), dilation // common
    halo = (cdiv(kernel, phases) - 1) * step
    gap = next(gap for gap in range(halo + 1) if _is_enough(gap, layer, rows, phases, step))
    return Walk(rows, columns, phases, step, halo, gap)


def _is_enough(gap: int, layer: ConvGeometry, axis: int, phases: int, step: int) -> bool:
    """Whether each tap that runs past the last slot of an image, into the next, finds padding where there is some."""
    size, outputs, before = layer.input_size[axis], layer.output_size[axis], layer.padding[axis][0]
    stride, dilation = layer.stride[axis], layer.dilation[axis]
    lines = outputs + gap
    for tap in range(phases, layer.kernel_size[axis]):
        down = tap // phases * step
        for slot in range(max(lines, down), outputs + down):
            wanted, found = ((s * stride + dilation * (tap % phases) - before) for s in (slot, slot % lines))
            if 0 <= wanted < size or 0 <= found < size:
                return False
    return True


def serves(x: torch.Tensor, layer: ConvGeometry) -> bool:
    """Whether the kernel computes a layer of this input: on Hopper, in halves, without groups, for small kernels.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x = torch.ones(1, 64, 9, dtype=torch.bfloat16)
    >>> serves(x, conv_geometry(x.shape, (64, 64, 3), axes=1))
    False
    """
    return TensorDescriptor is not None and x.is_cuda and runtime.is_hopper(x.device) and fits(layer, x.dtype)


@lru_cache(1024)
def fits(layer: ConvGeometry, dtype: torch.dtype) -> bool:
    """Whether the kernel computes such a layer.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((2, 64, 9, 9), (64, 64, 3, 3), axes=2, stride=2, dilation=2)
    >>> fits(layer, torch.bfloat16), fits(layer, torch.float32)
    (True, False)
    """
    enough = min(layer.in_channels, layer.out_channels) >= LEAST
    return enough and is_of_kind(layer, dtype) and bool(tiles_of(layer))


def is_of_kind(layer: ConvGeometry, dtype: torch.dtype) -> bool:
    """Whether a kernel by a halo computes such a layer, if it has channels enough for its tiles."""
    if dtype not in runtime.HALVES or layer.groups > 1 or layer.axes > 2 or max(layer.kernel_size) > 7:
        return False
    if 0 in layer.output_shape or math.prod(layer.output_shape) // layer.out_channels >= 2**30:
        return False
    return layer.stride[walk_of(layer).rows] <= 2


@lru_cache(1024)
def tiles_of(layer: ConvGeometry) -> tuple[Tile, ...]:
    """The tiles that fit, the likeliest first."""
    tiles = NARROW if layer.out_channels <= 64 else WIDE
    return tuple([tile for tile in tiles if blocks_of(layer, tile) is not None])


@lru_cache(1024)
def blocks_of(layer: ConvGeometry, tile: Tile) -> dict[str, Any] | None:
    """A tile as the kernel is told of it; None if it does not fit in shared memory."""
    walk = walk_of(layer)
    slots, extra = tile.block_m // 8, power_of_2(walk.halo) if walk.halo else 0
    taps = [cdiv(layer.kernel_size[walk.rows] - phase, walk.phases) for phase in range(walk.phases)]
    for parts in range(cdiv(max(taps) * 64, tile.block_k), max(taps) + 1):
        together = cdiv(max(taps), parts)
        # With two groups or more for each buffer of samples, two buffers are enough.
        buffers = 2 if min(taps) > together else 3
        size = buffers * (slots + extra) * 1024 + tile.num_stages * (together * tile.block_n * 128 + 8)
        if size <= SHARED_MEMORY - 2**12:
            running = min([min(together, n - first) for n in taps for first in range(0, n, together)])
            return {
                "SLOTS": slots, "EXTRA": extra, "BLOCK_N": tile.block_n, "BUFFERS": buffers, "RING": tile.num_stages,
                "TOGETHER": together, "RUNNING": running, "num_warps": tile.num_warps,
            }  # fmt: skip
    return None


def konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer, as `konvlib.konvolution.operators.konv`, where the kernel serves it."""
    weight, _ = prepared(kappa, layer, walk_of(layer))
    return _run(x, weight, as_added(bias, walk_of(layer)), layer, expansion)


def whole_konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion,
    keep: Keep = anew,
) -> torch.Tensor:  # fmt: skip
    """The layer with degree 0, as `konvlib.konvolution.operators.whole_konv`, where the kernel serves it."""
    return _run(x, *prepared_whole(kappa, bias, layer, expansion, keep), layer, expansion)


def prepared_whole(
    kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion, keep: Keep,
    width: int = CHANNELS,
) -> tuple[torch.Tensor, Added | None]:  # fmt: skip
    """Weights, and what degree 0 and the bias add, as kernels take them; they may be kept."""

    def make() -> tuple[torch.Tensor, Added | None]:
        added = None if bias is None else bias.contiguous()
        first, rest = kappa.narrow(1, 0, 1), kappa.narrow(1, 1, expansion.degrees)
        return prepared(rest, layer, walk_of(layer), first=first, bias=added, masked=expansion.masked, width=width)

    return keep(("halo", width, place_of(layer), expansion.masked), make)


def as_added(bias: torch.Tensor | None, walk: Walk) -> Added | None:
    """A bias, or a map of biases, as the kernel takes it."""
    if bias is None:
        return None
    if bias.dim() == 1:
        return Added(bias.contiguous().expand(1, 1, -1), *(Ends(0, 2**30, 1),) * 2)
    bias = memory.with_channels_last(bias)[0]
    bias = bias.unsqueeze(2) if walk.columns is None else bias.movedim(1 + walk.rows, 1)
    table = bias.movedim(0, -1)
    return Added(table, *map(each_its_own, table.shape[:2]))


def _run(
    x: torch.Tensor, weight: torch.Tensor, added: Added | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    return run("halo", konv_halo_kernel, tiles_of(layer), _blocks_of, x, weight, added, layer, expansion)


def _blocks_of(layer: ConvGeometry, degrees: int, tile: Tile) -> dict[str, Any] | None:
    return blocks_of(layer, tile)


def run(
    name: str, kernel: Any, tiles: tuple[Tile, ...], of: Callable[[ConvGeometry, int, Tile], dict[str, Any] | None],
    x: torch.Tensor, weight: torch.Tensor, added: Added | None, layer: ConvGeometry, expansion: Expansion,
) -> torch.Tensor:  # fmt: skip
    """The layer by a kernel with the best of some tiles; ``of(layer, degrees, tile)`` is what it is told of one."""
    table, *ends = added or (None, None, None)
    y, shown = empty_output(x, layer), memory.with_channels_last(x)

    def launch(tile: Tile) -> None:
        bound.launch(kernel, _told, (of, layer, expansion, tile, *ends), y, shown, weight, table)

    with runtime.on_device_of(y):
        name = f"{name} {expansion.basis} {expansion.squash} {expansion.degrees}"
        autotune.launch(name, layer, y, launch, likely=tiles)
    return y if memory.is_channels_last(x) else y.contiguous()


def _told(
    of: Callable[[ConvGeometry, int, Tile], dict[str, Any]], layer: ConvGeometry, expansion: Expansion, tile: Tile,
    rows: Ends | None, columns: Ends | None,
    y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, table: torch.Tensor | None,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    added = None if table is None else Added(table, rows, columns)
    return launched(y, x, weight, added, layer, expansion, of(layer, expansion.degrees, tile))[1:]


def empty_output(x: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """An uninitialised output with its channels last."""
    return x.new_empty_strided(layer.output_shape, _last_steps(layer))


@lru_cache(1024)
def _last_steps(layer: ConvGeometry) -> tuple[int, ...]:
    """The strides of an output with its channels last."""
    return memory.without((layer.batch, *layer.output_size, layer.out_channels)).movedim(-1, 1).stride()


def launched(
    y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, added: Added | None, layer: ConvGeometry,
    expansion: Expansion, blocks: dict[str, Any],
) -> Launch:  # fmt: skip
    """The kernel, its grid and its arguments; ``x`` and ``y`` have their channels last."""
    walk = walk_of(layer)
    kernel_h, kernel_w = layer.kernel_size[walk.rows], _of(layer.kernel_size, walk.columns, 1)
    out_h, out_w = layer.output_size[walk.rows], _of(layer.output_size, walk.columns, 1)
    pairs, lines = layer.batch * out_w, out_h + walk.gap
    slots = cdiv(pairs, 8) * lines
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    table, rows, columns = added or Added(weight[:1, None], *(Ends(0, 0, 1),) * 2)
    arguments = {
        "x_ptr": x, "w_desc": TensorDescriptor.from_tensor(weight, [blocks["BLOCK_N"], 64], layout),
        "bias_ptr": table, "y_ptr": y,
        "slots": slots, "lines": lines, "pairs": pairs, "tiles": weight.shape[1] // 64,
        "in_channels": layer.in_channels, "out_channels": layer.out_channels,
        "in_h": layer.input_size[walk.rows], "in_w": _of(layer.input_size, walk.columns, 1),
        "out_h": out_h, "out_w": out_w,
        "stride_h": layer.stride[walk.rows], "stride_w": _of(layer.stride, walk.columns, 1),
        "padding_h": layer.before[walk.rows], "padding_w": _of(layer.before, walk.columns, 0),
        "dilation_h": layer.dilation[walk.rows], "dilation_w": _of(layer.dilation, walk.columns, 1),
        "first_h": rows.first, "last_h": rows.last, "first_w": columns.first, "last_w": columns.last,
        "stride_bh": table.stride(0), "stride_bw": table.stride(1),
        "KERNEL_H": kernel_h, "KERNEL_W": kernel_w, "PHASES": walk.phases, "STEP": walk.step,
        "DEGREES": expansion.degrees, "BASIS": expansion.basis, "SQUASH": expansion.squash,
        "MASKED": expansion.masked and expansion.basis != "monomial" and expansion.degrees > 1,
        "BIAS": added is not None, "EVEN_C": layer.in_channels % blocks.get("WIDTH", CHANNELS) == 0,
        "INT64": memory.is_wide(x, y), **blocks,
    }  # fmt: skip
    arguments |= _strides("x", x, walk) | _strides("y", y, walk)
    grid = (cdiv(layer.out_channels, blocks["BLOCK_N"]) * cdiv(slots, blocks["SLOTS"]),)
    return konv_halo_kernel, grid, arguments


def _of(values: tuple[int, ...], axis: int | None, otherwise: int) -> int:
    return otherwise if axis is None else values[axis]


def _strides(name: str, tensor: torch.Tensor, walk: Walk) -> dict[str, int]:
    steps = tensor.stride()
    across = 0 if walk.columns is None else steps[2 + walk.columns]
    return {f"stride_{name}n": steps[0], f"stride_{name}h": steps[2 + walk.rows], f"stride_{name}w": across}
