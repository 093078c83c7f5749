"""Konvolution by a halo in equal shares: how work is shared out, and which layers gain by it."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from konvlib.geometry import conv_geometry

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo, halo_balanced
from tests.kernels.halos import layer_of
from tests.kernels.offline import halo_balanced as offline
from tests.kernels.test_halo_balanced import GEOMETRIES, PROCESSORS


def programs_by_tile(found):
    """How many programs do each tile, turn by turn."""
    does = [turn // found.share for turn in range(found.tiles * found.turns)]
    assert set(does) == set(range(found.programs))
    return [len({*does[begin : begin + found.turns]}) for begin in range(0, len(does), found.turns)]


def test_tiles_are_done_by_one_program_by_two_and_by_more():
    """What those layers show: whole tiles beside shared ones, and programs with several tiles."""
    seen = {name: halo_balanced.shares_of(layer_of(GEOMETRIES[name]), count) for name, count in PROCESSORS.items()}
    counts = {name: {*programs_by_tile(found)} for name, found in seen.items()}
    assert counts["one program"] == counts["whole tiles"] == {1}
    assert {1, 2} in counts.values()
    assert {2, 3} <= set().union(*counts.values())
    assert seen["one program"].tiles > 1
    assert seen["a program for a turn"].share == 1
    assert any(found.share > found.turns and found.share % found.turns for found in seen.values())


@pytest.mark.parametrize(("tiles", "turns", "processors"), [*product((1, 2, 7, 106), (1, 6, 24), (1, 2, 5, 132))])
def test_shares_are_equal_and_as_short_as_processors_permit(tiles, turns, processors):
    found = halo_balanced.shares(tiles, turns, processors)
    assert found.programs <= processors
    assert (found.share - 1) * processors < tiles * turns <= found.share * found.programs
    assert found.split == sum(count > 1 for count in programs_by_tile(found))


def test_layers_of_the_benchmark_gain_where_tiles_fill_no_waves():
    layers = {  # batch, inputs, size, outputs, degrees: whether a share is that much shorter
        (32, 128, 28, 128, 4): (203, 6, 10, 12, True),
        (32, 256, 14, 256, 4): (106, 12, 10, 12, True),
        (64, 512, 7, 512, 4): (112, 24, 21, 24, True),
        (8, 128, 128, 128, 8): (1032, 6, 47, 48, True),
        (64, 256, 56, 256, 3): (3192, 12, 291, 300, True),
        (32, 128, 28, 128, 2): (203, 6, 10, 12, False),  # too little work for the cost
        (21, 128, 28, 128, 4): (135, 6, 7, 12, True),
        (20, 128, 28, 128, 4): (127, 6, 6, 6, False),  # one wave, nearly full
    }
    for (batch, inputs, size, outputs, degrees), (tiles, turns, share, waves, gains) in layers.items():
        layer = conv_geometry((batch, inputs, size, size), (outputs, inputs, 3, 3), axes=2, padding=1)
        found = halo_balanced.shares_of(layer, 132)
        assert (found.tiles, found.turns, found.share) == (tiles, turns, share)
        assert -(-tiles // 132) * turns == waves
        assert halo_balanced.gains(layer, degrees, 132) == gains


def test_what_outputs_are_turned_in_has_room_beside_the_buffers():
    """It takes 32 KiB of its own, since buffers stay in use: no layer takes more than the largest that is compiled."""
    *_, dilation = offline.LAYERS["the largest"]
    sizes = {}
    for kernel, stride, apart in product(range(1, 8), (1, 2), range(1, 20)):
        layer = conv_geometry((2, 64, 300, 9), (128, 64, kernel, 1), axes=2, stride=stride, dilation=(apart, 1))
        if halo_balanced.fits(layer, torch.bfloat16):
            blocks = halo.blocks_of(layer, halo_balanced.TILE)
            slots = blocks["BUFFERS"] * (blocks["SLOTS"] + blocks["EXTRA"])
            sizes[kernel, stride, apart] = slots * 1024 + blocks["RING"] * (blocks["TOGETHER"] * 128 * 128)
    assert max(sizes.values()) == sizes[3, 2, dilation]
    assert max(sizes.values()) + 2**15 < halo.SHARED_MEMORY - 2**12
