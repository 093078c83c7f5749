"""What a machine's memory can hold: results that it cannot are refused before any work."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from konvlib.geometry.arguments import is_symbol

LARGE = 2**27
"""Up to this many bytes nothing is asked."""
MOST_BYTES = 2**48
"""More than any machine has, where its memory cannot be asked."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what a container may have."""

SIZES = (
    *("in_channels", "out_channels"),
    *("input_size", "output_size", "input_shape", "size", "shape", "kernel_size", "degree"),
    *("step", "stride", "stride1", "padding", "output_padding", "dilation", "dilation1", "dilation2"),
    *("strides", "dilations", "up"),
)
"""Arguments that make results large, as errors name them."""


@lru_cache(1)
def machine_memory() -> int:
    """Return the bytes of this machine's memory, of a container's if it has less.

    Examples
    --------
    >>> 2**20 < machine_memory() <= MOST_BYTES
    True
    """
    found = [MOST_BYTES]
    with suppress(AttributeError, OSError, ValueError):  # systems that are no Unix do not tell
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in map(Path, LIMITS):
        with suppress(OSError, ValueError):  # no container, or one without a limit
            found.append(int(path.read_text()))
    return min(number for number in found if number > 0)


def check_memory(size: int, arguments: Iterable[str], operands: Iterable[str] = (), *, most: int | None = None) -> None:
    """Check that arrays of ``size`` bytes in all, as large as some arguments make them, fit in memory.

    Parameters
    ----------
    size : int
        In bytes.
    arguments, operands : iterable of str
        The names of those of a function; all operands are named, and the arguments that make results large.
    most : int, optional
        How many bytes fit; by default those of this machine.

    Raises
    ------
    ValueError
        If they do not fit.

    Examples
    --------
    >>> check_memory(2**40, ["padding", "groups"], ["x"], most=2**34)
    Traceback (most recent call last):
    ...
    ValueError: x, padding must leave arrays that fit in memory, which is 17.2 GB, got 1099.5 GB
    """
    if is_symbol(size) or size <= LARGE:
        return
    most = machine_memory() if most is None else most
    if size > most:
        told = ", ".join([*operands, *(name for name in arguments if name in SIZES)])
        raise ValueError(
            f"{told} must leave arrays that fit in memory, which is {most / 1e9:.1f} GB, got {size / 1e9:.1f} GB"
        )
