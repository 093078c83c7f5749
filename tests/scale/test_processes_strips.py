"""Layers on strips over 2 and 4 processes: exact against one, differentiated twice, and refused alike on all ranks."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from torch import nn

from konvlib.geometry import PADDING_MODES
from konvlib.scale import strips
from tests.scale import ranks
from tests.scale.ranks import drawn_bounds, drawn_layer, integers, kind_of, on_whole

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package")
CASES = {2: 120, 4: 60}
REST = {1: (), 2: (6,), 3: (4, 3)}
"""The size of the axes that are not cut."""


def drawn(draw, world, **options):
    """A layer, a whole image, and where the axis is cut."""
    axes = draw.choice([1, 2, 2, 3])
    axis, size = draw.randint(2, axes + 1), draw.randint(world, 22)
    layer = drawn_layer(draw, axes, axis, **options)
    shape = list(REST[axes])
    shape.insert(axis - 2, size)
    return layer, integers(2, 2, *shape), axis, drawn_bounds(draw, size, world)


def part(tensor, axis, bounds, rank):
    return tensor.detach().narrow(axis, bounds[rank], bounds[rank + 1] - bounds[rank])


def is_exact(case, rank, function=strips):
    """Whether a layer on strips and its gradients are those of the whole; None where one of both is refused."""
    layer, x, axis, bounds = case
    x.requires_grad_()
    try:
        y = on_whole(layer, x)
    except ValueError:
        return None
    dy = 12 * integers(*y.shape)  # means of up to four samples stay whole
    y.backward(dy)
    whole = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad()
    mine = part(x, axis, bounds, rank).clone().requires_grad_()
    same = torch.equal if kind_of(layer) != "AvgPool" else close
    try:
        strip, cuts = function(layer, mine, bounds, axis=axis)
        fits = cuts[-1] == y.shape[axis] and same(strip, part(y, axis, cuts, rank))
    except (IndexError, RuntimeError, ValueError) as error:  # said by all, or after the exchange: all go on
        if "leave rank" in str(error):
            return None
        fits = False
    if not agreed(fits):
        return False
    strip.backward(part(dy, axis, cuts, rank))
    right = [same(mine.grad, part(x.grad, axis, bounds, rank))]
    right += [torch.equal(ours.grad, expected) for ours, expected in zip(layer.parameters(), whole, strict=True)]
    return agreed(all(right))


def close(a, b):
    """Means of samples, in another order: of at most 45 of them, which are at most 3, or 36 in gradients."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-12)


def agreed(right):
    """Whether all ranks found what they should, so that they go on together."""
    wrong = torch.tensor(int(not right))
    dist.all_reduce(wrong)
    return not wrong


def strips_are_exact(rank, world):
    draw, seen = random.Random(17), Counter()
    torch.manual_seed(17)
    for _ in range(CASES[world]):
        case = layer, _, axis, bounds = drawn(draw, world)
        found = is_exact(case, rank)
        if found is None:
            continue
        assert found, (layer, bounds, axis)
        kernel, dilation = (torch.tensor(getattr(layer, name, 1)).flatten() for name in ("kernel_size", "dilation"))
        reach = int(dilation[(axis - 2) % len(dilation)] * (kernel[(axis - 2) % len(kernel)] - 1))
        axes = case[1].dim() - 2
        seen.update([kind_of(layer), axes, (axes, axis), getattr(layer, "padding_mode", "zeros")])
        seen["ceil_mode"] += getattr(layer, "ceil_mode", False)
        seen["narrow"] += min(b - a for a, b in pairwise(bounds)) < reach
    kinds = {"Conv", "Konv", "ConvTranspose", "MaxPool", "AvgPool"}
    wanted = kinds | set(PADDING_MODES) | {1, 2, 3, (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), "ceil_mode", "narrow"}
    assert min(seen[what] for what in wanted) >= 1, seen
    if rank == 0:
        print(world, dict(seen))


@pytest.mark.parametrize("world", [2, 4])
def test_strips_are_exact(world, tmp_path):
    ranks.run(strips_are_exact, world, tmp_path)


def penalties_are_exact(case, rank, function=strips):
    """Whether the gradients of a penalty of gradients are those of the whole; None where one of both is refused.

    What is equal on all ranks is counted on the first alone.
    """
    layer, x, axis, bounds = case
    x.requires_grad_()
    mine = part(x, axis, bounds, rank).clone().requires_grad_()
    parameters, found = list(layer.parameters()), []
    for given, share in ((x, 1.0), (mine, float(rank == 0))):
        try:
            y = on_whole(layer, x) if given is x else function(layer, mine, bounds, axis=axis)[0]
        except ValueError:  # on strips, on all ranks
            return None
        dx, *others = torch.autograd.grad(y.square().sum(), [given, *parameters], create_graph=True)
        penalty = dx.square().sum() + share * sum([g.square().sum() for g in others])
        found.append(torch.autograd.grad(penalty, [given, *parameters]))
    (dx, *whole), (strip, *shared) = found
    assert dx.abs().max() < 2**52
    right = [torch.equal(strip, part(dx, axis, bounds, rank))]
    return agreed(all(right + [torch.equal(*pair) for pair in zip(shared, whole, strict=True)]))


