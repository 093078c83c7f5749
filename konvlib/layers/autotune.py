"""Which tile a kernel works on: a short list by size, the best of it measured once for each geometry, or from a file.

``choices/<device>.json`` beside this file, if there is one, holds what was measured on a device; the benchmarks write
one with ``--choices``. On another geometry the first call times the tiles of the list, unless a CUDA graph is being
captured or ``KONVLIB_TUNE=0``, when the first of the list is taken. Where an operator knows several ways of computing,
the file names the one to take; others than the first may take more memory, or compile long, so they are timed only
with ``KONVLIB_TUNE=all``, which the benchmarks set, and then beside the one that the file names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory
from konvlib.runtime import cdiv, power_of_2

CHOICES = Path(__file__).parent / "choices"
FEW = 16
"""Below how many channels a kernel sums over taps and channels together."""

MULTIPROCESSORS = 132
"""Those of an H100, which is planned for where there is no device to ask."""


class Tile(NamedTuple):
    """What one program computes: ``block_m`` by ``block_n`` results, ``block_k`` products at a time."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


class BoxTile(NamedTuple):
    """A tile, in how many parts it is summed, and how many images, rows and columns a box of pixels has."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    parts: int
    images: int
    rows: int
    columns: int


HALVES = (
    Tile(128, 256, 64, 8, 3),
    Tile(128, 128, 64, 8, 3),
    Tile(128, 128, 64, 4, 4),
    Tile(64, 128, 64, 4, 4),
    Tile(128, 64, 64, 4, 4),
    Tile(64, 64, 64, 4, 4),
    Tile(64, 32, 64, 4, 4),
    Tile(128, 32, 64, 4, 4),
    Tile(128, 16, 64, 4, 4),
)
SINGLES = (Tile(128, 64, 32, 8, 3), Tile(64, 64, 32, 4, 3), Tile(64, 32, 32, 4, 3), Tile(64, 16, 32, 4, 3))
DOUBLES = (Tile(64, 32, 16, 4, 3), Tile(32, 32, 16, 4, 3), Tile(32, 16, 16, 4, 3))
EXPANDED = (Tile(128, 128, 64, 8, 3), Tile(128, 64, 64, 8, 3), Tile(64, 64, 64, 4, 4))
"""For halves whose polynomials are evaluated on the way: they need registers."""

SLOPED = (Tile(64, 64, 64, 8, 3), Tile(128, 32, 64, 8, 3), Tile(64, 32, 32, 8, 3))
"""For the gradient by the input of such a layer, which keeps two sums and a tile of the input."""

BUSY_CYCLES, RUNS = 2_000_000, 5
"""For how long a device waits, a millisecond or more, while Python queues so many runs that are timed together."""

SUMMED = (Tile(128, 64, 64, 4, 4), Tile(64, 128, 64, 4, 4), Tile(64, 64, 64, 4, 4))
"""For the weight gradient of halves, which has few weights and many pixels: small tiles, in many parts."""

MARGIN = 0.9
"""How much of the first way's time another way may take to be chosen."""

MARGINS = {"balanced": 0.98}
"""That of ways which compute as the first does and take little more memory."""

_measured: dict[str, Tile | BoxTile | str] = {}


def for_few_channels(tile: Tile) -> Tile:
    """A tile for sums over taps and channels together, where each product finds its own place: fewer at a time.

    Examples
    --------
    >>> for_few_channels(Tile(128, 256, 64, 8, 3))
    Tile(block_m=128, block_n=64, block_k=32, num_warps=8, num_stages=3)
    """
    block_m, block_n = min(tile.block_m, 128), min(tile.block_n, 64)
    return Tile(block_m, block_n, min(tile.block_k, 32), 8 if block_m * block_n > 4096 else 4, tile.num_stages)


def tiled(tile: Tile, channels: int, taps: int, kernel: Any, few_kernel: Any = None) -> tuple[Any, dict[str, Any]]:
    """The kernel for a sum over so many channels and taps, and what it is told of its tile.

    ``few_kernel``, if there is one, sums over taps and channels together.

    Examples
    --------
    >>> tiled(HALVES[0], 3, 49, "many", "few")[0]
    'few'
    """
    few = channels < FEW and few_kernel is not None
    tile = for_few_channels(tile) if few else tile
    block_k = min(tile.block_k, max(16, power_of_2(channels * (taps if few else 1))))
    blocks = {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "BLOCK_K": block_k}
    blocks |= {} if few else {"EVEN_K": channels % block_k == 0}
    return few_kernel if few else kernel, blocks | {"num_warps": tile.num_warps, "num_stages": tile.num_stages}


def multiprocessors(tensor: torch.Tensor) -> int:
    """How many multiprocessors the device of a tensor has, each of which runs at least one program at a time.

    Examples
    --------
    >>> multiprocessors(torch.ones(1))
    132
    """
    if not tensor.is_cuda:
        return MULTIPROCESSORS
    return _multiprocessors(tensor.device)


