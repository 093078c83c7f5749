"""No kernel reads or writes an element outside its tensors, in the interpreter; an access too far by one is caught."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import konvlib
from konvlib import runtime
from konvlib.runtime import tl
from tests.engine import small_cases
from tests.engine.backends import DEVICE
from tests.kernels.guards import guarded
from tests.kernels.operators import integers, running
from tests.kernels.test_mutants import install, mutate

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="kernels run on a device, where compute-sanitizer watches")

if runtime.triton is not None:
    from triton.runtime.errors import InterpreterError

EMULATED = {
    *("konv_halo_kernel", "konv_beside_kernel", "konv_columns_kernel"),
    *("konv_balanced_kernel", "add_shares_kernel"),
    *("conv_boxes_kernel", "conv_input_grad_boxes_kernel", "weight_grad_boxes_kernel"),
}
"""Kernels in Gluon: the tests that run them in NumPy hold each index to its tensor."""


@runtime.jit()
def shift_kernel(y_ptr, x_ptr, size, step, to, BLOCK: tl.constexpr):
    """y[to + i] = x[step i]"""
    offs = tl.arange(0, BLOCK)
    tl.store(y_ptr + to + offs, tl.load(x_ptr + step * offs, mask=offs < size), mask=offs < size)


def shift(size: int, step: int, to: int) -> torch.Tensor:
    """Seven samples, two apart, and eight places."""
    x, y = torch.arange(14.0)[::2], torch.zeros(8)
    with guarded():
        shift_kernel[(1,)](y, x, size, step, to, BLOCK=16)
    return y


def test_what_stays_inside_is_done():
    assert shift(7, 2, 1).tolist() == [0, 0, 2, 4, 6, 8, 10, 12]
    assert shift(7, 2, 0).tolist() == [0, 2, 4, 6, 8, 10, 12, 0]


def test_what_is_written_stays_where_tensors_share_their_memory():
    y = torch.tensor([3.0, 5, 0, 0])
    with guarded():
        shift_kernel[(1,)](y, y.view(2, 2), 2, 1, 2, BLOCK=16)
    assert y.tolist() == [3, 5, 3, 5]


@pytest.mark.parametrize(
    ("size", "step", "to", "error"),
    [
        (8, 2, 0, "reads 1 of"),  # one sample too many
        (3, 1, 0, "reads 1 of"),  # what lies between samples
        (2, -2, 0, "reads 1 of"),  # the one before
        (7, 2, 2, "writes 1 of"),
        (7, 2, -1, "writes 1 of"),
    ],
)
def test_an_access_too_far_by_one_is_caught(size, step, to, error):
    with pytest.raises(InterpreterError, match=f"shift_kernel {error}"):
        shift(size, step, to)


CALLS = {
    "max": lambda x: konvlib.max_pool2d(x, 3, stride=1, padding=1),
    "mean": lambda x: konvlib.avg_pool2d(x, 3, stride=1, padding=1),
    "columns": lambda x: konvlib.im2col(x, 2),
    "layers": lambda x: konvlib.conv2d(x.tile(1, 6, 1, 1), torch.ones(17, 18, 2, 2, dtype=x.dtype)),
}
PLANTED = [
    ("max", "images/pooling", "max_pool_kernel", "(j_w < in_w)", "(j_w <= in_w)", "reads"),
    ("mean", "images/pooling", "avg_pool_kernel", "(j_h >= 0)", "(j_h >= -1)", "reads"),
    ("max", "images/pooling", "max_pool_kernel", "offs_n * stride_yp", "(offs_n + 1) * stride_yp", "writes"),
    ("columns", "matrices/columns", "im2col_kernel", "pixels + offs_n", "pixels + offs_n - 1", "writes"),
    ("layers", "layers/forward", "conv_forward_kernel", "offs_m < pixels", "offs_m <= pixels", "reads"),
]
"""Mistakes in kernels: a call of them, file, function, right, wrong, what is caught."""


@pytest.mark.parametrize("row", PLANTED, ids=lambda row: f"{row[2]}: {row[4]}")
def test_a_mistake_in_a_kernel_is_caught(row, tmp_path):
    call, file, function, old, new, error = row
    mutant = mutate(file, function, old, new, tmp_path)
    with pytest.MonkeyPatch.context() as patch, running("kernel") as device:
        install(patch, "", file, mutant)
        with pytest.raises(InterpreterError, match=f"{function} {error}"):
            CALLS[call](integers((2, 3, 5, 7), device))


def test_every_kernel_stays_inside_its_tensors():
    launched = set()
    for case in small_cases.CASES.values():
        with running("kernel") as device, guarded() as names:
            case(device, torch.float16)
        launched |= names
    assert launched == kernels() - EMULATED


def kernels() -> set[str]:
    """The names of konvlib's kernels."""
    files = Path(konvlib.__file__).parent.glob("**/*.py")
    return {
        name for file in files for name in re.findall(r"jit(?:\(.*\))?\ndef (\w+_kernel)\(", file.read_text("utf-8"))
    }
