"""Each size formula against counting, in a box; each error by name.

Oracles: positions of windows counted one by one, and PyTorch's own layers.
"""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
import torch

from konvlib import geometry
from tests.engine.mistakes import assert_refused

SIZES, KERNELS, STRIDES, DILATIONS, PADS = range(1, 9), range(1, 5), range(1, 5), range(1, 4), range(3)
CONV_BOX = list(product(SIZES, KERNELS, STRIDES, DILATIONS, PADS, PADS))
CONV_TEXT = f"sizes to 8, kernels and strides to 4, dilations to 3, paddings to 2 on each side: {len(CONV_BOX):,} cases"
POOL_BOX = list(product(SIZES, KERNELS, STRIDES, DILATIONS, PADS, (False, True)))
TRANSPOSE_BOX = list(product(SIZES, KERNELS, STRIDES, DILATIONS, PADS, PADS, range(3)))


def window_starts(size, kernel, stride, before, after, dilation):
    """Starts of the windows that lie inside the padded input, found by trying each sample."""
    inside = range(-before, size + after)
    return [start for start in inside[::stride] if start + dilation * (kernel - 1) in inside]


@pytest.mark.verifies("thm-output-size", "eq-output-size", box=CONV_TEXT, exact=True)
def test_conv_size_counts_the_windows_that_fit():
    for size, kernel, stride, dilation, before, after in CONV_BOX:
        count = len(window_starts(size, kernel, stride, before, after, dilation))
        arguments = {"stride": stride, "padding": (before, after), "dilation": dilation}
        if count:
            assert geometry.conv_size(size, kernel, **arguments) == count
        else:
            with pytest.raises(
                ValueError, match=r"(kernel_size must|dilation must let the kernel) fit the padded input"
            ):
                geometry.conv_size(size, kernel, **arguments)


@pytest.mark.verifies("thm-output-size", "eq-output-size", box="those with equal paddings", exact=True)
def test_conv_size_is_torchs():
    for size, kernel, stride, dilation, pad, after in CONV_BOX:
        if pad == after and window_starts(size, kernel, stride, pad, pad, dilation):
            y = torch.nn.functional.conv1d(
                torch.ones(1, 1, size), torch.ones(1, 1, kernel), None, stride, pad, dilation
            )
            assert geometry.conv_size(size, kernel, stride=stride, padding=(pad, pad), dilation=dilation) == y.shape[-1]


def test_transposed_size_is_torchs_and_undoes_conv_size():
    for size, kernel, stride, dilation, before, after, extra in TRANSPOSE_BOX:
        arguments = {"stride": stride, "padding": (before, after), "dilation": dilation}
        full = (size - 1) * stride + dilation * (kernel - 1) + 1 + extra
        if extra >= max(stride, dilation) or full <= before + after:
            with pytest.raises(ValueError, match=r"output_padding|padding"):
                geometry.conv_transpose_size(size, kernel, output_padding=extra, **arguments)
            continue
        result = geometry.conv_transpose_size(size, kernel, output_padding=extra, **arguments)
        if before == after:
            x, w = torch.ones(1, 1, size), torch.ones(1, 1, kernel)
            y = torch.nn.functional.conv_transpose1d(x, w, None, stride, before, extra, 1, dilation)
            assert result == y.shape[-1]
        if extra < stride:
            assert geometry.conv_size(result, kernel, **arguments) == size


def test_output_padding_names_every_size_that_strides_to_the_same():
    for kernel, stride, dilation, before in product(KERNELS, STRIDES, DILATIONS, PADS):
        arguments = {"stride": stride, "padding": (before, 0), "dilation": dilation}
        start = dilation * (kernel - 1) + 1
        for size in range(start + stride, start + stride + 12):
            outputs = geometry.conv_size(size, kernel, **arguments)
            preimages = {
                geometry.conv_transpose_size(outputs, kernel, output_padding=extra, **arguments)
                for extra in range(stride)
            }
            assert size in preimages
            assert len(preimages) == stride


