"""The ways in which the arrays backend convolves, each by itself and against the usual mistakes in it.

A test whose only argument is ``windows``, ``spectra``, ``taps`` or ``sums`` runs against each mutant of that module
(tests/engine/mutants/images/ways.py). Operands are integers in doubles: products and sums are exact, spectra err by
rounding.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from konvlib import geometry
from konvlib.images import spectra as the_spectra
from konvlib.images import sums as the_sums
from konvlib.images import taps as the_taps
from konvlib.images import windows as the_windows
from tests.engine import backends, boxes
from tests.engine.mutants.images.ways import MUTANTS
from tests.engine.test_images import SHAPES
from tests.engine.test_mutants import killers, mutate, passes

windows = pytest.fixture(lambda: the_windows)
spectra = pytest.fixture(lambda: the_spectra)
sums = pytest.fixture(lambda: the_sums)
taps = pytest.fixture(lambda: the_taps)


@cache
def cases():
    """Layers of one to three axes: the input, the weight, the geometry, PyTorch's output."""
    rows = [((axis,), channels) for axis, channels in boxes.covering_of_one_axis()]
    rows += [(row, boxes.CHANNELS[sum(map(sum, row)) % 5]) for axes in (2, 3) for row in boxes.covering(axes)]
    shapes = list(SHAPES)
    for row, (groups, inputs, outputs) in rows:
        x_shape, w_shape = (2, inputs), (outputs, inputs // groups)
        x_shape, w_shape = (*x_shape, *(axis.size for axis in row)), (*w_shape, *(axis.kernel for axis in row))
        shapes.append((x_shape, w_shape, boxes.options(*row) | {"groups": groups}))
    return [case(*shape) for shape in shapes]


def case(x_shape, w_shape, options):
    x, w = boxes.integers(*x_shape).astype(np.float64), boxes.integers(*w_shape, seed=1).astype(np.float64)
    layer = geometry.conv_geometry(x_shape, w_shape, axes=len(x_shape) - 2, **options)
    padded = np.pad(x, ((0, 0), (0, 0), *layer.padding))
    convolve = getattr(torch.nn.functional, f"conv{layer.axes}d")
    y = convolve(boxes.tensor(padded), boxes.tensor(w), None, layer.stride, 0, layer.dilation, layer.groups)
    return x, w, layer, y.numpy()


def test_windows_of_any_height_in_blocks_of_any_size(windows):
    for number, (x, w, layer, expected) in enumerate(cases()):
        block, serial = (1, 300, windows.BLOCK)[number % 3], (windows.NARROW, windows.SERIAL)[number % 2]
        sizes = {
            "BLOCK": block,
            "FEWEST": 1 + number % 5,
            "SERIAL": serial,
            "BAND": (1, 3000, windows.BAND)[number % 3],
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in sizes.items():
                patch.setattr(windows, name, value)
            for height in range(1, min(4, layer.output_size[0]) + 1):
                assert (windows.by_windows(x, w, layer, height) == expected).all()
                wrapped = windows.by_windows(x, w, layer, height, np.empty(expected.shape, np.int8))
                assert (wrapped == expected.astype(np.int64).astype(np.int8)).all()


def test_windows_far_apart_copy_no_samples_between_them(windows):
    x, w = boxes.integers(1, 1, 40_000), boxes.integers(1, 1, 4, seed=1).astype(np.float64)
    layer = geometry.conv_geometry(x.shape, w.shape, axes=1, stride=4_000, dilation=1_700)
    split = windows._by_phase(x[np.newaxis], 4_000, windows._phases(4, 4_000, 1_700))
    assert split.shape[-2:] == (4, 10)
    expected = [x[0, 0, start : start + 5_101 : 1_700] @ w[0, 0] for start in range(0, 34_900, 4_000)]
    assert windows.by_windows(x, w, layer, 1)[0, 0].tolist() == expected


def test_spectra_of_tiles_of_any_size(spectra):
    for number, (x, w, layer, expected) in enumerate(cases()):
        with pytest.MonkeyPatch.context() as patch:
            if number % 3:
                patch.setattr(spectra, "LEAST_TILE", dict.fromkeys((1, 2, 3), 1 << number % 5))
                patch.setattr(spectra, "TILES", number % 3)
                patch.setattr(spectra, "LARGEST_SPECTRUM", (1, 50, 500, 5_000)[number % 4])
            y = spectra.by_spectra(x, w, layer)
            rounded = spectra.by_spectra(x, w, layer, np.empty(expected.shape, np.int8))
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() < 1e-10
        assert (rounded == expected.astype(np.int64).astype(np.int8)).all()


def test_one_transform_wraps_padding_only(spectra):
    """With as much padding as a kernel has taps, more, and more on one side."""
    for before, after in [(4, 4), (0, 4), (4, 0), (3, 1), (9, 7), (1, 12)]:
        x, w = boxes.integers(1, 1, 6).astype(np.float64), boxes.integers(1, 1, 5, seed=1).astype(np.float64)
        layer = geometry.conv_geometry(x.shape, w.shape, axes=1, padding=[(before, after)])
        expected = np.correlate(np.pad(x[0, 0], (before, after)), w[0, 0])
        assert np.abs(spectra.by_spectra(x, w, layer)[0, 0] - expected).max() < 1e-12
    layer = geometry.conv_geometry((1, 1, 2900), (1, 1, 2900), axes=1, padding=2899)
    assert spectra._tiles(layer)[0][1] < 6000


def test_integers_are_transformed_where_that_is_exact(spectra):
    """The bound holds with the norms of images and of output channels, and fails for what could round wrongly."""
    x, w = boxes.integers(2, 3, 40, 30) * 1000, boxes.integers(4, 3, 20, 20, seed=1) * 1000
    layer = geometry.conv_geometry(x.shape, w.shape, axes=2)
    assert spectra.is_exact(x, w, layer)
    assert not spectra.is_exact(x * 1000, w * 1000, layer)
    assert not spectra.is_exact(np.concatenate((0 * x, x * 10**6)), w * 10, replace(layer, batch=4))
    assert not spectra.is_exact(x * 10, np.concatenate((0 * w, w * 10**6)), replace(layer, out_channels=8))


def test_complex_spectra(spectra):
    x, w = (boxes.integers(*shape) + 1j * boxes.integers(*shape, seed=1) for shape in [(2, 4, 7, 6), (6, 2, 3, 2)])
    layer = geometry.conv_geometry(x.shape, w.shape, axes=2, groups=2, stride=(1, 2))
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), None, (1, 2), 0, 1, 2).numpy()
    assert np.abs(spectra.by_spectra(x, w, layer) - expected).max() < 1e-11


