"""Plain layers and their input gradients in boxes of pixels: their Gluon kernels in the emulator, exactly; mutants.

Which boxes and tiles there are, what is served and what is chosen: tests/kernels/test_boxes_choice.py.
"""

from __future__ import annotations

import pytest
import torch

from konvlib import runtime

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.layers import input_grad_hopper
from tests.kernels.boxes import CASES, FORMS, RANDOM, call_of, emulated, geometry_of, split
from tests.kernels.operators import on_cuda


def serves(form: str, case: tuple) -> bool:
    """Whether the strides divide the sizes; of one pixel of each window a layer needs no more."""
    layer = geometry_of(*case)
    return form == "forward" or not any(n % s for n, s in zip(layer.input_size, layer.stride, strict=True))


NAMED = [(form, name) for form in FORMS for name in CASES if serves(form, split(CASES[name])[0])]
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize(("form", "name"), NAMED)
def test_sums_are_exact_whenever_copies_arrive(form, name, bias, late):
    case, tile = split(CASES[name])
    call, right = call_of(form, case, bias=bias)
    assert torch.equal(emulated(call, tile, late=late), right)


@each_form
@pytest.mark.parametrize("number", range(len(RANDOM)))
def test_sums_are_exact_in_a_random_box(form, number, monkeypatch):
    """Of input gradients every third with its phases in turn, as those have them that leave the cache."""
    if number % 3 == 0:
        monkeypatch.setattr(input_grad_hopper, "CACHE", 0)
    case, tile = split(RANDOM[number])
    call, right = call_of(form, case, bias=number % 2 == 0)
    assert torch.equal(emulated(call, tile, late=number % 4 < 2), right)


COMMON_MUTANTS = {
    "the last step not copied": ("step + SLOTS - 1 < steps", "step + SLOTS < steps"),
    "the ring turned the wrong way": ("gl.where(slot == 0, SLOTS - 1, slot - 1)", "gl.where(slot > SLOTS, 0, slot)"),
    "a slot filled while it is read": ("warpgroup_mma_wait(1, [acc])", "warpgroup_mma_wait(2, [acc])"),
    "an arrival not waited for": ("phase ^ 1", "phase"),
    "a step more copied than is waited for": ("i < steps", "i <= steps"),
    "the copy back not waited for": ("store_wait(0)", "store_wait(1)"),
    "images of a box ignored": ("rest // blocks_h * BOX_N", "rest // blocks_h"),
    "rows and columns of boxes taken for each other": ("% blocks_w * BOX_W", "% blocks_h * BOX_W"),
}
MUTANTS = {
    "forward": COMMON_MUTANTS
    | {
        "padding ignored": ("below_w * STRIDE_W - padding_w", "below_w * STRIDE_W"),
        "padding of the other axis": ("below_h * STRIDE_H - padding_h", "below_h * STRIDE_H - padding_w"),
        "a stride less of padding": ("gl.cdiv(padding_h, STRIDE_H)", "padding_h // STRIDE_H"),
        "stride of rows ignored": ("first_h + at_h // STRIDE_H", "first_h + at_h"),
        "stride of columns ignored": ("first_w + at_w // STRIDE_W", "first_w + at_w"),
        "phase of rows ignored": ("at_h % STRIDE_H * row + at_w", "at_w"),
        "phase of columns ignored": (" * row + at_w % STRIDE_W", " * row"),
        "dilation of rows ignored": ("at_h + dilation_h", "at_h + 1"),
        "dilation of columns ignored": ("at_w + dilation_w", "at_w + 1"),
        "a row of taps goes on": ("gl.where(ends, start_w, at_w)", "at_w"),
        "rows of taps too long": ("ends = u_w == kernel_w", "ends = u_w > kernel_w"),
        "channels beyond the last summed": ("ends = k >= in_channels", "ends = k > in_channels"),
        "the tap's weights not changed": ("tap += ends.to(gl.int32)", "tap += 0"),
        "bias of the first channels": ("bias_ptr + offs_o, mask", "bias_ptr + offs_o - o, mask"),
        "bias beyond the last channel": ("mask=offs_o < out_channels", "mask=offs_o <= out_channels"),
        "the output written elsewhere": ("(y_desc, [n, i_h, i_w, o], y_box)", "(y_desc, [n, i_w, i_h, o], y_box)"),
    },
    "input_grad": COMMON_MUTANTS
    | {
        "phases taken for one": ("kernel_w, True", "kernel_w, False"),
        "padding ignored": ("remainder = (phase + padding) % stride", "remainder = phase % stride"),
        "origin without the padding": (
            "(phase + padding + dilation * (stride - first))",
            "(phase + dilation * (stride - first))",
        ),
        "taps of a phase forward": ("-(dilation // gcd), first, unit", "dilation // gcd, first, unit"),
        "the first tap of a phase is the first": ("remainder // gcd * inverse % unit", "remainder * 0"),
        "phases that no tap shows summed": ("remainder % gcd == 0", "remainder % gcd >= 0"),
        "a tap of a phase less": ("kernel - first + unit - 1, 0)", "kernel - first, 0)"),
        "taps of a phase without their step": ("tap + unit_w", "tap + 1"),
        "rows of taps of a phase without their step": ("row_tap + unit_h * kernel_w", "row_tap + kernel_w"),
        "a row of taps goes on": ("gl.where(ends, first_w, i_w)", "i_w"),
        "rows of outputs not left": ("i_h + gap_h", "i_h"),
        "columns of outputs not left": ("i_w + gap_w", "i_w"),
        "channels beyond the last summed": ("ends = k >= out_channels", "ends = k > out_channels"),
        "rows of phases too short": (
            "r // stride_w, r % stride_w",
            "r // stride_h, r % stride_w",
        ),
        "phases not interleaved": ("r_h * row + r_w, c]", "0, c]"),
        "one phase twice": ("(gl.where(in_turn != 0, rest % phases, rest // boxes) + longest) % phases", "longest"),
        "boxes of the next phase": ("rest // phases, rest % boxes)", "rest // phases, rest)"),
        "bias of the first channels": ("bias_ptr + offs_c, mask", "bias_ptr + offs_c - c, mask"),
        "bias beyond the last channel": ("mask=offs_c < in_channels", "mask=offs_c <= in_channels"),
    },
}


