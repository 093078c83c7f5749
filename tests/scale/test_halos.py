"""Which inputs a block of outputs needs, against every index of every case in a box."""

from functools import partial
from itertools import product

import numpy as np
import pytest

from konvlib.geometry import (
    PADDING_MODES,
    conv_geometry,
    conv_transpose_geometry,
    conv_transpose_size,
    halos,
    pool_geometry,
    pool_size,
    source_index,
)
from konvlib.geometry.sequences import boundary_places

WINDOWS = list(product(range(1, 5), range(1, 4), range(1, 4), range(4)))  # kernel, stride, dilation, padding before


def _seen(read: halos.Read) -> list[int | None]:
    """The samples that a block sees one after the other, None for a zero."""
    samples = [j for start, stop in read.spans for j in range(start, stop)]
    before, after = read.zeros
    left, right = ([samples[place] for place in places] for places in read.shown)
    return [None] * before + left + samples[slice(*read.core)] + right + [None] * after


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_what_is_read_shows_the_padded_axis(mode):
    for size in range(1, 6):
        for start, stop in ((a, b) for a in range(-9, 14) for b in range(a + 1, 16)):
            read = halos.read(start, stop, size, mode)
            assert _seen(read) == [source_index(j, size, mode) for j in range(start, stop)], (size, start, stop)
            samples = [j for a, b in read.spans for j in range(a, b)]
            needed = {source_index(j, size, mode) for j in range(start, stop)} - {None}
            assert samples == sorted(needed), (size, start, stop)
            assert read.samples == len(needed), (size, start, stop)


def test_what_is_read_shows_what_goes_on_symmetrically():
    for size in range(1, 6):
        for start, stop in ((a, b) for a in range(-9, 14) for b in range(a + 1, 16)):
            read, places = halos.read(start, stop, size, "symmetric"), range(start, stop)
            shown = [boundary_places(j, size, "symmetric") for j in places]
            assert _seen(read) == shown == [min(j % (2 * size), 2 * size - 1 - j % (2 * size)) for j in places]
            assert [j for a, b in read.spans for j in range(a, b)] == sorted(set(shown))


def test_inputs_of_a_block_are_those_that_its_windows_meet():
    for (kernel, stride, dilation, before), start in product(WINDOWS, range(4)):
        for stop in range(start + 1, start + 4):
            met = {i * stride - before + dilation * u for i in range(start, stop) for u in range(kernel)}
            window = {"kernel": kernel, "stride": stride, "dilation": dilation, "before": before}
            assert halos.inputs_of(start, stop, **window) == (min(met), max(met) + 1)
            _, ours = halos.inputs_of(start, stop, **window)
            theirs, _ = halos.inputs_of(stop, stop + 2, **window)
            assert max(ours - theirs, 0) == max(0, dilation * (kernel - 1) + 1 - stride)


def test_inputs_of_a_transposed_block_are_all_that_reach_it():
    empty = 0
    for (kernel, stride, dilation, before), size in product(WINDOWS, range(1, 5)):
        padding = (min(before, (size - 1) * stride), 0)
        outputs = conv_transpose_size(size, kernel, stride=stride, padding=padding, dilation=dilation)
        for start in range(outputs):
            for stop in range(start + 1, outputs + 1):
                reach = [
                    i
                    for i in range(size)
                    if any([start <= i * stride - padding[0] + dilation * u < stop for u in range(kernel)])
                ]
                low, high = halos.inputs_of_transposed(
                    start, stop, size, kernel=kernel, stride=stride, dilation=dilation, before=padding[0]
                )
                assert 0 <= low <= high <= size
                assert set(reach) <= set(range(low, high))
                if dilation == 1 and kernel >= stride:
                    assert reach == list(range(low, high))
                empty += low == high
    assert empty


def test_a_block_of_a_pooling_is_a_pooling():
    hanging = 0
    for (kernel, stride, dilation, before), size, after in product(WINDOWS, range(1, 8), range(3)):
        covered = dilation * (kernel - 1) + 1
        if max(before, after) > covered // 2:
            continue
        for ceil_mode in (False, True):
            window = {"stride": stride, "dilation": dilation, "ceil_mode": ceil_mode}
            try:
                outputs = pool_size(size, kernel, padding=(before, after), **window)
            except ValueError:
                continue
            for start in range(outputs):
                for stop in range(start + 1, outputs + 1):
                    seen = halos.inputs_of(start, stop, kernel=kernel, stride=stride, dilation=dilation, before=before)
                    read = halos.read(*seen, size)
                    sides = halos.pool_sides(read, after)
                    hanging += sides[1] < read.zeros[1]
                    if read.samples:
                        assert pool_size(read.samples, kernel, padding=sides, **window) == stop - start
    assert hanging