@lru_cache(64)
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def tiles_of(
    dtype: torch.dtype, *, expanded: bool = False, sloped: bool = False, summed: bool = False
) -> tuple[Tile, ...]:
    """All tiles for operands of a dtype.

    Examples
    --------
    >>> tiles_of(torch.float64, expanded=True)[0]
    Tile(block_m=32, block_n=32, block_k=16, num_warps=4, num_stages=3)
    """
    if dtype in runtime.HALVES:
        return SLOPED if sloped else EXPANDED if expanded else SUMMED if summed else HALVES
    known = DOUBLES if dtype == torch.float64 else SINGLES
    return known[2:] if sloped else known[1:] if expanded else known


def candidates(
    among: tuple[Tile, ...], rows: int, columns: int, programs: int, at_once: int = MULTIPROCESSORS
) -> list[Tile]:
    """The tiles worth trying for ``programs`` matrix products of ``rows`` by ``columns``, the likeliest first.

    A tile should waste no columns and leave no multiprocessor without work; of those, large ones read least.

    Examples
    --------
    >>> candidates(HALVES, 100352, 64, 1)[0]
    Tile(block_m=128, block_n=64, block_k=64, num_warps=4, num_stages=4)
    """

    def cost(tile: Tile) -> float:
        count = programs * cdiv(rows, tile.block_m) * cdiv(columns, tile.block_n)
        waves = cdiv(count, at_once)
        return waves * (tile.block_m * tile.block_n + 64 * (tile.block_m + tile.block_n))

    return sorted(among, key=cost)[:3]


def launch(
    kind: str,
    layer: ConvGeometry,
    y: torch.Tensor,
    run: Callable[[Any], None],
    *,
    rows: int = 1,
    columns: int = 1,
    programs: int = 1,
    among: tuple[Tile, ...] | None = None,
    likely: Sequence[Tile | BoxTile] | None = None,
) -> None:
    """Run a kernel with its best tile, found first where it is not known; ``run`` writes the same each time.

    The tiles to try are those that `candidates` finds for the sizes of a matrix product, or ``likely``, in order.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer, y = conv_geometry((1, 1, 9), (1, 1, 3), axes=1), torch.ones(1, 1, 7, dtype=torch.float64)
    >>> launch("conv", layer, y, print, rows=7, columns=1, programs=1)
    Tile(block_m=32, block_n=16, block_k=16, num_warps=4, num_stages=3)
    """
    _launch(key(kind, layer, y), y, run, rows, columns, programs, among, likely)


def _launch(
    name: str,
    y: torch.Tensor,
    run: Callable[[Any], None],
    rows: int = 1,
    columns: int = 1,
    programs: int = 1,
    among: tuple[Tile, ...] | None = None,
    likely: Sequence[Tile | BoxTile] | None = None,
) -> None:
    """`launch` by the name of a geometry."""
    tile = _known(y).get(name) or _measured.get(name)
    if tile is None:
        likely = likely or candidates(among or tiles_of(y.dtype), rows, columns, programs, multiprocessors(y))
        if _is_captured(y):  # nothing can be measured now, and what is guessed is not kept
            return run(likely[0])
        tile = _measured[name] = _quickest(likely, run) if _may_measure(y) else likely[0]
    run(tile)


def launch_either(
    kind: str,
    layer: ConvGeometry,
    y: torch.Tensor,
    run: Callable[[Any], None],
    boxes: Callable[[], Sequence[BoxTile]],
    **sizes: Any,
) -> None:
    """`launch` a kernel, or another one with a tile of ``boxes()`` where that is known to be quicker.

    The file names one of them, or the first kernel's tile, as ``kind`` with boxes; where it does not they are measured
    only with ``KONVLIB_TUNE=all``, beside the tile that `launch` takes. ``run`` runs the kernel that a tile is of.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer, y = conv_geometry((1, 1, 9), (1, 1, 3), axes=1), torch.ones(1, 1, 7, dtype=torch.float64)
    >>> launch_either("conv", layer, y, print, lambda: [BoxTile(64, 64, 64, 4, 4, 1, 1, 1, 64)], rows=7)
    Tile(block_m=32, block_n=16, block_k=16, num_warps=4, num_stages=3)
    """
    plain, name = _keys(kind, layer, y.dtype, _order_of(y))
    tile = _known(y).get(name) or _measured.get(name)
    found = boxes() if tile is not None or _may_measure_all(y) else ()
    if not found:
        return _launch(plain, y, run, **sizes)
    if tile is not None:
        return run(tile)
    taken: list[Any] = []

    def noted(tile: Any) -> None:
        taken.append(tile)
        run(tile)

    _launch(plain, y, noted, **sizes)
    tile = _measured[name] = _quickest([taken[-1], *found], run)
    run(tile)


