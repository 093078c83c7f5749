"""`konvlib.collapse` on torch models: exactly the model, and refused by name where there is no one layer for it."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from collections import OrderedDict
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import konvlib
from tests.engine import backends
from tests.engine.mistakes import assert_refused

backend = pytest.fixture(params=backends.of("strides"))(lambda request: request.param)


def whole_numbers(module, *, dtype=torch.float64, seed=0):
    """The same module with small integers for weights and biases, in which doubles are exact."""
    generator = torch.Generator().manual_seed(seed)
    module = module.to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    return module


def picture(*shape, dtype=torch.float64):
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def assert_exact(backend, model, *shape):
    one, x = backend.collapse(model), picture(*shape)
    assert type(one) in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    expected = model(x)
    assert expected.abs().sum() > 0
    assert one(x).shape == expected.shape
    assert (one(x) == expected).all()
    return one


def test_two_layers_of_one_to_three_axes(backend):
    for axes, biases in product((1, 2, 3), product((False, True), repeat=2)):
        conv = getattr(nn, f"Conv{axes}d")
        first = conv(2, 3, (3, 2, 1)[:axes], stride=(2, 1, 2)[:axes], dilation=(1, 3, 1)[:axes], bias=biases[0])
        second = conv(3, 2, (2, 3, 2)[:axes], stride=(3, 2, 1)[:axes], dilation=(2, 1, 1)[:axes], bias=biases[1])
        one = assert_exact(backend, whole_numbers(nn.Sequential(first, second)), 2, 2, *(19, 14, 7)[:axes])
        assert (one.bias is not None) == any(biases)
        assert one.stride == tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))


def test_the_same_module_twice_is_two_layers(backend):
    """The problem of the chapter: one filter, stride 2, applied twice."""
    layer = whole_numbers(conv(kernel=4, stride=2, bias=False))
    one = assert_exact(backend, nn.Sequential(layer, layer), 1, 1, 23)
    k2 = layer.weight.detach().numpy()[0, 0]
    assert (one.weight.detach().numpy()[0, 0] == konvlib.compose(k2, k2, stride1=2)).all()


def test_groups_and_depthwise_layers(backend):
    for groups in product((1, 2, 3, 6), repeat=2):
        model = nn.Sequential(
            nn.Conv2d(6, 6, 2, stride=2, groups=groups[0]), nn.Conv2d(6, 12, (1, 2), groups=groups[1])
        )
        assert_exact(backend, whole_numbers(model), 1, 6, 5, 6)
    model = nn.Sequential(nn.Conv1d(4, 8, 3, groups=4), nn.Conv1d(8, 4, 1, groups=2), nn.Conv1d(4, 4, 2, groups=4))
    assert assert_exact(backend, whole_numbers(model), 1, 4, 9).groups == 2


def test_padding_of_the_first_layer_in_every_mode(backend):
    """With biases: padding the input is padding the input of the whole."""
    for mode in ("zeros", "reflect", "replicate", "circular"):
        first = nn.Conv2d(2, 3, (3, 4), stride=(2, 1), padding=(2, 1), padding_mode=mode)
        model = nn.Sequential(first, nn.Conv2d(3, 2, 2, stride=(1, 2)))
        one = assert_exact(backend, whole_numbers(model), 2, 2, 9, 8)
        assert (one.padding, one.padding_mode) == ((2, 1), mode)


def test_padding_by_name(backend):
    same = nn.Sequential(nn.Conv2d(1, 2, (3, 5), padding="same", dilation=(2, 1)), nn.Conv2d(2, 1, 2, padding="valid"))
    assert assert_exact(backend, whole_numbers(same), 1, 1, 7, 8).padding == (2, 2)
    later = nn.Sequential(nn.Conv1d(1, 2, 3, padding="valid"), nn.Conv1d(2, 1, 1, padding="same"))
    assert assert_exact(backend, whole_numbers(later), 1, 1, 7).padding == (0,)


def test_containers_identities_and_long_chains(backend):
    model = nn.Sequential(
        OrderedDict(
            start=nn.Identity(),
            inner=nn.Sequential(nn.Conv1d(1, 2, 3, stride=2, padding=1), nn.Sequential(), nn.Identity()),
            middle=nn.Sequential(nn.Sequential(nn.Conv1d(2, 3, 2, bias=False))),
            end=nn.Conv1d(3, 1, 2, stride=3),
        )
    )
    one = assert_exact(backend, whole_numbers(model), 2, 1, 40)
    assert (one.kernel_size, one.stride, one.padding) == ((7,), (6,), (1,))
    assert_exact(backend, whole_numbers(nn.Sequential(nn.Conv1d(2, 3, 4, 3, 2, 2))), 1, 2, 9)


def test_taps_that_all_lie_apart_stay_apart(backend):
    model = nn.Sequential(nn.Conv1d(1, 2, 3, dilation=4), nn.Conv1d(2, 2, 1), nn.Conv1d(2, 1, 2, dilation=6))
    one = assert_exact(backend, whole_numbers(model), 1, 1, 20)
    assert (one.kernel_size, one.dilation) == ((8,), (2,))


def test_dtype_device_and_training_mode_are_the_models(backend):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        model = whole_numbers(nn.Sequential(nn.Conv1d(1, 2, 2, stride=2), nn.Conv1d(2, 1, 2)), dtype=dtype).eval()
        one = backend.collapse(model)
        assert one.weight.dtype == one.bias.dtype == dtype
        assert one.weight.device == model[0].weight.device
        assert not one.training
        wide = backend.collapse(copy.deepcopy(model).double())
        assert (one.weight == wide.weight.to(dtype)).all()
    assert backend.collapse(model.train()).training
    assert isinstance(one.weight, nn.Parameter)
    assert one.weight.requires_grad


def test_a_complex_model(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # complex modules are new to PyTorch
        model = whole_numbers(nn.Sequential(nn.Conv1d(1, 2, 2, stride=2), nn.Conv1d(2, 1, 2)), dtype=torch.complex64)
        with torch.no_grad():
            model[0].weight.mul_(2 - 1j)
            model[1].bias.mul_(1j)
        x = picture(1, 1, 9, dtype=torch.complex64) * (1 + 3j)
        assert (backend.collapse(model)(x) == model(x)).all()


@pytest.mark.gpu
def test_on_a_cuda_device():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = whole_numbers(nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 1, 2))).cuda()
    one, x = konvlib.collapse(model), picture(1, 1, 9, 9).cuda()
    assert one.weight.device == x.device
    assert (one(x) == model(x)).all()


def test_weights_are_rounded_once(backend):
    """Composed in doubles, as the model in doubles is."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv1d(4, 4, 3) for _ in range(3)))
    exact = backend.collapse(copy.deepcopy(model).double())
    assert (backend.collapse(model).weight == exact.weight.float()).all()
    assert (backend.collapse(model).bias == exact.bias.float()).all()


