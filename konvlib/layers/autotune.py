"""Which tile a kernel works on: a short list by size, the best of it measured once for each geometry, or from a file.

``choices/<device>.json`` holds what was measured on known devices. On another geometry the first call times the tiles
of the list, unless a CUDA graph is being captured or ``KONVLIB_TUNE=0``, when the first of the list is taken. Where an
operator knows several ways of computing, the file names the one to take; others than the first may take more memory, so
they are timed only with ``KONVLIB_TUNE=all``, which the benchmarks set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from konvlib import tiles
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory as layout

CHOICES = Path(__file__).parent / "choices"
FLAT = 16
"""Below how many channels a kernel sums over taps and channels together."""

PROCESSORS = 132
"""How many programs an H100 runs side by side at least; what is compared with it need not be exact."""


class Tile(NamedTuple):
    """What one program computes: ``rows`` by ``columns`` outputs, ``depth`` products at a time."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


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

MARGIN = 0.9
"""How much of the first way's time another way may take to be chosen."""

_measured: dict[str, Tile | str] = {}


def for_few_channels(tile: Tile) -> Tile:
    """A tile for sums over taps and channels together, where each product finds its own place: fewer at a time.

    Examples
    --------
    >>> for_few_channels(Tile(128, 256, 64, 8, 3))
    Tile(rows=128, columns=64, depth=32, warps=8, stages=3)
    """
    rows, columns = min(tile.rows, 128), min(tile.columns, 64)
    return Tile(rows, columns, min(tile.depth, 32), 8 if rows * columns > 4096 else 4, tile.stages)


def tiles_of(dtype: torch.dtype, *, expanded: bool = False, sloped: bool = False) -> tuple[Tile, ...]:
    """All tiles for operands of a dtype.

    Examples
    --------
    >>> tiles_of(torch.float64, expanded=True)[0]
    Tile(rows=32, columns=32, depth=16, warps=4, stages=3)
    """
    if dtype in tiles.HALVES:
        return SLOPED if sloped else EXPANDED if expanded else HALVES
    known = DOUBLES if dtype == torch.float64 else SINGLES
    return known[2:] if sloped else known[1:] if expanded else known


def candidates(among: tuple[Tile, ...], rows: int, columns: int, programs: int) -> list[Tile]:
    """The tiles worth trying for ``programs`` matrix products of ``rows`` by ``columns``, the likeliest first.

    A tile should waste no columns and leave no multiprocessor without work; of those, large ones read least.

    Examples
    --------
    >>> candidates(HALVES, 100352, 64, 1)[0]
    Tile(rows=128, columns=64, depth=64, warps=4, stages=4)
    """

    def cost(tile: Tile) -> float:
        down, across = -(-rows // tile.rows), -(-columns // tile.columns)
        count = programs * down * across
        waves = -(-count // PROCESSORS)
        return waves * (tile.rows * tile.columns + 64 * (tile.rows + tile.columns))

    return sorted(among, key=cost)[:3]


def launch(
    kind: str,
    layer: ConvGeometry,
    y: torch.Tensor,
    run: Callable[[Tile], None],
    *,
    rows: int,
    columns: int,
    programs: int,
    among: tuple[Tile, ...] | None = None,
) -> None:
    """Run a kernel with its best tile, found first where it is not known; ``run`` writes the same each time.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer, y = conv_geometry((1, 1, 9), (1, 1, 3), axes=1), torch.ones(1, 1, 7, dtype=torch.float64)
    >>> launch("conv", layer, y, print, rows=7, columns=1, programs=1)
    Tile(rows=32, columns=16, depth=16, warps=4, stages=3)
    """
    name = key(kind, layer, y)
    tile = _known(y).get(name) or _measured.get(name)
    if tile is None:
        likely = candidates(among or tiles_of(y.dtype), rows, columns, programs)
        tile = _quickest(likely, run) if _may_measure(y) else likely[0]
        _measured[name] = tile
    run(tile)


def choose(
    kind: str, layer: ConvGeometry, y: torch.Tensor, ways: dict[str, Callable[[], torch.Tensor]]
) -> torch.Tensor:
    """Compute by the way that is known to be quickest for a geometry, or by the first.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer, y = conv_geometry((1, 1, 9), (1, 1, 3), axes=1), torch.ones(1, 1, 7)
    >>> choose("konv", layer, y, {"one": lambda: y, "other": lambda: 2 * y}) is y
    True
    """
    name = key(kind, layer, y)
    way = _known(y).get(name) or _measured.get(name)
    if way is None:
        way = next(iter(ways))
        if _may_measure(y) and os.environ.get("KONVLIB_TUNE") == "all":
            seconds = {other: _seconds(ways[other]) for other in ways}
            quickest = min(seconds, key=seconds.__getitem__)
            way = quickest if seconds[quickest] < MARGIN * seconds[way] else way
            _measured[name] = way
    return ways[way]()


def key(kind: str, layer: ConvGeometry, y: torch.Tensor) -> str:
    """The name of a geometry in the file of choices.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> key("conv", conv_geometry((8, 3, 9), (4, 3, 3), axes=1, stride=2), torch.ones(1, 1, 1))
    'conv float32 first n8 c3-4 g1 i9 k3 s2 p0+0 d1'
    """
    order = "last" if layout.is_channels_last(y) else "first"
    sizes = {"i": layer.input_size, "k": layer.kernel_size, "s": layer.stride}
    pads = "x".join(f"{before}+{after}" for before, after in layer.padding)
    each = [f"{letter}{'x'.join(map(str, values))}" for letter, values in sizes.items()]
    start = f"{kind} {str(y.dtype).removeprefix('torch.')} {order} n{layer.batch}"
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


def _known(y: torch.Tensor) -> dict[str, Tile | str]:
    return _choices(torch.cuda.get_device_name(y.device)) if y.is_cuda else {}


@cache
def _choices(device: str) -> dict[str, Tile | str]:
    return _read(CHOICES / f"{_slug(device)}.json")


def _read(path: Path) -> dict[str, Tile | str]:
    if not path.exists():
        return {}
    choices = json.loads(path.read_text(encoding="utf-8"))
    return {name: choice if isinstance(choice, str) else Tile(*choice) for name, choice in choices.items()}


def _slug(device: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def _may_measure(y: torch.Tensor) -> bool:
    return y.is_cuda and os.environ.get("KONVLIB_TUNE") != "0" and not torch.cuda.is_current_stream_capturing()


def _quickest(likely: list[Tile], run: Callable[[Tile], None]) -> Tile:
    return min(likely, key=lambda tile: _seconds(lambda: run(tile)))


def _seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """The least of some timings; what does not fit on the device takes for ever."""
    try:
        run()
    except (tiles.OutOfResources, torch.OutOfMemoryError):
        return float("inf")
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return min(times)