IN_TURN = {
    "phases in turn not divided": ("gl.where(in_turn != 0, rest // phases,", "gl.where(in_turn != 0, rest,"),
    "phases in turn all one": ("gl.where(in_turn != 0, rest % phases,", "gl.where(in_turn != 0, 0 * rest,"),
}


def changes(form: str, mutant: tuple[str, str]) -> bool:
    """Whether a mistake changes the result of some case, or is met by the emulator: a barrier that never opens."""
    for case, tile in (split(CASES[name]) for other, name in NAMED if other == form):
        for late in (False, True):
            call, right = call_of(form, case, bias=True)
            try:
                if not torch.equal(emulated(call, tile, late=late, mutant=mutant), right):
                    return True
            except AssertionError:
                return True
    return False


@pytest.mark.parametrize(("form", "name"), [(form, name) for form in FORMS for name in MUTANTS[form]])
def test_each_mistake_changes_a_sum(form, name):
    assert changes(form, MUTANTS[form][name])


@pytest.mark.parametrize("name", IN_TURN)
def test_each_mistake_in_the_turns_of_phases_changes_a_sum(name, monkeypatch):
    assert not changes("input_grad", IN_TURN[name])
    monkeypatch.setattr(input_grad_hopper, "CACHE", 0)
    assert changes("input_grad", IN_TURN[name])


@on_cuda
@each_form
@pytest.mark.parametrize("number", range(len(RANDOM)))
def test_on_a_device_a_random_box_is_exact_and_twice_the_same(form, number):
    """Against double precision, where NaN was."""
    case, tile = split(RANDOM[number])
    check_on_device(form, case, [tile], runtime.HALVES[number % 2])


@on_cuda
@each_form
@pytest.mark.parametrize(("name", "dtype"), [("square boxes", torch.bfloat16), ("strided", torch.float16)])
def test_on_a_device_every_tile_is_exact_and_twice_the_same(form, name, dtype):
    check_on_device(form, split(CASES[name])[0], None, dtype)


def check_on_device(form: str, case: tuple, tiles: list | None, dtype: torch.dtype) -> None:
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("boxes are for Hopper")
    call, right = call_of(form, case, bias=True, device="cuda", dtype=dtype)
    tiles = tiles or list(call.tiles())
    assert tiles
    for tile in [*tiles, *tiles]:
        assert torch.equal(call.launch(tile).cpu(), right.to(dtype)), tile