def test_the_model_stays_as_it_was_and_shares_nothing(backend):
    model = whole_numbers(nn.Sequential(nn.Conv1d(1, 2, 2)))
    before = copy.deepcopy(model.state_dict())
    one = backend.collapse(model)
    with torch.no_grad():
        one.weight.add_(1)
        one.bias.add_(1)
    assert all((model.state_dict()[name] == value).all() for name, value in before.items())


class Quiet(nn.Conv1d):
    """A convolution that does something else."""

    def forward(self, x):
        return super().forward(x).abs()


class Backwards(nn.Sequential):
    """A container that does something else."""

    def forward(self, x):
        return super().forward(x.flip(-1))


class Named(nn.Sequential):
    """A container that is one."""


def conv(inputs=1, outputs=1, kernel=2, **options):
    return nn.Conv1d(inputs, outputs, kernel, **options)


def hooked():
    layer = conv()
    layer.register_forward_hook(lambda module, x, y: y.abs())
    return layer


ERRORS = [
    (TypeError, "model must be a torch.nn.Sequential, got Conv1d", conv),
    (TypeError, "model must be a torch.nn.Sequential, got list", lambda: [conv(), conv()]),
    (ValueError, "model must hold at least one convolution, got none", lambda: nn.Sequential(nn.Identity())),
    (
        ValueError,
        "layer 1 must be a Conv1d, Conv2d or Conv3d itself, got ReLU",
        lambda: nn.Sequential(conv(), nn.ReLU(), conv()),
    ),
    (
        ValueError,
        "layer 1 must be a Conv1d, Conv2d or Conv3d itself, got Quiet",
        lambda: nn.Sequential(conv(), Quiet(1, 1, 2)),
    ),
    (
        ValueError,
        "layer 0 must be a Conv1d, Conv2d or Conv3d itself, got ConvTranspose1d",
        lambda: nn.Sequential(nn.ConvTranspose1d(1, 1, 2)),
    ),
    (
        ValueError,
        "layer 0 must be a Conv1d, Conv2d or Conv3d itself, got LazyConv1d",
        lambda: nn.Sequential(nn.LazyConv1d(1, 2)),
    ),
    (
        ValueError,
        "layer 0 must be a Conv1d, Conv2d or Conv3d itself, got ParametrizedConv1d",
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(conv())),
    ),
    (
        ValueError,
        "layer 1.inner must have no padding, since only the first layer's is padding of the whole, got (1,)",
        lambda: nn.Sequential(conv(), nn.Sequential(OrderedDict(inner=conv(padding=1)))),
    ),
    (
        ValueError,
        "layer 2 must have no padding, since only the first layer's is padding of the whole, got 'same'",
        lambda: nn.Sequential(conv(), conv(), conv(kernel=3, padding="same")),
    ),
    (
        ValueError,
        "layer 0 must pad both sides alike, got padding 'same', which is [(1, 2)] here",
        lambda: nn.Sequential(conv(kernel=4, padding="same"), conv()),
    ),
    (
        ValueError,
        "layer 1 must be a Conv1d, as layer 0 is, got Conv2d",
        lambda: nn.Sequential(conv(), nn.Conv2d(1, 1, 2)),
    ),
    (
        ValueError,
        "layer 1 must take the 2 channels of the layer before, got 3",
        lambda: nn.Sequential(conv(1, 2), conv(3, 1)),
    ),
    (
        ValueError,
        "layer 1 must have dtype torch.float32, as layer 0 has, got torch.float64",
        lambda: nn.Sequential(conv(), conv(dtype=torch.float64)),
    ),
    (
        ValueError,
        "layer 1 must have device cpu, as layer 0 has, got meta",
        lambda: nn.Sequential(conv(), conv(device="meta")),
    ),
    (
        ValueError,
        "layer 1 must have no forward hooks, got some; remove them first",
        lambda: nn.Sequential(conv(), hooked()),
    ),
    (
        ValueError,
        "model must run its layers in turn, got Backwards with a forward of its own",
        lambda: Backwards(conv()),
    ),
    (
        ValueError,
        "layer 1 must run its layers in turn, got Backwards with a forward of its own",
        lambda: nn.Sequential(conv(), Backwards(conv())),
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:60])
def test_a_model_that_is_no_one_layer_is_refused_by_name(backend, row):
    kind, message, model = row
    assert_refused(kind, message, backend.collapse, model())


