"""Frozen layers of Konvolution: the same results, made of kept values, and never of values that are no longer right."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from konvlib import runtime
from konvlib.konvolution import aten, bases, frozen, recurrences
from konvlib.konvolution.module import Konv1d, Konv2d, Konv3d, LazyKonv2d
from konvlib.konvolution.recurrences import BASES

KONVS = {1: Konv1d, 2: Konv2d, 3: Konv3d}
SIZES = (7, 6, 5), (5, 8, 4)
OPTIONS = [
    {},
    {"padding": 1, "bias": False},
    {"stride": 2, "padding": ((2, 0), (1, 2), (0, 1)), "groups": 2},
    {"padding": "same", "dilation": 2, "affine": True},
    {"padding": 1, "pad": "input"},
    {"padding": 2, "padding_mode": "reflect", "stride": 3},
    {"padding": 1, "padding_mode": "circular", "groups": 2},
    {"padding": "same", "padding_mode": "replicate", "recompute": True},
]


@pytest.fixture(autouse=True)
def by_aten(monkeypatch):
    """The kernels have tests of their own; here their interpreter would only be slow."""
    monkeypatch.setattr(runtime, "INTERPRET", False)


def counted(monkeypatch):
    """What is made of parameters, in order."""
    names = []
    for name in ("degree_0", "_weight"):
        make = getattr(aten, name)
        monkeypatch.setattr(aten, name, lambda *given, make=make, name=name: names.append(name) or make(*given))
    return names


made = pytest.fixture(counted)


def whole_numbers(layer, seed=0):
    """The same layer with small integers for parameters, of which sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    return layer


def batch(*shape, seed=1, dtype=torch.float64):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def pair(**options):
    """A layer and its frozen copy."""
    layer = whole_numbers(Konv2d(4, 6, (3, 2), **{"padding": 1, "dtype": torch.float64} | options))
    return layer, copy.deepcopy(layer).freeze()


def unfrozen(layer, *given):
    """What a layer of the same parameters computes that keeps nothing."""
    return copy.deepcopy(layer).thaw()(*given)


# The same results


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("axes", KONVS)
def test_every_geometry_is_computed_alike(axes, options):
    """Sizes and batches in turn, one sample too, and each of them twice."""
    given = {**options, "squash": "none", "degree": 2, "dtype": torch.float64}
    if isinstance(options.get("padding"), tuple):
        given["padding"] = options["padding"][:axes]
    layer = whole_numbers(KONVS[axes](4, 6, (3, 2, 1)[:axes], **given))
    again = copy.deepcopy(layer).freeze()
    shapes = [(*first, *size[:axes]) for size in SIZES for first in ((2, 4), (3, 4), (4,))]
    for shape in shapes * 2:
        x = batch(*shape)
        assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize(("basis", "squash"), list(product(BASES, ["tanh", "none"])))
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4, 9])
def test_every_basis_and_degree_is_computed_alike(basis, squash, degree):
    layer, again = pair(basis=basis, squash=squash, degree=degree)
    for size in [(5, 6), (4, 7)] * 2:
        x = batch(2, 4, *size)
        assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_dtype_is_computed_alike(dtype):
    layer, again = pair(dtype=dtype, degree=2, squash="none")
    for _ in range(2):
        y = again(x := batch(2, 4, 5, 6, dtype=dtype))
        assert y.dtype == dtype
        assert torch.equal(y, layer(x))


def test_what_is_made_of_parameters_is_made_once(made):
    _, layer = pair()
    small, large = batch(2, 4, 5, 6), batch(2, 4, 7, 6)
    for x in (small, small, batch(3, 4, 5, 6), small[0]):
        layer(x)
    assert made == ["degree_0", "_weight"]
    for x in (large, small, large):
        layer(x)
    assert made == ["degree_0", "_weight", "degree_0"]


def test_without_zeros_in_the_padding_one_value_serves_all_sizes(made):
    _, layer = pair(padding=0)
    for size in ((5, 6), (7, 6)):
        layer(batch(2, 4, *size))
    assert made == ["degree_0", "_weight"]


def test_a_result_is_no_kept_tensor():
    layer, again = pair(degree=0)
    x = batch(1, 4, 5, 6)
    again(x).zero_()
    assert torch.equal(again(x), layer(x))