def test_pool_size_is_torchs_also_in_ceil_mode():
    for size, kernel, stride, dilation, pad, ceil_mode in POOL_BOX:
        arguments = {"stride": stride, "padding": (pad, pad), "dilation": dilation, "ceil_mode": ceil_mode}
        if kernel // 2 < pad <= (dilation * (kernel - 1) + 1) // 2:
            continue  # more than PyTorch takes, which does not count the gaps: see the next test
        try:
            expected = torch.nn.functional.max_pool1d(
                torch.ones(1, 1, size), kernel, stride, pad, dilation, ceil_mode
            ).shape[-1]
        except RuntimeError:
            expected = 0
        if expected:
            assert geometry.pool_size(size, kernel, **arguments) == expected
        else:
            with pytest.raises(ValueError, match=r"kernel_size|padding"):
                geometry.pool_size(size, kernel, **arguments)


def test_ceil_mode_counts_windows_that_start_inside_and_still_see_something_new():
    for size, kernel, stride, dilation, pad, _ in POOL_BOX[::2]:
        covered = dilation * (kernel - 1) + 1
        if pad > covered // 2 or size + 2 * pad < covered:
            continue
        starts = range(-pad, size, stride)
        count = 1 + sum(start - stride + covered < size + pad for start in starts[1:])
        arguments = {"stride": stride, "padding": (pad, pad), "dilation": dilation}
        assert geometry.pool_size(size, kernel, ceil_mode=True, **arguments) == count
        inside = window_starts(size, kernel, stride, pad, pad, dilation)
        assert geometry.pool_size(size, kernel, **arguments) == len(inside)


def test_same_keeps_the_size_and_puts_the_odd_sample_after():
    for size, kernel, dilation in product(SIZES, KERNELS, DILATIONS):
        before, after = geometry.same_padding(kernel, dilation=dilation)
        assert geometry.conv_size(size, kernel, padding=(before, after), dilation=dilation) == size
        assert after - before in (0, 1)


def test_same_is_where_torch_puts_it():
    for size, kernel, dilation in product(SIZES, KERNELS, DILATIONS):
        x = torch.arange(1.0, size + 1).reshape(1, 1, size)
        w = torch.tensor([[[10.0**tap for tap in range(kernel)]]], dtype=torch.float64).to(x.dtype)
        padded = torch.nn.functional.pad(x, geometry.same_padding(kernel, dilation=dilation))
        by_torch = torch.nn.functional.conv1d(x, w, padding="same", dilation=dilation)
        assert torch.equal(torch.nn.functional.conv1d(padded, w, dilation=dilation), by_torch)


@pytest.mark.verifies(
    "thm-images-same", "eq-images-same", box="sizes to 8, kernels and strides to 4, dilations to 3", exact=True
)
def test_tensorflows_same_gives_one_output_per_stride_with_least_padding():
    for size, kernel, stride, dilation in product(SIZES, KERNELS, STRIDES, DILATIONS):
        before, after = geometry.same_padding(
            kernel, stride=stride, dilation=dilation, size=size, placement="tensorflow"
        )
        wanted = -(-size // stride)
        assert geometry.conv_size(size, kernel, stride=stride, padding=(before, after), dilation=dilation) == wanted
        assert after - before in (0, 1)
        if after:
            fewer = len(window_starts(size, kernel, stride, before, after - 1, dilation))
            assert fewer < wanted


def test_operands_lack_a_batch_together_or_not_at_all():
    assert geometry.lacks_batch({"x": (3, 8, 9), "dy": (4, 7, 8)}, 4)
    assert not geometry.lacks_batch({"x": (1, 3, 8, 9), "dy": (1, 4, 7, 8)}, 4)
    for shapes in ({"x": (1, 3, 8), "dy": (4, 6)}, {"x": (3, 8), "dy": (1, 4, 6)}):
        with pytest.raises(ValueError, match=r"^x and dy must all have a batch or none of them, got shapes \("):
            geometry.lacks_batch(shapes, 3)
    for wrong in ((8,), (1, 3, 8, 9)):
        with pytest.raises(ValueError, match=r"^dy must have 3 axes \(N, C, L\), or 2 without the batch, got shape \("):
            geometry.lacks_batch({"x": (3, 8), "dy": wrong}, 3)


def test_a_weight_or_an_argument_for_each_axis_tells_the_rank_of_a_batch():
    for axes in (1, 2, 3):
        assert geometry.told_rank("w", {"w": np.ones((2,) * (axes + 2))}, {}) == axes + 2
        for entries in ((1,) * axes, [1] * axes, np.ones(axes, int)):
            assert geometry.told_rank("stride", {}, {"stride": entries}) == axes + 2
    for entries in (2, (), (1,) * 4, None, "22"):
        assert geometry.told_rank("stride", {}, {"stride": entries}) == 0
    assert [geometry.told_rank("w", {"w": np.ones((1,) * rank)}, {}) for rank in (0, 2, 6)] == [0, 0, 0]


@pytest.mark.verifies(
    "thm-images-receptive",
    "eq-receptive-field",
    box="chains of three layers, taps and strides to 3, dilations to 2",
    exact=True,
)
def test_receptive_field_is_what_an_output_depends_on():
    """Follow the dependence of outputs 0 and 1 backwards through every chain of three layers."""
    layers = list(product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1)))
    chains = [(a, b, c) for a, b, c in product(layers, layers[::5], layers[::7])]
    for chain in chains:
        field = geometry.receptive_field(chain)
        seen = []
        for output in (0, 1):
            samples = {output}
            for kernel, stride, dilation, before in reversed(chain):
                samples = {o * stride - before + tap * dilation for o in samples for tap in range(kernel)}
            seen.append((min(samples), max(samples)))
        assert field.start == seen[0][0]
        assert field.size == seen[0][1] - seen[0][0] + 1
        assert field.stride == seen[1][0] - seen[0][0]