def test_a_named_container_that_runs_its_layers_in_turn_is_taken(backend):
    assert_exact(backend, whole_numbers(Named(conv(), Named(conv(1, 2, 3)))), 1, 1, 9)


def test_padding_between_layers_is_refused_since_it_computes_something_else():
    """With the padding it would need, the collapsed layer differs on the border, and there only."""
    between = whole_numbers(nn.Sequential(conv(kernel=5, stride=2, padding=2), conv(kernel=5, stride=2, padding=2)))
    once = whole_numbers(nn.Sequential(conv(kernel=5, stride=2, padding=6), conv(kernel=5, stride=2)))
    once.load_state_dict(between.state_dict())
    with pytest.raises(ValueError, match="layer 1 must have no padding"):
        konvlib.collapse(between)
    x = picture(1, 1, 32)
    y, z = between(x)[0, 0], konvlib.collapse(once)(x)[0, 0]
    assert len(y) == len(z)
    assert (y != z).tolist() == [True] + [False] * (len(y) - 2) + [True]


def test_torch_is_not_imported_before_it_is_needed():
    code = "import sys, konvlib; konvlib.compose([1], [2]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_model_of_convolutions(data):
    axes, count = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5))
    kind, channels, layers = (nn.Conv1d, nn.Conv2d)[axes - 1], [2 * data.draw(st.integers(1, 3))], []
    for number in range(count):
        channels.append(2 * data.draw(st.integers(1, 3)))
        kernel, stride, dilation = (
            tuple(data.draw(st.integers(1, most)) for _ in range(axes)) for most in ((5, 3)[axes - 1], 2, 2)
        )
        options = {"groups": data.draw(st.sampled_from([1, 2])), "bias": data.draw(st.booleans())}
        padding = data.draw(st.integers(0, 4)) if number == 0 else 0
        layers.append(kind(*channels[-2:], kernel, stride, padding, dilation, **options))
    model = whole_numbers(nn.Sequential(*layers)).requires_grad_(False)
    one = konvlib.collapse(model)
    seen = (gap * (taps - 1) + 4 for gap, taps in zip(one.dilation, one.kernel_size, strict=True))
    x = picture(1, channels[0], *seen)
    assert (one(x) == model(x)).all()