def test_so_many_values_are_kept_and_no_more(made):
    """The newest: the weight once more when it is the oldest, and maps for the last sizes."""
    layer, again = pair()
    inputs = [batch(1, 4, size, 5) for size in range(3, 3 + 2 * frozen.MOST)]
    for x in inputs:
        assert torch.equal(again(x), layer(x))
    assert len(again._frozen._prepacked._made) == frozen.MOST
    made.clear()
    for x in inputs[-3:]:
        again(x)
    assert made == []


# Values that are no longer right


def _loaded(layer):
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})


def _loaded_by_assigning(layer):
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()}, assign=True)


@torch.no_grad()
def _in_place(layer):
    layer.kappa.mul_(2)


@torch.no_grad()
def _one_number(layer):
    layer.kappa[5, 3, 3, 2, 1] += 1


@torch.inference_mode()
def _in_inference_mode(layer):
    layer.kappa.mul_(2)


@torch.no_grad()
def _as_a_moving_average(layer):
    torch._foreach_lerp_([layer.kappa.detach()], [torch.zeros_like(layer.kappa)], 0.5)


@torch.no_grad()
def _bias_in_place(layer):
    layer.bias += 1


def _bias_taken_away(layer):
    layer.bias = None


def _assigned(layer):
    layer.kappa = nn.Parameter(2 * layer.kappa, requires_grad=False)


def _other_data(layer):
    layer.kappa.data = 2 * layer.kappa.data


def _another_of_the_same_memory(layer):
    """Its changes are counted from 0 again, up to where the first one stood."""
    other = nn.Parameter(layer.kappa.data, requires_grad=False)
    with torch.no_grad():
        while other._version < layer.kappa._version:
            other.mul_(2)
    layer.kappa = other


def _turned(layer):
    """The same memory and the same shape."""
    layer.kappa.data = layer.kappa.data.transpose(1, 2)


def _of_lower_degree(layer):
    layer.kappa.data = layer.kappa.data[:, :3]


def _from_a_vector(layer):
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(2 * vector, layer.parameters())


def _set(layer):
    with torch.no_grad():
        layer.kappa.set_(2 * layer.kappa)


def _swapped(layer):
    torch.utils.swap_tensors(layer.kappa, nn.Parameter(2 * layer.kappa, requires_grad=False))


def _in_another_basis(layer):
    layer.basis = "hermite"


def _in_a_basis_of_the_same_name(layer):
    bases.BASES.pop("passing")
    bases.add_basis("passing", lambda n: (3, 1, 2), domain=(-1, 1))


def _strided(layer):
    layer.stride = (2, 1)


def _padded(layer):
    layer.padding = ((2, 0), (1, 1))


def _padded_otherwise(layer):
    layer.pad = "input"


def _dilated(layer):
    layer.dilation = (1, 2)


CHANGES = {
    change.__name__: change
    for change in (
        _loaded, _loaded_by_assigning, _in_place, _one_number, _in_inference_mode, _as_a_moving_average,
        _bias_in_place, _bias_taken_away, _assigned, _other_data, _another_of_the_same_memory, _turned,
        _of_lower_degree, _from_a_vector, _set, _swapped, _in_another_basis, _in_a_basis_of_the_same_name, _strided,
        _padded, _padded_otherwise, _dilated,
    )
}  # fmt: skip
CHANGES |= {"reset": Konv2d.reset_parameters, "half": Konv2d.half, "float": Konv2d.float}
CHANGES |= {"half and back": lambda layer: layer.half().double()}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(monkeypatch, change):
    known = dict(bases.BASES)
    for module in (bases, recurrences):
        monkeypatch.setattr(module, "BASES", known)
    bases.add_basis("passing", lambda n: (2, 1, 1), domain=(-1, 1))
    layer = pair(squash="none", basis="passing")[1]
    x = batch(2, 4, 5, 6)
    with torch.no_grad():
        layer.kappa.div_(3)  # which halves have to round
    before = layer(x)
    assert torch.equal(layer(x), before)
    CHANGES[change](layer)
    x = x.to(layer.kappa.dtype)
    for _ in range(2):
        y = layer(x)
        assert y.shape != before.shape or not torch.equal(y.double(), before)
        assert torch.equal(y, unfrozen(layer, x))


