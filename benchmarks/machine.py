"""How long an H100 needs for a launch, reckoned from what the compiler made of its kernel: a model, not a measurement.

A kernel of matrix products is a loop. A step of it takes as long as the slowest of four things: the products on the
tensor cores, the instructions that are issued, what goes through shared memory, what comes from the second-level cache.
A program alone also waits for copies, and programs beside one another fill each other's waits. All tiles are dealt out
to the multiprocessors, and the one that has most to do ends last. Meanwhile memory moves every byte once.

`CARD` is what is known of the card. Three of its numbers were fitted, by `benchmarks.predicted.fitted`, to half of the
rows that were measured; the other half judges them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

STEP = 128 * 128 * 64
"""The products in which the offline table counts instructions: so many for each of eight warps."""

SHARED, REGISTERS, WARPS, RESERVED = 227 * 1024, 65536, 64, 1024
"""What the programs of a multiprocessor share, and the bytes of shared memory that each takes for itself."""


class Card(NamedTuple):
    """Rates in a cycle of one multiprocessor, times in cycles or seconds."""

    processors: int = 132
    clock: float = 1.755e9
    tensor: float = 2048
    """Products and sums of 16-bit numbers."""
    issued: float = 4
    """Instructions of warps."""
    shared: float = 128
    """Bytes in or out of shared memory."""
    memory: float = 3.0e12
    """Bytes a second, read or written, of the whole card: a copy was measured."""
    launch: float = 5.5e-6
    """Seconds between the events around a call in which nothing runs for long: measured copies, less their bytes."""
    following: float = 2e-6
    """Seconds that each further launch of a call adds: an assumption."""
    cache: float = 48
    """Bytes from the second-level cache, or to it. Fitted."""
    latency: float = 1400
    """Cycles from asking for a copy until it is there, if it comes from memory; half if from the cache. Fitted."""
    pause: float = 150
    """Cycles of a step in which warps that gather or evaluate, too, leave the tensor cores idle. Fitted."""
    even: bool = False
    """Whether work could be dealt out without a remainder: no card does, but it shows what the remainder costs."""


CARD = Card()


class Launch(NamedTuple):
    """A kernel with a loop of products, as one launch of it."""

    kernel: Mapping[str, Any]
    """Its row of the offline table."""
    tiles: Sequence[tuple[int, float]]
    """How many tiles, and the steps of each, in the order in which they begin."""
    rows: int
    columns: int
    depth: float
    """Rows, columns and sums of the products of a step."""
    ahead: int
    """How many steps ahead copies are asked for."""
    read: float
    written: float
    """Bytes from memory and to it, of the whole launch."""
    stored: float
    """Bytes that a tile writes."""
    waits: bool
    """Whether the warps that multiply also gather or evaluate what they multiply."""
    copied: float | None = None
    """Bytes from the cache in a step: both operands, unless it is said."""
    kept: float | None = None
    """Bytes written to shared memory in a step: what was copied, unless it is said."""
    across: int = 1
    """Among how many groups of four warps the columns are divided."""
    queued: bool = False
    """Whether the copies of the next tile are asked for before a tile ends."""
    ends: float = 1
    """How many tiles of results one of ``tiles`` writes."""

    @property
    def from_cache(self) -> float:
        """Bytes from the cache in a step."""
        return 2 * self.depth * (self.rows + self.columns) if self.copied is None else self.copied


class Pass(NamedTuple):
    """A small kernel that does nothing but move bytes."""

    moved: float


def beside(kernel: Mapping[str, Any]) -> int:
    """How many programs of a kernel run beside one another on a multiprocessor.

    Examples
    --------
    >>> beside({"shared": 98304, "registers": 90, "warps": 8}), beside({"shared": 98304, "registers": 172, "warps": 8})
    (2, 1)
    """
    registers = 32 * kernel["warps"] * 8 * math.ceil(kernel["registers"] / 8)
    return max(1, min(SHARED // (kernel["shared"] + RESERVED), REGISTERS // registers, WARPS // kernel["warps"]))


def cycles_of_step(launch: Launch, card: Card = CARD) -> dict[str, float]:
    """The cycles that each part of a multiprocessor is busy with a step, by its name.

    Examples
    --------
    >>> kernel = {"per_step": 100.0}
    >>> cycles_of_step(Launch(kernel, [(1, 9)], 128, 128, 64, 3, 0, 0, 0, False), CARD._replace(cache=64))
    {'tensor cores': 512.0, 'instructions': 200.0, 'shared memory': 640.0, 'cache': 512.0}
    """
    products = launch.rows * launch.columns * launch.depth
    kept = launch.from_cache if launch.kept is None else launch.kept
    # 64 rows at a time read all columns of theirs.
    read = 2 * launch.depth * (launch.rows * launch.across + math.ceil(launch.rows / 64) * launch.columns)
    return {
        "tensor cores": products / card.tensor,
        "instructions": 8 * launch.kernel["per_step"] * products / STEP / card.issued,
        "shared memory": (kept + read) / card.shared,
        "cache": launch.from_cache / card.cache,
    }


def makespan(places: int, costs: Sequence[tuple[int, float]], even: bool = False) -> float:
    """When the last of so many places ends, each of which takes the next piece when it is free.

    Examples
    --------
    >>> makespan(132, [(132, 2.0)]), makespan(132, [(133, 2.0)]), makespan(2, [(2, 1.0), (1, 3.0)])
    (2.0, 4.0, 4.0)
    """
    if even:
        return sum(count * cost for count, cost in costs) / places
    if len(costs) == 1:
        return math.ceil(costs[0][0] / places) * costs[0][1]
    free = [0.0] * places
    for count, cost in costs:
        for _ in range(count):
            heapq.heapreplace(free, free[0] + cost)
    return max(free)


def seconds_of_products(launch: Launch, card: Card = CARD) -> float:
    """When the last multiprocessor ends, if memory kept up.

    Programs alone wait; those beside one another share what is busy. The longer of the two counts.
    """
    step, together = max(cycles_of_step(launch, card).values()), beside(launch.kernel)
    copied = launch.from_cache * sum(count * steps for count, steps in launch.tiles)
    far = min(1.0, launch.read / copied)
    waited = card.latency * (1 + far) / 2
    alone = max(step, waited / launch.ahead) + (card.pause if launch.waits else 0)
    outside = launch.kernel["all_instructions"] - launch.kernel["instructions"]
    ends = launch.ends * (outside * launch.kernel["warps"] / card.issued + launch.stored / card.cache)
    begin = 2 * card.latency
    each = [
        (count, (0 if launch.queued or not steps else begin) + steps * alone + ends) for count, steps in launch.tiles
    ]
    busy = [(count, steps * step + ends) for count, steps in launch.tiles]
    waiting = makespan(card.processors * together, each, card.even) + (begin if launch.queued else 0)
    return max(waiting, begin + makespan(card.processors, busy, card.even)) / card.clock


def seconds(launches: Sequence[Launch | Pass], card: Card = CARD) -> float:
    """What a call of some launches, one after another, takes between two events around it.

    Memory and multiprocessors hinder one another: of their times it is the root of the squares' sum.

    Examples
    --------
    >>> card = Card(launch=5e-6, following=2e-6, memory=3e12)
    >>> f"{seconds([Pass(3e6)], card):.1e} {seconds([Pass(3e6), Pass(6e6)], card):.1e}"
    '6.0e-06 1.0e-05'
    """
    total = card.launch + card.following * (len(launches) - 1)
    for launch in launches:
        if isinstance(launch, Pass):
            total += launch.moved / card.memory
        else:
            total += math.hypot(seconds_of_products(launch, card), (launch.read + launch.written) / card.memory)
    return total


WITHOUT = {
    "launches": {"launch": 0.0, "following": 0.0},
    "memory": {"memory": math.inf},
    "remainder": {"even": True},
    "waits": {"latency": 0.0, "pause": 0.0},
    "instructions": {"issued": math.inf},
    "shared memory": {"shared": math.inf},
    "cache": {"cache": math.inf},
    "tensor cores": {"tensor": math.inf},
}
"""What may hold a call back, and what the card would be without it."""


def held_back(launches: Sequence[Launch | Pass], card: Card = CARD) -> dict[str, float]:
    """The seconds that a call would be shorter by, were one thing of no consequence; that which costs most is first.

    Examples
    --------
    >>> next(iter(held_back([Pass(3e8)])))
    'memory'
    """
    whole = seconds(launches, card)
    saved = {name: whole - seconds(launches, card._replace(**less)) for name, less in WITHOUT.items()}
    return dict(sorted(saved.items(), key=lambda item: -item[1]))


def balanced(launch: Launch, card: Card = CARD, programs: int = 0) -> list[Launch | Pass]:
    """A launch whose steps are dealt out in equal shares, whatever the tiles: a tile may be the sum of two shares.

    Each program, of as many as the card has places for unless it is said, writes what it has of its first and last tile
    as 32-bit sums; a second launch adds them.

    Examples
    --------
    >>> kernel = {"shared": 131072, "registers": 128, "warps": 8, "per_step": 99}
    >>> shares, adding = balanced(Launch(kernel, [(203, 72)], 128, 128, 64, 3, 0, 0, 2**15, True))
    >>> [(count, round(steps, 1)) for count, steps in shares.tiles], adding.moved == 132 * (2 * 2**16 + 2**15)
    ([(132, 110.7)], True)
    """
    programs = programs or card.processors * beside(launch.kernel)
    count, steps = sum(n for n, _ in launch.tiles), sum(n * steps for n, steps in launch.tiles)
    ended, sums = count / programs + 1, 4 * launch.rows * launch.columns
    stored = (launch.stored * (ended - 2) + 2 * sums) / ended if ended > 2 else sums
    shares = launch._replace(tiles=[(programs, steps / programs)], ends=ended, stored=stored)
    return [shares, Pass(programs * (2 * sums + launch.stored))]
