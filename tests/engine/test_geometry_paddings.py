"""Paddings by name, paddings wider than an image, and the sizes that a transpose can have, in boxes.

Oracles: padding found by trying, NumPy's padding of indices, and PyTorch's transposed layers.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from konvlib import geometry
from tests.engine.mistakes import assert_refused
from tests.engine.oracles.paddings import BOX, BOX_TEXT, SIDES, pair_of

NUMPY_MODES = {"reflect": "reflect", "circular": "wrap"}
WIDE = list(product(range(1, 6), range(14), range(14)))


@pytest.mark.verifies("thm-images-same", "eq-images-same", box=BOX_TEXT, exact=True)
def test_same_upper_and_lower_are_the_least_padding_with_one_output_per_stride():
    for (size, kernel, stride, dilation), side in product(BOX, SIDES):
        window = {"kernel_size": (kernel,), "stride": (stride,), "dilation": (dilation,)}
        (pair,) = geometry.paddings(f"same_{side}", size=(size,), **window)
        assert pair == pair_of(side, size, kernel, stride, dilation)


def test_each_axis_has_its_own_padding():
    window = {"kernel_size": (4, 3, 2), "stride": (2, 1, 3), "dilation": (1, 2, 1)}
    assert geometry.paddings("same_upper", size=(7, 5, 3), **window) == ((1, 2), (2, 2), (0, 0))
    assert geometry.paddings("same_lower", size=(7, 5, 3), **window) == ((2, 1), (2, 2), (0, 0))


def test_they_are_told_the_size():
    for side in SIDES:
        with pytest.raises(ValueError, match=f"^padding 'same_{side}' needs the image's size, got None"):
            geometry.paddings(f"same_{side}", kernel_size=(3,), stride=(1,), dilation=(1,))


def test_each_size_fits_same():
    for side in SIDES:
        window = {"stride": (2, 3), "padding": f"same_{side}", "dilation": (2, 1)}
        assert geometry.least_size((4, 5), **window) == (1, 1)
    window = {"stride": (2, 3), "padding": ((0, 1), 2), "dilation": (2, 1)}
    assert geometry.least_size((4, 5), **window) == (6, 1)


def test_poolings_have_one_window_per_stride_or_are_refused_if_one_shows_nothing():
    for (size, kernel, stride, dilation), side, ceil in product(BOX, SIDES, (False, True)):
        before, after = pair_of(side, size, kernel, stride, dilation)
        starts = [number * stride - before for number in range(-(-size // stride))]
        shown = [range(start, start + dilation * kernel, dilation) for start in starts]
        options = {"axes": 1, "stride": stride, "padding": f"same_{side}", "dilation": dilation, "ceil_mode": ceil}
        if not all(any(0 <= place < size for place in window) for window in shown):
            with pytest.raises(ValueError, match="padding must let each window meet the input"):
                geometry.pool_geometry((1, 1, size), kernel, **options)
            continue
        pool = geometry.pool_geometry((1, 1, size), kernel, **options)
        assert pool.padding == ((before, after),)
        assert pool.output_size == (len(starts),)
        assert pool.is_even == (before == after <= kernel // 2)  # what PyTorch's poolings take


def test_wide_padding_shows_what_numpys_does():
    for (size, before, after), (mode, theirs) in product(WIDE, NUMPY_MODES.items()):
        places = [geometry.source_index(i, size, mode) for i in range(-before, size + after)]
        assert places == np.pad(np.arange(size), (before, after), theirs).tolist()


def test_steps_of_wide_padding_are_the_whole_and_reach_no_further_than_the_samples():
    for (size, before, after), mode in product(WIDE, ("zeros", "replicate", *NUMPY_MODES)):
        shown, steps = list(range(size)), geometry.padding_steps(size, (before, after), mode)
        for first, last, kind in steps:
            most = {"reflect": len(shown) - 1, "circular": len(shown)}.get(kind, 99)
            assert max(first, last) <= most
            reads = range(-first, len(shown) + last)
            places = [geometry.source_index(i, len(shown), kind) for i in reads]
            shown = [None if place is None else shown[place] for place in places]
        assert shown == [geometry.source_index(i, size, mode) for i in range(-before, size + after)]
        assert len(steps) <= 5


TRANSPOSES = list(product(range(1, 5), range(1, 5), range(1, 5), range(1, 4), range(3)))


def test_output_sizes_are_those_of_torch():
    """Every size from 1 to beyond the possible ones: the same are refused, the others have the same padding."""
    for size, kernel, stride, dilation, pad in TRANSPOSES:
        layer = torch.nn.ConvTranspose1d(1, 1, kernel, stride, pad, dilation=dilation)
        x, options = torch.ones(1, 1, size), {"stride": stride, "padding": (pad, pad), "dilation": dilation}
        for wanted in range(1, (size - 1) * stride + dilation * (kernel - 1) + stride + 3):
            try:
                (extra,) = layer._output_padding(x, [wanted], [stride], [pad], [kernel], 1, [dilation])
            except ValueError:
                with pytest.raises(ValueError, match=r"output_size must be|padding must leave"):
                    geometry.chosen_output_padding(size, kernel, wanted, **options)
                continue
            assert geometry.chosen_output_padding(size, kernel, wanted, **options) == extra


def test_an_output_size_is_chosen_by_the_output_padding_that_gives_it():
    for size, kernel, stride, dilation, before, after in product(*[range(1, 4)] * 4, range(3), range(3)):
        options = {"stride": stride, "padding": (before, after), "dilation": dilation}
        for extra in range(stride):
            if (size - 1) * stride + dilation * (kernel - 1) + 1 + extra > before + after:
                wanted = geometry.conv_transpose_size(size, kernel, output_padding=extra, **options)
                assert geometry.chosen_output_padding(size, kernel, wanted, **options) == extra


def test_of_same_a_transpose_makes_the_sizes_that_stride_to_its_own():
    """By default the largest, ``size * stride``; all others on request, and none else."""
    for (size, kernel, stride, dilation), side in product(BOX, SIDES):
        options = {"axes": 1, "stride": stride, "padding": f"same_{side}", "dilation": dilation}
        shapes = (1, 1, size), (1, 1, kernel)
        layer = geometry.conv_transpose_geometry(*shapes, **options)
        assert layer.input_size == (size * stride,)
        for wanted in range(1, (size + 1) * stride + 2):
            if -(-wanted // stride) != size:
                with pytest.raises(
                    ValueError, match=f"^output_size must be {(size - 1) * stride + 1} to {size * stride}"
                ):
                    geometry.conv_transpose_geometry(*shapes, output_size=wanted, **options)
                continue
            layer = geometry.conv_transpose_geometry(*shapes, output_size=wanted, **options)
            assert (layer.input_size, layer.output_size) == ((wanted,), (size,))
            assert layer.padding == (pair_of(side, wanted, kernel, stride, dilation),)


def test_the_sizes_of_which_same_makes_a_size_are_counted_out():
    for size, stride in product(range(1, 6), range(1, 5)):
        fitting = [n for n in range(1, 40) if len(range(0, n, stride)) == size]
        assert geometry.outputs_of_same((size, 1), (stride, 1), None) == (max(fitting), 1)
        for wanted in range(1, 40):
            if wanted in fitting:
                assert geometry.outputs_of_same((size, 1), (stride, 1), (wanted, 1)) == (wanted, 1)
            else:
                with pytest.raises(ValueError, match=f"^output_size must be {min(fitting)} to {max(fitting)}, got"):
                    geometry.outputs_of_same((size, 1), (stride, 1), (wanted, 1))


def test_of_same_an_unpooling_makes_the_sizes_that_stride_to_its_own():
    for size, stride, kernel, side in product(range(1, 5), range(1, 5), range(1, 5), SIDES):
        options = {"axes": 1, "indices_shape": (2, 3, size), "stride": stride, "padding": f"same_{side}"}
        pool = geometry.max_unpool_geometry((2, 3, size), kernel, **options)
        assert pool.input_size == (size * stride,)
        for wanted in range((size - 1) * stride + 1, size * stride + 1):
            for given in (wanted, (3, wanted), (2, 3, wanted)):
                pool = geometry.max_unpool_geometry((2, 3, size), kernel, output_size=given, **options)
                assert (pool.input_size, pool.output_size) == ((wanted,), (size,))
                assert pool.padding == (pair_of(side, wanted, kernel, stride, 1),)
        for wanted in ((size - 1) * stride, size * stride + 1):
            with pytest.raises(ValueError, match=r"^output_size"):
                geometry.max_unpool_geometry((2, 3, size), kernel, output_size=wanted, **options)


def test_what_stands_before_the_size_of_an_unpooling_is_the_batch_and_the_channels():
    for given in product(range(4), range(1, 4)):
        for lead in (given, given[1:]):
            options = {"axes": 1, "indices_shape": (2, 3, 4), "output_size": (*lead, 9)}
            if lead in ((2, 3), (3,)):
                assert geometry.max_unpool_geometry((2, 3, 4), 2, **options).input_shape == (2, 3, 9)
                continue
            with pytest.raises(ValueError, match=r"^output_size must begin with the (batch and )?channels of x \["):
                geometry.max_unpool_geometry((2, 3, 4), 2, **options)


def test_output_size_and_output_padding_name_the_same_layer():
    shapes = (2, 4, 3, 5), (4, 3, 2, 4)
    options = {"axes": 2, "stride": (3, 2), "padding": ((0, 1), 1), "dilation": (2, 1)}
    for extra in product(range(3), range(2)):
        layer = geometry.conv_transpose_geometry(*shapes, output_padding=extra, **options)
        assert layer == geometry.conv_transpose_geometry(*shapes, output_size=layer.input_size, **options)


def transposed(**options):
    return lambda: geometry.conv_transpose_geometry((1, 4, 3, 5), (4, 2, 3, 3), axes=2, stride=2, **options)


ERRORS = [
    (ValueError, "output_size must be 7 to 8, got 9", transposed(output_size=(9, 11))),
    (ValueError, "output_size must be 11 to 12, got 10", transposed(output_size=(8, 10))),
    (ValueError, "output_size must be 5 to 6, got 7", transposed(output_size=(7, 9), padding="same_upper")),
    (ValueError, "output_size must be 1 to 2, got 3", transposed(output_size=(3, 12), padding=((2, 4), 0))),
    (
        ValueError,
        "padding must leave an output, got one that leaves at most 0",
        transposed(output_size=(1, 1), padding=(4, 0)),
    ),
    (
        ValueError,
        "output_padding must be 0 where output_size (8, 12) is given, got (1, 0)",
        transposed(output_size=(8, 12), output_padding=(1, 0)),
    ),
    (
        ValueError,
        "output_padding must be 0 where padding 'same_lower' is given, got (1, 1)",
        transposed(padding="same_lower", output_padding=1),
    ),
    (ValueError, "output_size must be one integer or 2, one per axis, got (8,)", transposed(output_size=(8,))),
    (ValueError, "output_size[1] must be at least 1, got 0", transposed(output_size=(8, 0))),
    (TypeError, "output_size must be an integer, got 8.0", transposed(output_size=8.0)),
    (TypeError, "output_size must be an integer, got True", transposed(output_size=True)),
]


@pytest.mark.parametrize(("kind", "message", "call"), ERRORS, ids=[row[1] for row in ERRORS])
def test_each_error_names_the_argument_what_it_got_and_what_fits(kind, message, call):
    assert_refused(kind, message, call)