def test_memory_is_held_until_the_change_is_seen():
    """So nothing else can come to lie where the parameter lay, and be taken for it."""
    _, layer = pair()
    x = batch(2, 4, 5, 6)
    layer(x)
    memory = StorageWeakRef(layer.kappa.untyped_storage())
    layer.kappa.data = 2 * layer.kappa.data
    assert not memory.expired()
    layer(x)
    assert memory.expired()


def test_loading_and_moving_free_what_is_kept_at_once():
    _, layer = pair()
    model, x = nn.Sequential(layer), batch(2, 4, 5, 6)
    for move in (model.double, model.cpu, lambda: model.load_state_dict(model.state_dict())):
        model(x)
        assert layer._frozen._prepacked
        move()
        assert layer.frozen
        assert layer._frozen._prepacked is None


def test_what_torch_does_not_count_needs_another_freeze():
    """That is the contract: `freeze` says that parameters are constant, and is to be said again."""
    _, layer = pair()
    x = batch(2, 4, 5, 6)
    before = layer(x)
    layer.kappa.data.mul_(2)
    assert torch.equal(layer(x), before)
    assert torch.equal(layer.freeze()(x), unfrozen(layer, x))
    layer.kappa.numpy()[...] *= 3
    assert torch.equal(layer.freeze()(x), unfrozen(layer, x))
    assert not torch.equal(layer(x), before)


# Copies


def test_nothing_kept_is_saved_or_copied():
    layer, again = pair(affine=True)
    x = batch(2, 4, 5, 6)
    empty = len(pickle.dumps(again))
    again(x)
    assert again._frozen._prepacked
    assert list(again.state_dict()) == list(layer.state_dict()) == ["kappa", "bias", "scale", "shift"]
    assert len(pickle.dumps(again)) == empty
    for copied in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        assert copied.frozen
        assert copied._frozen._prepacked is None
        with torch.no_grad():
            copied.kappa.mul_(2)
        assert torch.equal(copied(x), unfrozen(copied, x))
        assert torch.equal(again(x), layer(x))
        assert all(p.requires_grad for p in copied.thaw().parameters())


def test_a_shallow_copy_may_have_other_parameters():
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    again(x)
    other = copy.copy(again)
    other._parameters = {**other._parameters, "kappa": nn.Parameter(2 * layer.kappa.detach(), requires_grad=False)}
    for _ in range(2):
        assert torch.equal(other(x), unfrozen(other, x))
        assert torch.equal(again(x), layer(x))


def test_older_pickles_are_not_frozen():
    layer = pair()[0]
    layer.__dict__.pop("_frozen", None)
    assert not pickle.loads(pickle.dumps(layer)).frozen


# Gradients


def test_freezing_and_thawing_say_which_parameters_require_gradients():
    layer = pair(affine=True)[0]
    layer.shift.requires_grad_(False)
    assert layer.freeze() is layer
    assert not any(p.requires_grad for p in layer.parameters())
    layer.scale.requires_grad_()
    assert layer.freeze().frozen
    assert layer.thaw() is layer
    assert not layer.frozen
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["kappa", "bias", "scale"]
    assert not layer.requires_grad_(False).thaw().kappa.requires_grad  # it was not frozen
    assert layer.freeze().requires_grad_(False).frozen
    assert not layer.thaw().kappa.requires_grad


@pytest.mark.parametrize("required", ["model", "kappa", "bias", "scale", "layer"])
def test_a_layer_is_said_to_be_frozen_where_its_calls_reuse_what_is_kept(required, made):
    """What is kept is made of kappa and of the bias alone. By the layer's own method it is frozen no more."""
    _, layer = pair(affine=True)
    model, x = nn.Sequential(layer), batch(2, 4, 5, 6)
    for requires, expected in ((True, required == "scale"), (False, required != "layer")):
        model(x)
        {"layer": layer, "model": model}.get(required, getattr(layer, required, None)).requires_grad_(requires)
        made.clear()
        model(x)
        assert layer.frozen == expected == (not made)


