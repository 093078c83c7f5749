"""Layers and poolings of tensors under everything that torch does to functions: see `tests.engine.transforms`."""

from __future__ import annotations

import pytest
import torch

import konvlib
from tests.engine import transforms


def random(*shape):
    count = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(count * count).reshape(shape)


UNEVEN = ((1, 0), (0, 1))


def put_back(x):
    """Two samples meet in each channel."""
    places = torch.tensor([0, 7, 7, 3, 10, 23]).reshape(x.shape[2:])
    return konvlib.max_unpool2d(x, places.expand(x.shape), 2)


ROWS = {
    "conv1d": (
        lambda x, w: konvlib.conv1d(x, w, stride=2, padding=((2, 1),), padding_mode="reflect"),
        [random(2, 2, 6), random(3, 2, 3)],
    ),
    "conv2d": (
        lambda x, w, bias: konvlib.conv2d(x, w, bias, stride=(2, 1), padding=((1, 0), (2, 1)), groups=2),
        [random(2, 4, 5, 6), random(2, 2, 3, 2), random(2)],
    ),
    "conv2d, same_lower": (
        lambda x, w: konvlib.conv2d(x, w, stride=(2, 3), padding="same_lower", dilation=(1, 2)),
        [random(2, 2, 4, 5), random(3, 2, 3, 2)],
    ),
    "conv2d, padding wider than the image": (
        lambda x, w: konvlib.conv2d(x, w, stride=3, padding=((5, 2), (0, 7)), padding_mode="circular"),
        [random(2, 1, 2, 3), random(2, 1, 2, 2)],
    ),
    "conv1d, mirrored more than once": (
        lambda x, w: konvlib.conv1d(x, w, stride=2, padding=((6, 9),), padding_mode="reflect"),
        [random(2, 2, 3), random(2, 2, 2)],
    ),
    "conv2d, even padding": (
        lambda x, w, bias: konvlib.conv2d(x, w, bias, stride=2, padding=1, dilation=(1, 2)),
        [random(2, 2, 4, 5), random(3, 2, 3, 2), random(3)],
    ),
    "conv3d": (
        lambda x, w: konvlib.conv3d(x, w, padding=((0, 1), (1, 1), (0, 0)), padding_mode="replicate"),
        [random(2, 1, 2, 3, 4), random(2, 1, 2, 2, 3)],
    ),
    "max_pool1d": (lambda x: konvlib.max_pool1d(x, 3, stride=2, padding=1), [random(2, 2, 7)]),
    "max_pool2d": (
        lambda x: konvlib.max_pool2d(x, (3, 2), stride=2, padding=UNEVEN, ceil_mode=True),
        [random(2, 2, 5, 6)],
    ),
    "max_pool2d, same_upper": (
        lambda x: konvlib.max_pool2d(x, (3, 2), stride=2, padding="same_upper", dilation=(3, 1)),
        [random(2, 2, 6, 5)],
    ),
    "max_pool3d": (lambda x: konvlib.max_pool3d(x, 2, stride=1, dilation=(1, 2, 1)), [random(2, 1, 3, 4, 3)]),
    "avg_pool1d": (lambda x: konvlib.avg_pool1d(x, 2, padding=((0, 1),)), [random(2, 2, 5)]),
    "avg_pool2d": (
        lambda x: konvlib.avg_pool2d(x, (3, 2), stride=2, padding=UNEVEN, ceil_mode=True, count_include_pad=False),
        [random(2, 2, 5, 6)],
    ),
    "avg_pool2d, same_lower": (
        lambda x: konvlib.avg_pool2d(x, (4, 2), stride=(3, 1), padding="same_lower", count_include_pad=False),
        [random(2, 2, 5, 6)],
    ),
    "avg_pool3d": (lambda x: konvlib.avg_pool3d(x, 2, padding=1), [random(2, 1, 3, 4, 3)]),
    "avg_pool1d, divided by three": (lambda x: konvlib.avg_pool1d(x, 2, divisor_override=3), [random(2, 2, 5)]),
    "avg_pool2d, dilated": (
        lambda x: konvlib.avg_pool2d(x, 2, stride=(2, 1), padding=UNEVEN, dilation=(2, 3), ceil_mode=True),
        [random(2, 2, 5, 6)],
    ),
    "max_pool1d, large window": (lambda x: konvlib.max_pool1d(x, 200, stride=3, padding=99), [random(2, 2, 7)]),
    "avg_pool1d, large window": (lambda x: konvlib.avg_pool1d(x, 200, stride=3, padding=99), [random(2, 2, 7)]),
    "max_pool2d and its indices": (
        lambda x: konvlib.max_pool2d(x, (3, 2), stride=2, padding=UNEVEN, ceil_mode=True, return_indices=True)[0],
        [random(2, 2, 5, 6)],
    ),
    "max_pool2d and its indices, even padding": (
        lambda x: konvlib.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)[0],
        [random(2, 2, 5, 6)],
    ),
    "max_unpool2d": (put_back, [random(2, 2, 2, 3)]),
}


