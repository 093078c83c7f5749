"""Which inputs a block of outputs needs, against every index of every case in a box."""

from itertools import product

import pytest

from konvlib.geometry import PADDING_MODES, conv_size, conv_transpose_size, halos, pool_size, source_index
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


def test_a_chain_reads_what_its_windows_meet_through_all_layers():
    layers = [(k, s, d, p) for k, s, d, p in product((1, 2, 3), (1, 2), (1, 2), (0, 2))]
    modes, nothing = ("zeros", "reflect", "replicate"), 0
    for number, (first, second) in enumerate(product(layers, layers)):
        chosen = modes[number % 3], modes[number // 3 % 3]
        sizes, after = [6], (1, 2)
        try:
            for (k, s, d, p), q in zip((first, second), after, strict=True):
                sizes.append(conv_size(sizes[-1], k, stride=s, padding=(p, q), dilation=d))
        except ValueError:
            continue
        for start in range(sizes[2]):
            for stop in range(start + 1, sizes[2] + 1):
                reads = halos.inputs_of_chain(start, stop, [first, second], sizes[:2], chosen)
                wanted = range(start, stop)
                for (k, s, d, p), size, mode, read in zip(
                    (second, first), sizes[1::-1], chosen[::-1], reads[::-1], strict=True
                ):
                    places = [i * s - p + d * u for i in wanted for u in range(k)]
                    shown = [source_index(j, size, mode) for j in range(min(places), max(places) + 1)] if places else []
                    assert _seen(read) == shown
                    wanted = [j for a, b in read.spans for j in range(a, b)]
                    nothing += not wanted
    assert nothing


def test_a_chain_refuses_circular_padding():
    with pytest.raises(ValueError, match=r"layers\[1\].padding_mode must be zeros, reflect or replicate"):
        halos.inputs_of_chain(0, 1, [(3, 1, 1, 1)] * 2, [5, 5], ["zeros", "circular"])


@pytest.mark.parametrize("cut", [halos.outputs_beside, halos.outputs_beside_transposed])
def test_cuts_give_each_output_to_one_part(cut):
    for (kernel, stride, dilation, before), outputs in product(WINDOWS, range(1, 8)):
        for bounds in ((0, 7), (0, 1, 7), (0, 2, 3, 4, 7), tuple(range(8))):
            cuts = cut(bounds, outputs, kernel=kernel, stride=stride, dilation=dilation, before=before)
            assert len(cuts) == len(bounds)
            assert (cuts[0], cuts[-1]) == (0, outputs)
            assert list(cuts) == sorted(cuts)