@pytest.mark.parametrize("required", ["layer", "model", "kappa", "bias"])
def test_a_parameter_that_requires_a_gradient_again_gets_it(required):
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    again(x)
    model = nn.Sequential(again)
    {"layer": again, "model": model}.get(required, getattr(again, required, None)).requires_grad_(True)
    assert not again.frozen
    leaves = [name for name, p in again.named_parameters() if p.requires_grad]
    for name, got, expected in zip(
        leaves,
        torch.autograd.grad(again(x).square().sum(), [getattr(again, name) for name in leaves]),
        torch.autograd.grad(layer(x).square().sum(), [getattr(layer, name) for name in leaves]),
        strict=True,
    ):
        assert torch.equal(got, expected), name
    with torch.no_grad():
        getattr(again, leaves[0]).mul_(2)
    model.requires_grad_(False)
    assert torch.equal(again(x), unfrozen(again, x))


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"recompute": True}, {"bias": False, "padding": 0}], ids=str)
def test_gradients_by_the_input_are_as_before(options):
    layer, again = pair(**options, degree=2, squash="none")
    x, g = batch(2, 4, 5, 6).requires_grad_(), None
    with torch.inference_mode():
        again(x)  # what is kept must serve under autograd too
    for _ in range(2):
        found = []
        for each in (layer, again):
            y = each(x)
            g = torch.ones_like(y) if g is None else g
            (dx,) = torch.autograd.grad(y, x, g, create_graph=True)
            found.append((dx, *torch.autograd.grad(dx.square().sum(), x)))
        assert all(torch.equal(*each) for each in zip(*found, strict=True))


def test_no_graph_is_built_where_nothing_requires_a_gradient():
    assert not pair()[1](batch(2, 4, 5, 6)).requires_grad


# The rest of torch


def test_autocast_finds_nothing_and_leaves_nothing(made):
    """Within, degree 0 is summed in bfloat16, in which thirds are others."""
    layer, again = pair(dtype=torch.float32)
    with torch.no_grad():
        for each in (layer, again):
            each.kappa.div_(3)
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = again(x)
            assert y.dtype == torch.bfloat16
            assert torch.equal(y, layer(x))
        assert torch.equal(again(x), layer(x))
    made.clear()
    again(x)
    assert made == []


def test_under_transforms():
    layer, again = pair(degree=2)
    x = batch(3, 2, 4, 5, 6)
    again(x[0])
    assert torch.equal(torch.vmap(again)(x), torch.vmap(layer)(x))
    other = {"kappa": 2 * layer.kappa.detach(), "bias": layer.bias.detach() + 1}
    parameters = {name: nn.Parameter(value, requires_grad=False) for name, value in other.items()}
    expected = torch.func.functional_call(layer, other, (x[0],))
    for given in (other, parameters):
        assert torch.equal(torch.func.functional_call(again, given, (x[0],)), expected)
        assert torch.equal(again(x[0]), layer(x[0]))

    def total(module):
        return lambda given: torch.func.functional_call(module, given, (x[0],)).square().sum()

    got, wanted = (torch.func.grad(total(module))(other) for module in (again, layer))
    assert all(torch.equal(got[name], wanted[name]) for name in other)
    tangents = {name: torch.ones_like(value) for name, value in other.items()}
    got, wanted = (torch.func.jvp(total(module), (other,), (tangents,)) for module in (again, layer))
    assert all(map(torch.equal, got, wanted))


def test_traced_by_fx_it_follows_the_parameters():
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    with FlopCounterMode(display=False) as before:
        layer(x)
    for _ in range(2):
        graph = make_fx(again)(x)
        with FlopCounterMode(display=False) as counted:
            again(x)
        assert counted.get_total_flops() == before.get_total_flops()
        with torch.no_grad():
            again.kappa.mul_(2)
        assert torch.equal(graph(x), unfrozen(again, x))
        assert torch.equal(again(x), unfrozen(again, x))


def test_it_compiles_whole_and_once():
    """The graph follows the parameters, and is not compiled anew where something else is kept."""
    layer, again = pair()
    x, counter = batch(2, 4, 5, 6), CompileCounterWithBackend("aot_eager")
    again(x)
    compiled = torch.compile(again, fullgraph=True, backend=counter)
    assert torch.allclose(compiled(x), layer(x), rtol=1e-12)
    for _ in range(2):
        with torch.no_grad():
            again.kappa.mul_(2)
        assert torch.allclose(compiled(x), unfrozen(again, x), rtol=1e-12)
        again.freeze()(x)
        assert torch.allclose(compiled(x), again(x), rtol=1e-12)
    assert counter.frame_count == 1