@pytest.mark.parametrize("check", [transforms.compiled, transforms.made_fx], ids=lambda check: check.__name__)
def test_values_and_indices_together(check):
    """Pooled, put back, and pooled again: indices travel through a trace."""

    def there_and_back(x):
        y, indices = konvlib.max_pool2d(x, 2, return_indices=True)
        return konvlib.max_unpool2d(y, indices, 2) + indices.sum()

    check(there_and_back, [random(2, 2, 4, 6)])


def test_indices_of_each_slice_under_vmap():
    x = torch.stack([random(2, 2, 5, 6), -random(2, 2, 5, 6)])
    for padding in (1, UNEVEN):
        pool = lambda x, padding=padding: konvlib.max_pool2d(x, 3, padding=padding, return_indices=True)  # noqa: E731
        y, indices = torch.vmap(pool)(x)
        for n in range(2):
            assert all(torch.equal(a, b[n]) for a, b in zip(pool(x[n]), (y, indices), strict=True))


def test_only_what_stays_receives_a_gradient():
    x = torch.tensor([[[5.0, 7, 6]]], requires_grad=True)
    y = konvlib.max_unpool1d(x, torch.tensor([[[2, 0, 2]]]), 2)
    (dx,) = torch.autograd.grad(y, x, torch.tensor([[[1.0, 2, 3, 4, 5, 6]]]))
    assert dx.tolist() == [[[0, 1, 3]]]


@pytest.mark.parametrize("check", [*transforms.CHECKS, *transforms.FREE_BATCH], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_everything_that_torch_does(name, check):
    check(*ROWS[name])


@pytest.mark.parametrize("name", [name for name in ROWS if "2d" in name])
def test_channels_last_stays(name):
    transforms.channels_last(*ROWS[name])


TRACED = {
    "padding 'same_upper'": lambda x: konvlib.conv2d(x, random(3, 2, 4, 4), stride=3, padding="same_upper"),
    "padding 'same_lower'": lambda x: konvlib.max_pool2d(x, 3, stride=2, padding="same_lower"),
    "output_size": lambda x: konvlib.conv_transpose2d(x, random(2, 3, 3, 3), stride=2, output_size=(8, 10)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRACED)
def test_what_depends_on_the_size_is_no_trace(name):
    """Which would keep the padding of this size for all others; also where the size is one that was met before."""
    TRACED[name](random(1, 2, 3, 4))
    with pytest.raises(ValueError, match=f"^{name} depends on the size of x, which torch.jit.trace takes to be fixed"):
        torch.jit.trace(TRACED[name], (random(1, 2, 3, 4),))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["circular", "reflect"])
def test_a_trace_with_padding_wider_than_the_image_is_right_at_other_sizes_or_refused(mode):
    for padding in (1, 4, 9):

        def layer(x, padding=padding):
            return konvlib.conv1d(x, random(2, 1, 3), padding=padding, padding_mode=mode)

        traced = torch.jit.trace(layer, (random(1, 1, 5),))
        assert torch.equal(traced(random(1, 1, 5)), layer(random(1, 1, 5)))
        for size in range(1, 25):
            x = random(1, 1, size)
            try:
                y = traced(x)
            except RuntimeError:
                assert padding > 1 or size == 1  # another number of steps
                continue
            assert torch.equal(y, layer(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv2d", "max_pool2d", "avg_pool2d"])
def test_inductor_compiles_it_whole(name):
    transforms.compiled(*ROWS[name], backend="inductor")


@pytest.mark.slow
def test_inductor_compiles_konvolution_whole():
    x, kappa = random(2, 2, 5, 6), random(3, 4, 2, 3, 2)
    transforms.compiled(lambda x, kappa: konvlib.konv2d(x, kappa, padding=1), [x, kappa], backend="inductor")