def strips_differentiate_twice(rank, world):
    draw, seen = random.Random(3), Counter()
    torch.manual_seed(3)
    while sum(seen.values()) < 40:
        case = drawn(draw, world, kinds=("conv", "konv", "transpose", "max"))
        found = penalties_are_exact(case, rank)
        assert found is not False, case
        seen[kind_of(case[0])] += found is True
    assert len(seen) == 4, seen


def test_strips_differentiate_twice(tmp_path):
    ranks.run(strips_differentiate_twice, 2, tmp_path)


def refusals(rank):
    """Calls of two ranks, each with what both are told or, where only one is wrong, what this and the other is."""
    pool, x, even = nn.MaxPool2d(2), torch.ones(1, 1, 4, 6), (0, 4, 8)
    for bounds in ((0, 4), (0, 4, 8, 12), (0, 4, 4), (0, 8, 4), (1, 4, 8), (-4, 0, 4), ()):
        yield (pool, x, bounds), r"bounds must (rise|be at least)"
    yield (pool, x, (0, 4.0, 8)), "bounds must be an integer"
    yield (pool, x, None), "NoneType"
    for axis in (0, 1, 4, -1):
        yield (pool, x, even, None, axis), "axis must be a spatial one"
    yield (nn.MaxPool2d((8, 2)), x, even), "bounds .* leave rank 1 no outputs"
    far = nn.Conv2d(1, 1, 1, stride=5, padding=(6, 0))
    yield (far, torch.ones(1, 1, 19 if rank else 1, 6), (0, 1, 20)), "leave rank 0 outputs 0 to 2, which see no sample"
    yield (nn.Conv2d(1, 1, 9), x, even), "kernel_size must fit"
    yield (nn.Conv2d(2, 1, 3), x, even), "channels"
    yield (nn.Linear(6, 6), x, even), "layer must be a convolution"
    yield (nn.MaxPool2d(2, return_indices=True), x, even), "without return_indices"
    yield (nn.AvgPool2d(2, divisor_override=3), x, even), "divisor_override"
    for wrong, told in (
        (x[:, :, :3], "x must have 4 samples"), (x.numpy(), "x must be a tensor"), (x[0], "x must have 4 samples"),
    ):  # fmt: skip
        yield (pool, wrong if rank else x, even), told if rank else "of another rank were refused"
    other = "ranks must give alike"
    yield (pool, x[:, :, : 4 - rank], (0, 4 + rank, 8)), other
    yield (nn.Conv2d(1, 1, 3, padding=1, stride=1 + rank), x, even), other
    yield (nn.Conv2d(1, 1, 3, padding=1, bias=rank == 0), x, even), other
    yield (nn.Conv2d(1, 1, 3, padding=1).requires_grad_(rank == 0), x, even), other
    yield (pool, x.double() if rank else x, even), other
    yield (pool, x[..., :4], even, None, 2 + rank), other


def all_refuse(rank, world):
    count = 0
    for (layer, x, bounds, *rest), told in refusals(rank):
        with pytest.raises((ValueError, TypeError), match=told):
            strips(layer, x, bounds, *rest[:1], **({"axis": rest[1]} if len(rest) > 1 else {}))
        count += 1
    alone = dist.new_group([0])
    with pytest.raises(ValueError, match="group must contain the rank" if rank else "2 of them for 1 ranks"):
        strips(nn.MaxPool2d(2), torch.ones(1, 1, 4, 6), (0, 4, 8), alone)
    if rank == 0:
        y, cuts = strips(nn.MaxPool2d(2), torch.ones(1, 1, 4, 6), range(0, 5, 4), alone)
        assert (y.shape, cuts) == ((1, 1, 2, 3), (0, 2))
        print(count, "refused")
    x = torch.arange(24.0).reshape(1, 1, 4, 6)  # nothing is left of what was refused: the next call is right
    y, _ = strips(nn.MaxPool2d(2), x, (0, 4, 8))
    assert y.flatten().tolist() == [7, 9, 11, 19, 21, 23]


def test_what_is_wrong_is_refused_alike_on_all_ranks(tmp_path):
    ranks.run(all_refuse, 2, tmp_path)