def _links(size: int):
    """Every layer of a box in each mode, pooling and transposed layer that an axis of a size takes, with its kind."""
    for kernel, stride, dilation, before in product((1, 2, 3), (1, 2), (1, 2), (0, 2)):
        window = {"axes": 1, "stride": stride, "dilation": dilation}
        padded = window | {"padding": [(before, 1)]}
        for mode in ("zeros", "reflect", "replicate", "transposed", "floor", "ceil"):
            try:
                if mode == "transposed":
                    link = conv_transpose_geometry((1, 1, size), (1, 1, kernel), **padded)
                elif mode in ("floor", "ceil"):
                    padded["padding"] = [(min(before, dilation * (kernel - 1) // 2), 0)]
                    link = pool_geometry((1, 1, size), kernel, **padded, ceil_mode=mode == "ceil")
                else:
                    link = conv_geometry((1, 1, size), (1, 1, kernel), **padded, padding_mode=mode)
            except ValueError:  # it does not fit
                continue
            yield link, mode


def _reader(link, mode):
    if mode == "transposed":
        window = halos.window_of(link, 0)
        return lambda start, stop: halos.read(
            *halos.inputs_of_transposed(start, stop, link.output_size[0], **window), link.output_size[0]
        )
    return partial(halos.read_by, link, 0, padding_mode=mode if mode in PADDING_MODES else "zeros")


def _check_seen(link, mode, read, wanted):
    """Hold a read to the windows of some outputs, index by index."""
    window, samples = halos.window_of(link, 0), [j for a, b in read.spans for j in range(a, b)]
    meets = {i: [i * window["stride"] - window["before"] + window["dilation"] * u for u in range(window["kernel"])]
             for i in (range(link.output_size[0]) if mode == "transposed" else wanted)}  # fmt: skip
    if mode == "transposed":
        reach = [i for i, places in meets.items() if set(places) & set(wanted)]
        assert set(reach) <= set(samples)
        if window["dilation"] == 1 and window["kernel"] >= window["stride"]:
            assert reach == samples
        return
    places = sorted({place for each in meets.values() for place in each})
    shown = range(places[0], places[-1] + 1) if places else []
    mode = mode if mode in PADDING_MODES else "zeros"
    assert _seen(read) == [source_index(j, link.input_size[0], mode) for j in shown]


def test_a_chain_reads_what_its_windows_meet_through_all_links():
    rng, nothing, kinds = np.random.default_rng(3), 0, set()
    for first, of_first in _links(6):
        size = first.input_size[0] if of_first == "transposed" else first.output_size[0]
        links = list(_links(size))
        for which in rng.choice(len(links), min(len(links), 12), replace=False):
            second, of_second = links[which]
            outputs = second.input_size[0] if of_second == "transposed" else second.output_size[0]
            kinds.add((of_first, of_second))
            readers = [_reader(first, of_first), _reader(second, of_second)]
            for start in range(outputs):
                for stop in range(start + 1, outputs + 1):
                    reads = halos.inputs_of_chain(start, stop, readers)
                    _check_seen(second, of_second, reads[1], range(start, stop))
                    wanted = [j for a, b in reads[1].spans for j in range(a, b)]
                    _check_seen(first, of_first, reads[0], wanted)
                    nothing += not wanted
    assert nothing
    assert len(kinds) == 6 * 6


def test_a_chain_refuses_two_intervals_between_its_layers():
    layer = conv_geometry((1, 1, 5), (1, 1, 3), axes=1, padding=1, padding_mode="circular")
    reader = partial(halos.read_by, layer, 0, padding_mode="circular")
    with pytest.raises(ValueError, match=r"layers\[1\] must read one interval in a fused chain, got two"):
        halos.inputs_of_chain(0, 1, [reader, reader])
    assert halos.inputs_of_chain(0, 1, [reader])[0].spans == ((0, 2), (4, 5))


@pytest.mark.parametrize("cut", [halos.outputs_beside, halos.outputs_beside_transposed])
def test_cuts_give_each_output_to_one_part(cut):
    for (kernel, stride, dilation, before), outputs in product(WINDOWS, range(1, 8)):
        for bounds in ((0, 7), (0, 1, 7), (0, 2, 3, 4, 7), tuple(range(8))):
            cuts = cut(bounds, outputs, kernel=kernel, stride=stride, dilation=dilation, before=before)
            assert len(cuts) == len(bounds)
            assert (cuts[0], cuts[-1]) == (0, outputs)
            assert list(cuts) == sorted(cuts)