def test_taps_one_by_one(taps):
    for x, w, layer, expected in cases():
        assert (taps.by_taps(x, w, layer) == expected).all()


def test_samples_one_by_one_where_they_are_fewer_than_taps(taps):
    for size, kernel, stride, (before, after) in [
        (1, 3, 1, (2, 2)),
        (2, 5, 1, (3, 4)),
        (2, 5, 2, (4, 1)),
        (3, 4, 3, (0, 7)),
        (1, 4, 2, (5, 6)),
    ]:
        x, w = boxes.integers(2, 4, size, 6), boxes.integers(6, 2, kernel, 3, seed=1)
        options = {"stride": (stride, 2), "padding": ((before, after), (1, 0)), "groups": 2}
        layer = geometry.conv_geometry(x.shape, w.shape, axes=2, **options)
        padded = torch.nn.functional.pad(boxes.tensor(x), (1, 0, before, after))
        expected = torch.nn.functional.conv2d(padded, boxes.tensor(w), stride=(stride, 2), groups=2).numpy()
        assert (taps.by_taps(x, w, layer) == expected).all()


def test_what_is_not_finite_is_where_the_definition_has_it(sums):
    """Whichever way the sums take: NaN and both infinities in samples and weights, met by zeros, signs and padding."""
    definition, rng = backends.definition("images"), np.random.default_rng(3)
    for number in range(60):
        x, w = rng.integers(-2, 3, (2, 4, 7, 6)).astype(float), rng.integers(-2, 3, (6, 2, 3, 2)).astype(float)
        if number % 4 == 3:
            x, w = x + 1j * rng.integers(-2, 3, x.shape), w + 1j * rng.integers(-2, 3, w.shape)
        for operand, bad in [(x, number % 3 > 0), (w, number % 3 != 1)]:
            for value in rng.choice([np.nan, np.inf, -np.inf, np.inf], 3 * bad):
                operand.reshape(-1)[rng.integers(operand.size)] = value
        options = {"groups": 2, "padding": (1, 2), "stride": (1, 1 + number % 2)}
        layer = geometry.conv_geometry(x.shape, w.shape, axes=2, **options)
        way = ("spectra", "windows", "taps")[number % 5 % 3]
        with np.errstate(invalid="ignore"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sums, "_quickest", lambda *_, way=way: (way, 2))
            expected, y = definition.conv2d(x, w, **options), sums.in_floats(x, w, layer, x.dtype)
        assert np.array_equal(np.isfinite(y), np.isfinite(expected))
        for part, right in [(y.real, expected.real), (y.imag, expected.imag)]:
            finite = np.isfinite(right)
            assert np.array_equal(part[~finite], right[~finite], equal_nan=True)
            assert np.abs(part[finite] - right[finite]).max(initial=0) < 1e-12