def test_sums_of_integers_are_taken_in_floats_that_hold_them():
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    for bound, expected in [(2**24 - 1, single), (2**24, double), (2**53 - 1, double), (2**53, np.dtype(np.int64))]:
        for a, b, terms in [([bound], [1, -1], 1), ([2, -bound], [0, 1], 1), ([-1, 0], [1], bound)]:
            a, b = np.array(a), np.array(b)
            assert geometry.sum_dtype(a.dtype, a, b, terms) == geometry.sum_dtype(a.dtype, b, a, terms) == expected
    least = np.array([-(2**63)])
    assert geometry.sum_dtype(least.dtype, least, np.array([1]), 1) == np.int64
    for kind, expected in [
        ("?", single),
        ("b", single),
        ("e", single),
        ("f", single),
        ("d", double),
        ("D", "D"),
        ("O", "O"),
    ]:
        ones = np.ones(3, kind)
        assert geometry.sum_dtype(ones.dtype, ones, ones, 9) == np.dtype(expected)
    assert geometry.sum_dtype(least.dtype, least[:0], least, 1) == np.int64


def test_paddings_in_every_form():
    window = {"kernel_size": (3, 4), "stride": (1, 1), "dilation": (1, 2)}
    assert geometry.paddings(2, **window) == ((2, 2), (2, 2))
    assert geometry.paddings((1, 2), **window) == ((1, 1), (2, 2))
    assert geometry.paddings(((0, 1), (2, 3)), **window) == ((0, 1), (2, 3))
    assert geometry.paddings([np.int64(1), (2, 3)], **window) == ((1, 1), (2, 3))
    assert geometry.paddings("valid", **window) == ((0, 0), (0, 0))
    assert geometry.paddings("same", **window) == ((1, 1), (3, 3))


