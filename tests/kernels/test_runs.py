"""The layer of few channels by runs: its kernel in the interpreter or on a device, exactly; what it serves; mutants."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry, conv_geometry
from konvlib.layers import aten, autotune, forward, forward_runs, memory
from konvlib.layers.autotune import BoxTile
from tests.engine.backends import DEVICE
from tests.kernels.guards import guarded
from tests.kernels.operators import integers, running
from tests.kernels.test_layers import last
from tests.kernels.test_mutants import mutate

pytestmark = pytest.mark.skipif(runtime.triton is None, reason="Triton is missing")

SMALL = BoxTile(32, 16, 0, 4, 2, 1, 1, 1, 32)
CASES = {
    "stem": conv_geometry((2, 3, 10, 13), (20, 3, 7, 7), axes=2, stride=2, padding=3),
    "sides": conv_geometry((2, 3, 6, 5), (5, 3, 2, 3), axes=2, stride=(3, 1), padding=((2, 0), (1, 4))),
    "rows apart": conv_geometry((1, 2, 9, 8), (18, 2, 3, 4), axes=2, stride=(1, 3), dilation=(2, 1)),
    "one axis": conv_geometry((3, 1, 40), (17, 1, 5), axes=1, stride=2, padding=((3, 1),)),
    "not all read": conv_geometry((2, 3, 8, 12), (4, 3, 2, 3), axes=2, stride=(3, 4), padding=((1, 0), (2, 0))),
    "padding only": conv_geometry((1, 4, 2, 3), (3, 4, 2, 2), axes=2, stride=9, padding=((9, 0), (0, 9))),
}


def random_layers(seed: int, count: int) -> list[ConvGeometry]:
    """The box: 1 to 3 images, 1 to 4 channels, 1 or 2 axes, kernels to 5, strides and paddings to 3, rows dilated."""
    draw, found = random.Random(seed), []
    while len(found) < count:
        axes = draw.choice((1, 2, 2))
        kernel, stride = ([draw.randint(1, most) for _ in range(axes)] for most in (5, 3))
        shape = draw.randint(1, 3), draw.randint(1, 4), *(draw.randint(1, 9) for _ in range(axes))
        padding = [(draw.randint(0, 3), draw.randint(0, 3)) for _ in range(axes)]
        dilation = [draw.randint(1, 2), 1][-axes:]
        options = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation)}
        try:
            found.append(conv_geometry(shape, (draw.randint(1, 20), shape[1], *kernel), axes=axes, **options))
        except ValueError:  # larger than the padded input
            continue
    return found


def results(
    layer: ConvGeometry, *, bias: bool, channels_last: bool = True, form: Any = forward_runs
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the kernel writes, which begins as NaN, and what is right, in double precision."""
    with running("kernel") as device, guarded():
        x, w = integers(layer.input_shape, device).half(), integers(layer.weight_shape, device, seed=2).half()
        b = integers((layer.out_channels,), device, seed=3).half() if bias else None
        x = last(x) if channels_last else x
        y = memory.empty(x, layer.output_shape).fill_(float("nan"))
        form.write_conv(y, x, memory.packed_weight(w), b, layer, SMALL)
        right = aten.conv(x.double(), w.double(), None if b is None else b.double(), layer)
    return y.double(), right


@pytest.mark.parametrize("channels_last", [True, False], ids=["last", "first"])
@pytest.mark.parametrize("name", CASES)
def test_sums_are_exact(name, channels_last):
    found, right = results(CASES[name], bias=name != "sides", channels_last=channels_last)
    assert torch.equal(found, right)


@pytest.mark.parametrize("number", range(30))
def test_sums_are_exact_in_a_random_box(number):
    layer = random_layers(seed=5, count=30)[number]
    assert forward_runs.could_serve(torch.float16, layer)
    found, right = results(layer, bias=number % 2 == 0, channels_last=number % 3 > 0)
    assert torch.equal(found, right)


@pytest.mark.filterwarnings("ignore:invalid value")  # of channels that there are not
def test_what_follows_a_run_is_no_term_of_the_sum():
    layer = conv_geometry((1, 3, 1, 5), (1, 3, 1, 3), axes=2)
    with running("kernel") as device:
        x, w = torch.ones(layer.input_shape, device=device).half(), torch.ones(layer.weight_shape, device=device).half()
        x[..., 3] = float("inf")
        y = memory.empty(x, layer.output_shape)
        forward_runs.write_conv(y, x, memory.packed_weight(w), None, layer, SMALL)
    assert y.tolist() == [[[[9, float("inf"), float("inf")]]]]