def test_sums_that_are_infinite_on_the_way_only(sums):
    for dtype in (np.float32, np.float64, np.complex64, np.complex128):
        large = np.finfo(dtype).max / 4
        x, w = np.full((1, 1, 60), large, dtype), np.array([[[1, -1, 1, 0.5]]], dtype)
        layer = geometry.conv_geometry(x.shape, w.shape, axes=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sums, "_quickest", lambda *_: ("spectra", 1))
            assert np.abs(sums.in_floats(x, w, layer, x.dtype).real / large - 1.5).max() < 1e-5
            y = sums.in_floats(x, 4 * w, layer, x.dtype)
            assert np.isinf(y.real).all()
            assert np.isfinite(y.imag).all()
            y = sums.in_floats(x / large, w * large, layer, x.dtype)
            assert np.abs(y.real / large - 1.5).max() < 1e-5


def test_integers_are_exact_whatever_their_size(sums):
    """Through single precision, through double, by spectra, and where no float holds them."""
    rng = np.random.default_rng(5)
    for size, kernel, largest in [(40, 3, 100), (40, 3, 10**6), (3000, 900, 1000), (3000, 900, 10**7), (9, 4, 2**40)]:
        x, w = rng.integers(-largest, largest, (1, 1, size)), rng.integers(-largest, largest, (1, 1, kernel))
        layer = geometry.conv_geometry(x.shape, w.shape, axes=1)
        expected = np.correlate(x[0, 0], w[0, 0])
        for dtype in (np.dtype(np.int64), np.dtype(np.uint16)):
            y = sums.in_integers(x, w, layer, dtype)
            assert y.dtype == dtype
            assert (y[0, 0] == expected.astype(dtype)).all()


@pytest.mark.parametrize("row", MUTANTS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_the_mistake_is_caught(row, tmp_path):
    file, mistake, old, new = row
    assert not survives(file, mutate("images", file, old, new, tmp_path)), f"no test catches: {mistake}"


@pytest.mark.parametrize("file", ["windows", "spectra", "taps", "sums"])
def test_the_unchanged_module_survives(file, tmp_path):
    same = "from __future__ import annotations"
    assert survives(file, mutate("images", file, same, same, tmp_path))


def survives(file, mutant):
    tests = killers(sys.modules[__name__], file)
    assert tests
    return all(passes(lambda test=test: test(mutant)) for test in tests)
