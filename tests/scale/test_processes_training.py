"""konvlib's layers under DDP, FSDP2 and checkpoints of sharded models, over two processes: exact against one."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import konvlib
import konvlib.scale
from tests.scale import ranks
from tests.scale.ranks import with_integers

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package")
RATE = 2.0**-12
"""A step of SGD by whole gradients stays exact in doubles."""


def network():
    """Layers of each kind of placement: with an affine map before, a stride, groups, and a lazy one."""
    options = {"degree": 2, "basis": "monomial", "squash": "none"}
    layers = (
        konvlib.Konv2d(2, 4, 3, padding=1, affine=True, **options),
        konvlib.Konv2d(4, 4, (3, 2), stride=2, pad="input", padding=1, **options),
        konvlib.LazyKonv2d(6, 1, bias=False, groups=2, **options),
    )
    model = nn.Sequential(*layers)
    model(torch.ones(1, 2, 5, 4))
    return with_integers(model)


def batch():
    return torch.randint(-1, 2, (4, 2, 5, 4)).double()


def trained(model, x, share=1.0):
    """The parameters after a step of SGD by a sum of the outputs, of which this process has a share."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    model(x).sum().mul(share).backward()
    optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def steps_are_those_of_one_process(rank, world):
    """DDP and FSDP2 take the mean of ranks' gradients, so that one process takes the mean of the halves' sums."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    torch.manual_seed(5)
    model, x = network(), batch()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = trained(model, x, 1 / world)
    assert all(not torch.equal(after, state[name]) for name, after in model.state_dict().items())

    def again():
        other = network()
        other.load_state_dict(state)
        return other

    half = x[rank::world]
    for ours, whole in zip(trained(DistributedDataParallel(again()), half), expected, strict=True):
        assert torch.equal(ours, whole)
    sharded, mesh = again(), init_device_mesh("cpu", (world,))
    for layer in sharded:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    found = trained(sharded, half)
    assert all(isinstance(ours, DTensor) for ours in found)
    assert sum(ours.to_local().numel() for ours in found) < sum(ours.numel() for ours in found)
    for ours, whole in zip(found, expected, strict=True):
        assert torch.equal(ours.full_tensor(), whole)


def test_a_step_of_ddp_and_of_fsdp2_is_that_of_one_process(tmp_path):
    ranks.run(steps_are_those_of_one_process, 2, tmp_path)


def checkpoints_are_exact(rank, world, folder):
    """What one layout saved each other layout loads, and computes with."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    konvlib.scale.register()
    mesh = init_device_mesh("cpu", (world,))
    torch.manual_seed(7)
    whole, x = network(), batch()
    state, y = whole.state_dict(), whole(x)

    def placed(out, into):
        """Layers by output channels and by input channels in turn; the last one's groups stay where they are."""
        model = network()
        dims = ({"kappa": out, "bias": 0}, {"kappa": into}, {"kappa": 0})
        for layer, dim in zip(model, dims, strict=True):
            for name, parameter in list(layer.named_parameters()):
                where = [Shard(dim[name]) if name in dim else Replicate()]
                value = distribute_tensor(parameter.detach(), mesh, where)
                layer.register_parameter(name, nn.Parameter(value))
        return model

    def fully_sharded():
        model = network()
        for layer in model:
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    layouts = {
        "output, then input channels": lambda: placed(0, 2),
        "input, then output channels": lambda: placed(2, 0),
        "FSDP2": fully_sharded,
        "whole": network,
    }
    for saved, make in layouts.items():
        model = make()
        if saved == "whole":
            model.load_state_dict(state)
        else:
            model.load_state_dict({name: distribute_tensor(state[name], mesh, value.placements)
                                   for name, value in model.state_dict().items()})  # fmt: skip
        path = f"{folder}/{saved}"
        dcp.save(model.state_dict(), checkpoint_id=path)
        for loaded, make_other in layouts.items():
            if loaded == saved:
                continue
            other = make_other()
            found = other.state_dict()
            dcp.load(found, checkpoint_id=path)
            other.load_state_dict(found)
            for name, value in other.state_dict().items():
                value = value.full_tensor() if isinstance(value, DTensor) else value
                assert torch.equal(value, state[name]), (saved, loaded, name)
            given = distribute_tensor(x, mesh, [Replicate()]) if "channels" in loaded else x
            z = other(given)
            assert torch.equal(z.full_tensor() if isinstance(z, DTensor) else z, y), (saved, loaded)


def test_checkpoints_of_one_layout_load_into_another(tmp_path):
    ranks.run(checkpoints_are_exact, 2, tmp_path, str(tmp_path))