@pytest.mark.parametrize("strict", [True, False])
def test_it_is_exported(strict):
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    again(x)
    program = torch.export.export(again, (x,), strict=strict)
    assert list(program.state_dict) == ["kappa", "bias"]
    assert torch.allclose(program.module()(x), layer(x), rtol=1e-12)


def test_parameters_that_are_computed_at_each_call():
    class Doubled(nn.Module):
        def forward(self, kappa):
            return 2 * kappa

    layer, again = pair()
    x = batch(2, 4, 5, 6)
    for each in (layer, again):
        parametrize.register_parametrization(each, "kappa", Doubled())
    for factor in (1, 3):
        for each in (layer, again):
            each.parametrizations.kappa.original.data.mul_(factor)
        for _ in range(2):
            assert torch.equal(again(x), layer(x))
    assert again.freeze()._frozen._prepacked is None
    assert torch.equal(again(x), layer(x))
    assert again._frozen._prepacked is None  # it would serve one call


def test_parameters_of_inference_mode_count_no_changes():
    with torch.inference_mode():
        layer = whole_numbers(Konv2d(4, 6, (3, 2), dtype=torch.float64)).freeze()
        x = batch(2, 4, 5, 6)
        before = layer(x)
        for parameter in layer.parameters():
            parameter.mul_(2)
        assert torch.equal(layer(x), 2 * before)


def test_streams_share_nothing_and_captured_graphs_keep_nothing(made, monkeypatch):
    """No card is needed: it says that the tensors are on one, and which stream is the current one."""
    _, layer = pair()
    x, stream, captured = batch(2, 4, 5, 6), [1], [False]
    monkeypatch.setattr(frozen, "_stream_of", lambda tensor: stream[0])
    for stream[0] in (1, 2, 1, 2):
        layer(x)
    assert made == ["degree_0", "_weight"] * 2
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True), raising=False)
    monkeypatch.setattr(runtime, "triton", None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: captured[0])
    layer(x)
    for captured[0], count in ((False, 4), (True, 6), (True, 8), (False, 8)):
        layer(x)
        assert len(made) == count


def test_threads_see_one_state_or_the_other():
    """Eight threads call the layer at ten sizes while it is changed and frozen again."""
    layer = pair(padding=2, squash="none")[1]
    inputs = [batch(1, 4, size, 5) for size in range(3, 13)]
    first = [layer(x) for x in inputs]
    stop = threading.Event()

    def call(start):
        while not stop.is_set():
            for place in range(start, start + len(inputs)):
                x, old = inputs[place % len(inputs)], first[place % len(inputs)]
                assert layer(x).shape == old.shape

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, start) for start in range(8)]
        for _ in range(20):
            layer.kappa.data.neg_()
            layer.freeze()
        stop.set()
        for each in calls:
            each.result()
    assert all(torch.equal(layer(x), old) for x, old in zip(inputs, first, strict=True))
    layer.kappa.data.neg_()
    assert all(torch.equal(layer.freeze()(x), unfrozen(layer, x)) for x in inputs)


# Other layers


def test_a_lazy_layer_learns_its_channels_first():
    lazy = LazyKonv2d(6, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="the layer must know its channels to be frozen, got a lazy one"):
        lazy.freeze()
    assert not lazy.frozen
    x = batch(2, 4, 5, 6)
    y = lazy(x)
    assert torch.equal(lazy.freeze()(x), y)


def test_a_layer_made_of_a_frozen_convolution_is_not_frozen():
    layer = Konv2d.from_conv(nn.Conv2d(4, 6, 3).requires_grad_(False))
    assert not layer.frozen
    assert not layer.freeze().thaw().kappa.requires_grad
    assert Konv2d.from_conv(nn.Conv2d(4, 6, 3)).freeze().frozen


def test_a_model_is_frozen_layer_by_layer():
    model = nn.Sequential(Konv2d(2, 3, 2), nn.ReLU(), nn.Sequential(Konv2d(3, 2, 2), nn.Conv2d(2, 2, 1)))
    assert model.apply(lambda module: module.freeze() if isinstance(module, Konv2d) else None) is model
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["2.1.weight", "2.1.bias"]
    assert model.eval()[0].frozen
