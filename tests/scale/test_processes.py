"""Tensors that are sharded over 2 and 4 processes: exact against one, for every operator and placement."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.distributed as dist

import konvlib
import konvlib.scale
from konvlib.operators import OPERATORS
from tests.scale import ranks
from tests.scale.ranks import integers

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package")
CHANNELS = {"conv2d": (0, 1), "konv2d": (0, 2), "whole_konv": (0, 2), "conv_transpose2d": (1, 0)}
"""The axes of a weight that are its layer's output and input channels."""


def whole_konv(x, kappa, bias, *, stride, padding, groups):
    """The operator by its name: konvlib calls it where a kernel for it runs."""
    rest = [stride] * 2, [padding] * 4, [1, 1], groups
    return torch.ops.konvlib.whole_konv(x, kappa, bias, "monomial", "none", True, *rest)


def layer_is_exact(kind, mesh, layout, keywords, size=(8, 9)):
    """Whether a layer and its gradients are those of whole tensors; None where the mesh cannot share the weight."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    function = whole_konv if kind == "whole_konv" else getattr(konvlib, kind)
    rest = (3, 4 // keywords["groups"], 3, 3) if "konv" in kind else (4 // keywords["groups"], 3, 3)
    given = [integers(4, 4, *size), integers(4, *rest), integers(4)]
    for tensor, placements in zip(given, layout, strict=True):
        for number, placement in enumerate(placements):
            if isinstance(placement, Shard) and tensor.shape[placement.dim] % mesh.size(number):
                return None
    plain = [tensor.clone().requires_grad_() for tensor in given]
    y = function(*plain, **keywords)
    dy = integers(*y.shape)
    y.backward(dy)
    placed = [distribute_tensor(t, mesh, p).requires_grad_() for t, p in zip(given, layout, strict=True)]
    z = function(*placed, **keywords)
    if z.shape != y.shape:
        return False
    z.backward(distribute_tensor(dy, mesh, [Replicate()] * mesh.ndim))
    found = [z, *(tensor.grad for tensor in placed)]
    return all([torch.equal(f.full_tensor(), e) for f, e in zip(found, [y, *(t.grad for t in plain)], strict=True)])


def layouts(kind):
    """By batch, by output channels, by input channels."""
    from torch.distributed.tensor import Replicate, Shard

    out, into = CHANNELS[kind]
    by_output = [Replicate()], [Shard(out)], [Shard(0)]
    return ([Shard(0)], [Replicate()], [Replicate()]), by_output, ([Shard(1)], [Shard(into)], [Replicate()])


OPTIONS = [dict(zip(("groups", "stride", "padding"), row, strict=True))
           for row in ((1, 1, 1), (1, 2, 1), (1, 1, 0), (2, 2, 1))]  # fmt: skip
"""Strides 1 and 2 on equal shapes, so that what torch remembers of a call must tell them apart."""


def columns_are_exact(kind, mesh, placement, stride, size=(8, 9)):
    """Whether a pooling, or columns of patches, and the gradient are those of whole tensors."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    x = integers(4, 4, *size)
    if kind == "col2im":  # the taps of one channel, which a mesh must not part
        x = konvlib.im2col(x[:, :1], 2, stride=stride)
    plain, placed = x.clone().requires_grad_(), distribute_tensor(x, mesh, [placement]).requires_grad_()
    given = {"output_size": size, "kernel_size": 2} if kind == "col2im" else {"kernel_size": 2}
    y, z = (getattr(konvlib, kind)(each, stride=stride, **given) for each in (plain, placed))
    dy = 4 * integers(*y.shape)
    y.backward(dy)
    z.backward(distribute_tensor(dy, mesh, [Replicate()]))
    return torch.equal(z.full_tensor(), y) and torch.equal(placed.grad.full_tensor(), plain.grad)


COLUMNS = "max_pool2d", "avg_pool2d", "im2col", "col2im"


def shards_are_exact(rank, world):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    konvlib.scale.register()
    konvlib.scale.register()  # which changes nothing
    known = DTensor._op_dispatcher.sharding_propagator.op_strategy_funcs
    assert {operator.raw for operator in OPERATORS.values()} <= set(known)
    mesh = init_device_mesh("cpu", (world,))
    torch.manual_seed(17)
    for kind in CHANNELS:
        for layout, keywords in product(layouts(kind), OPTIONS):
            assert layer_is_exact(kind, mesh, layout, keywords) in (True, None), (kind, layout, keywords)
    if world == 4:
        square = init_device_mesh("cpu", (2, 2))
        for kind in CHANNELS:
            batch, *others = layouts(kind)
            for other, keywords in product(others, OPTIONS[1::2]):
                layout = [first + second for first, second in zip(batch, other, strict=True)]
                assert layer_is_exact(kind, square, layout, keywords) in (True, None), (kind, layout, keywords)
    for kind, placement, stride in product(COLUMNS, (Shard(0), Shard(1)), (1, 2)):
        assert columns_are_exact(kind, mesh, placement, stride), (kind, placement, stride)
    f, g = integers(2 * world, 40), integers(7)
    placed = distribute_tensor(f, mesh, [Shard(0)]), distribute_tensor(g, mesh, [Replicate()])
    assert torch.equal(konvlib.convolve(*placed).full_tensor(), konvlib.convolve(f, g))
    whole, told = distribute_tensor(integers(4, 4, 3, 3), mesh, [Replicate()]), f"{world} ranks cannot share its axis"
    uneven = [distribute_tensor(integers(*shape, 8, 9), mesh, [Shard(dim)])
              for dim, shape in enumerate(((world + 1, 4), (4, world + 1)))]  # fmt: skip
    with pytest.raises(ValueError, match=f"operand 0 of conv .* {told} 0 of {world + 1} alike"):
        konvlib.conv2d(uneven[0], whole)
    with pytest.raises(ValueError, match=f"operand 0 of max_pool .* {told} 1 of {world + 1} alike"):
        konvlib.max_pool2d(uneven[1], 2)


@pytest.mark.parametrize("world", [2, 4])
def test_shards_are_exact(world, tmp_path):
    ranks.run(shards_are_exact, world, tmp_path)


def test_every_operator_has_a_rule():
    from konvlib.scale import sharding

    names = {name.partition("::")[2].partition(".")[0] for name in torch._C._dispatch_get_all_op_names()
             if name.startswith("konvlib::")}  # fmt: skip
    assert names == set(OPERATORS) == set(sharding._ROWS)