def choose(
    kind: str,
    layer: ConvGeometry,
    y: torch.Tensor,
    ways: dict[str, Callable[[], torch.Tensor]],
    others: Callable[[], dict[str, Callable[[], torch.Tensor]]] = dict,
) -> torch.Tensor:
    """Compute by the way that is known to be quickest for a geometry, or by the first.

    ``others()`` has further ways. They are looked at only where one is known that is not among the first ones, or where
    all are measured.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer, y = conv_geometry((1, 1, 9), (1, 1, 3), axes=1), torch.ones(1, 1, 7)
    >>> choose("konv", layer, y, {"one": lambda: y, "other": lambda: 2 * y}) is y
    True
    """
    name = key(kind, layer, y)
    measured = _measured.get(name)
    known, measures = measured or _known(y).get(name), measured not in ways and _may_measure_all(y)
    if measures or known not in (None, *ways):
        ways = {**ways, **others()}
    way = known if known in ways else next(iter(ways))  # unknown, or one that does not serve these operands
    if measures and measured not in ways:  # what a file names, too: it may be older than a way
        seconds = {other: _seconds(ways[other]) for other in ways}
        quicker = [other for other in ways if seconds[other] < MARGINS.get(other, MARGIN) * seconds[way]]
        way = _measured[name] = min(quicker, key=seconds.__getitem__, default=way)
    return ways[way]()


def key(kind: str, layer: ConvGeometry, y: torch.Tensor) -> str:
    """The name of a geometry in the file of choices.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> key("conv", conv_geometry((8, 3, 9), (4, 3, 3), axes=1, stride=2), torch.ones(1, 1, 1))
    'conv float32 first n8 c3-4 g1 i9 k3 s2 p0+0 d1'
    """
    return _key(kind, layer, y.dtype, _order_of(y))


def _order_of(y: torch.Tensor) -> str:
    return "last" if memory.is_channels_last(y) else "first"


@lru_cache(4096)
def _keys(kind: str, layer: ConvGeometry, dtype: torch.dtype, order: str) -> tuple[str, str]:
    """The names without boxes, and with them."""
    return _key(kind, layer, dtype, order), _key(f"{kind} boxes", layer, dtype, order)


@lru_cache(4096)
def _key(kind: str, layer: ConvGeometry, dtype: torch.dtype, order: str) -> str:
    sizes = {"i": layer.input_size, "k": layer.kernel_size, "s": layer.stride}
    pads = "x".join(f"{before}+{after}" for before, after in layer.padding)
    each = [f"{letter}{'x'.join(map(str, values))}" for letter, values in sizes.items()]
    start = f"{kind} {str(dtype).removeprefix('torch.')} {order} n{layer.batch}"
    channels = f"c{layer.in_channels}-{layer.out_channels} g{layer.groups}"
    return " ".join([start, channels, *each, f"p{pads}", f"d{'x'.join(map(str, layer.dilation))}"])


def save(path: Path) -> None:
    """Add what was measured in this process to a file of choices.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "choices.json"))
    """
    lines = [f"{json.dumps(name)}: {json.dumps(tile)}" for name, tile in sorted({**_read(path), **_measured}.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _known(y: torch.Tensor) -> dict[str, Tile | BoxTile | str]:
    return _choices(_name_of(y.device)) if y.is_cuda else {}


@cache
def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


@cache
def _choices(device: str) -> dict[str, Tile | BoxTile | str]:
    return _read(CHOICES / f"{_slug(device)}.json")


def _read(path: Path) -> dict[str, Tile | BoxTile | str]:
    if not path.exists():
        return {}
    choices = json.loads(path.read_text(encoding="utf-8"))
    return {name: choice if isinstance(choice, str) else _tile(choice) for name, choice in choices.items()}


def _tile(numbers: list[int]) -> Tile | BoxTile:
    return Tile(*numbers) if len(numbers) == len(Tile._fields) else BoxTile(*numbers)


def _slug(device: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def _may_measure(y: torch.Tensor) -> bool:
    return y.is_cuda and os.environ.get("KONVLIB_TUNE") != "0" and not _is_captured(y)


def _may_measure_all(y: torch.Tensor) -> bool:
    return os.environ.get("KONVLIB_TUNE") == "all" and _may_measure(y)


def _is_captured(y: torch.Tensor) -> bool:
    return y.is_cuda and torch.cuda.is_current_stream_capturing()


def _quickest(likely: Sequence[Tile | BoxTile], run: Callable[[Any], None]) -> Tile | BoxTile:
    return min(likely, key=lambda tile: _seconds(lambda: run(tile)))


def _seconds(run: Callable[[], object], samples: int = 3) -> float:
    """The least time of a run on the device, of some; what does not fit there takes for ever.

    The device is kept busy before the first event, and several runs stand between two events: else the time that
    Python takes to launch them would be measured.
    """
    try:
        run()
    except (runtime.OutOfResources, torch.OutOfMemoryError):
        return float("inf")
    times = []
    for _ in range(samples):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(BUSY_CYCLES)
        begin.record()
        for _ in range(RUNS):
            run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / RUNS)
    return min(times)