@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((1, 5, 9, 9), (8, 5, 3, 3), {}),
        ((1, 4, 9, 9), (8, 2, 3, 3), {"groups": 2}),
        ((1, 3, 9, 9), (8, 3, 3, 3), {"dilation": (1, 2)}),
        ((1, 4, 9, 20), (8, 4, 3, 17), {}),
        ((1, 3, 9, 9, 9), (8, 3, 3, 3, 3), {}),
    ],
)
def test_what_it_does_not_serve(shape, weight, options):
    assert not forward_runs.could_serve(torch.float16, conv_geometry(shape, weight, axes=len(shape) - 2, **options))


def test_other_numbers_are_not_served():
    assert [forward_runs.could_serve(d, CASES["stem"]) for d in (torch.bfloat16, torch.float32)] == [True, False]


@pytest.mark.skipif(DEVICE != "cpu", reason="no device is asked here")
@pytest.mark.parametrize("known", [False, True])
def test_it_is_taken_where_a_file_of_choices_names_it(monkeypatch, known):
    layer, launched = CASES["stem"], []
    x, w = integers(layer.input_shape, "cpu").half(), integers(layer.weight_shape, "cpu").half()
    names = {autotune.key("conv boxes", layer, memory.empty(x, layer.output_shape)): forward_runs.TILES[1]}
    monkeypatch.setattr(autotune, "_measured", names if known else {})
    monkeypatch.setattr(forward_runs, "tiles", lambda *_: forward_runs.TILES)
    monkeypatch.setattr(forward_runs, "write_conv", lambda *given: launched.append(given[-1]))
    monkeypatch.setattr(forward, "conv_forward_few_kernel", Other())
    forward.conv(x, w, None, layer)
    assert launched == ([forward_runs.TILES[1]] if known else [])


class Other:
    """A kernel that writes nothing."""

    def __getitem__(self, grid: tuple[int, ...]):
        return lambda **_: None


MUTANTS = [
    ("conv_runs_kernel", "images taken for the first", "image * stride_xn", "0 * image * stride_xn"),
    ("conv_runs_kernel", "rows and columns of windows taken for each other", "i_h * stride_xh", "i_w * stride_xh"),
    ("conv_runs_kernel", "rows of taps not left", "u * stride_xu + offs_k", "offs_k"),
    ("conv_runs_kernel", "weights of the first row", "u * BLOCK_K + offs_k", "offs_k"),
    ("conv_runs_kernel", "= for +=", "other=0), acc)", "other=0))"),
    ("conv_runs_kernel", "bias of the first channels", "bias_ptr + offs_n", "bias_ptr + tl.arange(0, BLOCK_N)"),
    ("conv_runs_kernel", "the last pixel left out", "offs_m < pixels", "offs_m < pixels - 1"),
    ("_launched", "stride of rows ignored", "stride_h * z.stride(1)", "z.stride(1)"),
    ("_launched", "stride of columns ignored", '"stride_xw": stride_w * step', '"stride_xw": step'),
    ("_launched", "dilation ignored", "memory.three(layer.dilation, 1)[1] * z.stride(1)", "z.stride(1)"),
    ("_room_of", "padding above ignored", "(above * columns + before) * channels", "before * channels"),
    ("_room_of", "padding before ignored", "(above * columns + before) * channels", "above * columns * channels"),
    ("_room_of", "padding above not counted", "rows - above", "rows"),
    ("_room_of", "padding before not counted", "columns - before", "columns"),
    ("laid_out", "rows that are not read not left out", ": room.height, ", ":, "),
    ("laid_out", "padding not filled", "x.new_zeros", "x.new_ones"),
    (
        "runs_of",
        "rows and columns of taps taken for each other",
        "kernel_h, kernel_w, layer.in",
        "kernel_w, kernel_h, layer.in",
    ),
]


@pytest.mark.parametrize("row", MUTANTS, ids=lambda row: row[1])
def test_a_mistake_is_caught(row, tmp_path):
    function, _, right, wrong = row
    mutant = mutate("layers/forward_runs", function, right, wrong, tmp_path)
    assert any(changes(layer, mutant) for layer in CASES.values())


def changes(layer: ConvGeometry, mutant: Any) -> bool:
    try:
        found, right = results(layer, bias=True, form=mutant)
    except Exception:
        return True
    return not torch.equal(found, right)