WINDOW = {"kernel_size": (3, 3), "stride": (1, 1), "dilation": (1, 1)}
ERRORS = [
    (
        ValueError,
        "mode must be one of full, same, valid, got 'ful'",
        lambda: geometry.one_of("ful", "mode", geometry.MODES),
    ),
    (TypeError, "mode must be one of full, same, valid, got 1", lambda: geometry.one_of(1, "mode", geometry.MODES)),
    (TypeError, "stride must be an integer, got 1.5", lambda: geometry.integer(1.5, "stride", least=1)),
    (TypeError, "stride must be an integer, got True", lambda: geometry.integer(True, "stride", least=1)),
    (ValueError, "stride must be at least 1, got 0", lambda: geometry.integer(0, "stride", least=1)),
    (
        ValueError,
        "stride must be one integer or 2, one per axis, got (1, 2, 3)",
        lambda: geometry.per_axis((1, 2, 3), 2, "stride"),
    ),
    (ValueError, "dilation[1] must be at least 1, got 0", lambda: geometry.per_axis((1, 0), 2, "dilation")),
    (TypeError, "dilation must be an integer, got 'two'", lambda: geometry.per_axis("two", 2, "dilation")),
    (
        ValueError,
        "padding must be one of same, same_upper, same_lower, valid, got 'full'",
        lambda: geometry.paddings("full", **WINDOW),
    ),
    (ValueError, "padding must be at least 0, got -1", lambda: geometry.paddings(-1, **WINDOW)),
    (
        ValueError,
        "padding[1] must be one integer or a pair (before, after), got (1, 2, 3)",
        lambda: geometry.paddings((0, (1, 2, 3)), **WINDOW),
    ),
    (ValueError, "padding[0] after must be at least 0, got -2", lambda: geometry.paddings(((1, -2), 0), **WINDOW)),
    (
        ValueError,
        "padding must be one integer, 2 integers or 2 pairs (before, after), or one of same, same_upper, same_lower, "
        "valid, got (1, 1, 1)",
        lambda: geometry.paddings((1, 1, 1), **WINDOW),
    ),
    (
        ValueError,
        "padding 'same' needs stride 1, got stride 2; give 'same_upper', 'same_lower' or the padding per side",
        lambda: geometry.paddings("same", kernel_size=(3, 3), stride=(1, 2), dilation=(1, 1)),
    ),
    (
        ValueError,
        "placement must be one of torch, tensorflow, got 'jax'",
        lambda: geometry.same_padding(3, placement="jax"),
    ),
    (
        ValueError,
        "size must be given for placement 'tensorflow', got None",
        lambda: geometry.same_padding(3, placement="tensorflow"),
    ),
    (ValueError, "groups must be at least 1, got 0", lambda: geometry.check_channels(4, 4, 0)),
    (
        ValueError,
        "in_channels must be divisible by groups, got 4 channels in 3 groups",
        lambda: geometry.check_channels(4, 6, 3),
    ),
    (
        ValueError,
        "out_channels must be divisible by groups, got 4 channels in 3 groups",
        lambda: geometry.check_channels(6, 4, 3),
    ),
    (ValueError, "kernel_size must be at least 1, got 0", lambda: geometry.span(0)),
    (ValueError, "size must be at least 1, got 0", lambda: geometry.conv_size(0, 1)),
    (
        ValueError,
        "dilation must let the kernel fit the padded input of 4 samples, got 2, with which a kernel_size of 3 covers 5",
        lambda: geometry.conv_size(2, 3, dilation=2, padding=(1, 1)),
    ),
    (
        ValueError,
        "output_padding must be less than stride or dilation, got 2 with stride 2 and dilation 1",
        lambda: geometry.conv_transpose_size(3, 3, stride=2, output_padding=2),
    ),
    (
        ValueError,
        "padding must leave an output, got (1, 1) of 2 samples",
        lambda: geometry.conv_transpose_size(1, 2, padding=(1, 1)),
    ),
    (
        ValueError,
        "padding must be at most half of kernel_size 3, got (2, 0)",
        lambda: geometry.pool_size(8, 3, padding=(2, 0)),
    ),
    (
        ValueError,
        "padding must be at most half of kernel_size 3 with dilation 2, got (2, 3)",
        lambda: geometry.pool_size(8, 3, padding=(2, 3), dilation=2),
    ),
    (
        ValueError,
        "kernel_size must fit the padded input of 2 samples, got a kernel that covers 5",
        lambda: geometry.pool_size(2, 5, stride=1, ceil_mode=True),
    ),
]


@pytest.mark.parametrize(("kind", "message", "call"), ERRORS, ids=[row[1][:40] for row in ERRORS])
def test_each_error_names_the_argument_what_it_got_and_what_fits(kind, message, call):
    assert_refused(kind, message, call)


def test_a_pickled_layer_leaves_its_hash_behind():
    """Another process hashes strings otherwise, and so layers."""
    layer, fresh = (geometry.conv_geometry((1, 2, 9), (4, 2, 3), axes=1, padding=1) for _ in range(2))
    hash(layer)
    again = pickle.loads(pickle.dumps(layer))
    assert vars(layer) != vars(again) == vars(fresh)
    assert again == layer
