"""The ways in which the arrays backend convolves, each by itself and against the usual mistakes in it.

A test whose only argument is ``windows`` or ``spectra`` runs against each mutant of that module (`PARTS` in
tests/mutants/images.py). Operands are integers in doubles: products and sums are exact, spectra err by rounding.
"""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pytest
import torch

from konvlib import geometry
from konvlib.images import arrays
from konvlib.images import spectra as the_spectra
from konvlib.images import windows as the_windows
from tests.engine import boxes
from tests.engine.mutants.images import PARTS
from tests.engine.test_images import SHAPES
from tests.engine.test_mutants import killers, mutate, passes

windows = pytest.fixture(lambda: the_windows)
spectra = pytest.fixture(lambda: the_spectra)


@cache
def cases():
    """Layers of one to three axes: the input, the padded input, the weight, the geometry, PyTorch's output."""
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
    return x, padded, w, layer, y.numpy()


def test_windows_of_any_height_in_blocks_of_any_size(windows):
    for number, (_, padded, w, layer, expected) in enumerate(cases()):
        block, serial = (1, 300, windows.BLOCK)[number % 3], (windows.NARROW, windows.SERIAL)[number % 2]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"BLOCK": block, "FEWEST": 1 + number % 5, "SERIAL": serial}.items():
                patch.setattr(windows, name, value)
            for height in range(1, min(4, layer.output_size[0]) + 1):
                assert (windows.by_windows(padded, w, layer, height) == expected).all()


def test_spectra_of_tiles_of_any_size(spectra):
    for number, (_, padded, w, layer, expected) in enumerate(cases()):
        with pytest.MonkeyPatch.context() as patch:
            if number % 3:
                patch.setattr(spectra, "LEAST_TILE", dict.fromkeys((1, 2, 3), 1 << number % 5))
                patch.setattr(spectra, "TILES", number % 3)
            y = spectra.by_spectra(padded, w, layer)
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() < 1e-10


def test_complex_spectra(spectra):
    x, w = (boxes.integers(*shape) + 1j * boxes.integers(*shape, seed=1) for shape in [(2, 4, 7, 6), (6, 2, 3, 2)])
    layer = geometry.conv_geometry(x.shape, w.shape, axes=2, groups=2, stride=(1, 2))
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), None, (1, 2), 0, 1, 2).numpy()
    assert np.abs(spectra.by_spectra(x, w, layer) - expected).max() < 1e-11


def test_taps_one_by_one():
    for x, _, w, layer, expected in cases():
        assert (arrays.by_taps(x, w, layer) == expected).all()


@pytest.mark.parametrize("row", PARTS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_the_mistake_is_caught(row, tmp_path):
    file, mistake, old, new = row
    assert not survives(file, mutate("images", file, old, new, tmp_path)), f"no test catches: {mistake}"


@pytest.mark.parametrize("file", ["windows", "spectra"])
def test_the_unchanged_module_survives(file, tmp_path):
    same = "from __future__ import annotations"
    assert survives(file, mutate("images", file, same, same, tmp_path))


def survives(file, mutant):
    tests = killers(sys.modules[__name__], file)
    assert tests
    return all(passes(lambda test=test: test(mutant)) for test in tests)
