"""The corrections to the book's sources 003 (gradients) and 004 (two strides as one).

Each row of book/corrections.md names its test. A test computes what the source's formula says, letter by letter, and
what holds. Integers throughout, so `==` decides; height differs from width.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

import konvlib
from tests.book.source_formulas import drawn, layer

# Source 003: convolution and its gradients. One channel, stride 1, "same" padding, an odd kernel of a by b.

M, N, A, B = 6, 5, 3, 5
PICTURE, FILTER, UPSTREAM = drawn(M, N), drawn(A, B), drawn(M, N, seed=1)


def same_layer(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return layer(x, w, padding="same")


def shifted_product(x: np.ndarray, w: np.ndarray, alpha: int, beta: int) -> int:
    """The sum of x[u + alpha, v + beta] w[u, v], zeros outside."""
    terms = [(u + alpha, v + beta, w[u, v]) for u, v in np.ndindex(w.shape)]
    return sum(int(x[p, q] * tap) for p, q, tap in terms if 0 <= p < x.shape[0] and 0 <= q < x.shape[1])


def test_source_003_shift_is_down_and_right():
    """x[u + alpha, v + beta]: the first number moves the window down the rows, the second to the right."""
    alpha, beta = 2, 1
    moved = {}
    for down, right in [(alpha, beta), (beta, alpha)]:
        padded = np.pad(PICTURE, ((0, 9), (0, 9)))
        moved[down, right] = int((padded[down : down + A, right : right + B] * FILTER).sum())
    assert shifted_product(PICTURE, FILTER, alpha, beta) == moved[alpha, beta] != moved[beta, alpha]


def test_source_003_output_is_shifted_back_by_half_a_kernel():
    y = same_layer(PICTURE, FILTER)
    for i, j in np.ndindex(M, N):
        assert y[i, j] == shifted_product(PICTURE, FILTER, i - (A - 1) // 2, j - (B - 1) // 2)
        assert y[i, j] != shifted_product(PICTURE, FILTER, i, j)


def test_source_003_border_columns_have_fewer_entries():
    for m, n, a, b in product((3, 5, 6), (4, 5, 7), (1, 3), (1, 3, 5)):
        taps = np.ones((1, 1, a, b), dtype=int)
        jacobian = konvlib.conv_matrix(taps, (1, m, n), padding="same").toarray()
        entries = (jacobian != 0).sum(0).reshape(m, n)
        down, across = ((a - 1) // 2, (b - 1) // 2)
        rows = [sum(0 <= i - u < m for u in range(-down, down + 1)) for i in range(m)]
        columns = [sum(0 <= j - v < n for v in range(-across, across + 1)) for j in range(n)]
        assert np.array_equal(entries, np.outer(rows, columns))
        assert (entries == a * b).sum() == max(0, m - a + 1) * max(0, n - b + 1)


def jacobian_transposed(dy: np.ndarray, w: np.ndarray, shape: tuple[int, int], **options: Any) -> np.ndarray:
    matrix = konvlib.conv_matrix(w[None, None], (1, *shape), **options).toarray()
    return (matrix.T @ dy.ravel()).reshape(shape)


def test_source_003_input_gradient_needs_an_odd_kernel():
    """For odd sizes it holds up to the border. For even ones, the padding has to change sides as well."""
    for a, b in product(range(1, 6), repeat=2):
        w = np.arange(1, a * b + 1).reshape(a, b)
        right = jacobian_transposed(UPSTREAM, w, (M, N), padding="same")
        source = same_layer(UPSTREAM, w[::-1, ::-1])
        assert np.array_equal(source, right) == (a % 2 == 1 and b % 2 == 1)
        swapped = [((size - 1) - (size - 1) // 2, (size - 1) // 2) for size in (a, b)]
        assert np.array_equal(layer(UPSTREAM, w[::-1, ::-1], padding=swapped), right)


def test_source_003_input_gradient_needs_stride_one():
    """With stride 2 dY has fewer entries than X; zeros go between them first, and dY is no input of the same size."""
    pads = [((size - 1) // 2,) * 2 for size in (A, B)]
    y = layer(PICTURE, FILTER, stride=2, padding=pads)
    dy = UPSTREAM[: y.shape[0], : y.shape[1]]
    right = jacobian_transposed(dy, FILTER, (M, N), stride=2, padding=pads)
    assert same_layer(dy, FILTER[::-1, ::-1]).shape == dy.shape != right.shape
    spread = np.zeros((M, N), dtype=int)
    spread[::2, ::2] = dy
    assert np.array_equal(same_layer(spread, FILTER[::-1, ::-1]), right)


def test_source_003_input_gradient_needs_zeros_outside():
    """What a replicated edge receives goes back to the edge; the formula loses it."""
    options = {"padding": [((size - 1) // 2,) * 2 for size in (A, B)]}
    sizes = {"input_size": (M, N), **options}
    source = same_layer(UPSTREAM, FILTER[::-1, ::-1])
    for mode in ("zeros", "replicate"):
        found = konvlib.conv2d_input_grad(UPSTREAM[None, None], FILTER[None, None], padding_mode=mode, **sizes)[0, 0]
        unit = np.eye(M * N, dtype=int).reshape(-1, 1, M, N)
        answers = konvlib.conv2d(unit, FILTER[None, None], padding_mode=mode, **options)[:, 0]
        assert np.array_equal(found, (answers * UPSTREAM).sum((1, 2)).reshape(M, N))
        assert np.array_equal(found, source) == (mode == "zeros")


def test_source_003_bias_has_a_gradient():
    """The layer adds a bias to each output, so its gradient is the sum of dY; the source gives none."""
    x, w, dy = PICTURE[None, None], FILTER[None, None], UPSTREAM[None, None]
    outputs = [konvlib.conv2d(x, w, np.array([bias]), padding="same") for bias in (0, 1)]
    assert konvlib.conv2d_bias_grad(dy) == [UPSTREAM.sum()] == [((outputs[1] - outputs[0]) * dy).sum()]


def test_source_003_channels_are_summed():
    """dX of one input channel sums over the output channels: W' has the two channel axes exchanged."""
    w, dy = drawn(2, 3, A, B), drawn(1, 2, M, N)
    right = konvlib.conv_matrix(w, (3, M, N), padding="same").toarray().T @ dy.ravel()
    exchanged = w[:, :, ::-1, ::-1].swapaxes(0, 1)
    assert np.array_equal(konvlib.conv2d(dy, exchanged, padding="same").ravel(), right)
    one = sum(same_layer(dy[0, o], w[o, 0, ::-1, ::-1]) for o in range(2))
    assert np.array_equal(one.ravel(), right[: M * N])
    assert not np.array_equal(same_layer(dy[0, 0], w[0, 0, ::-1, ::-1]), one)


# Source 004: two stride-2 layers with the filter k2 as one stride-4 layer with k4. c is the length of k2.


def strided(x: np.ndarray, k: np.ndarray, stride: int, *, bias: int = 0, padding: Any = 0) -> np.ndarray:
    pads = padding if isinstance(padding, int) else [padding]
    return konvlib.conv1d(x[None, None], k[None, None], np.array([bias]), stride=stride, padding=pads)[0, 0]


def twice(x: np.ndarray, k: np.ndarray, *, bias: int = 0, padding: int = 0) -> np.ndarray:
    once = strided(x, k, 2, bias=bias, padding=padding)
    return strided(once, k, 2, bias=bias, padding=padding)


def k4_of(k: np.ndarray) -> np.ndarray:
    """k4[m], the sum of k2[b] k2[m - 2b]."""
    c = len(k)
    taps = [[k[b] * k[m - 2 * b] for b in range(c) if 0 <= m - 2 * b < c] for m in range(3 * c - 2)]
    return np.array([sum(terms) for terms in taps])


def test_source_004_k4_has_taps_at_all_places():
    assert k4_of(np.array([1, 2])).tolist() == [1, 2, 2, 4]
    for c in range(1, 7):
        k, x = drawn(c), drawn(40)
        k4 = k4_of(k)
        assert len(k4) == 3 * c - 2
        assert np.array_equal(strided(x, k4, 4), twice(x, k))
        kept = np.where(np.arange(len(k4)) % 4 == 0, k4, 0)
        assert np.array_equal(strided(x, kept, 4), twice(x, k)) == (c == 1)


def test_source_004_second_filter_is_dilated():
    """As printed, even taps k2(m) k2(u - m) are added: no dilation, and wrong even where u is a multiple of 4."""
    k = drawn(3)
    literal = [sum(k[m] * k[u - m] for m in (0, 2) if 0 <= u - m < 3) for u in range(7)]
    k4 = k4_of(k)
    assert np.array_equal(k4, np.convolve(k, [k[0], 0, k[1], 0, k[2]]))
    assert literal[0] == k4[0]
    assert literal[4] == k[2] ** 2 != k4[4] == k[0] * k[2] + k[1] * k[2]


def test_source_004_k4_depends_on_no_t():
    """The variable t of the outer sum stands on the right alone: each t would define another k4(u)."""
    k = (1, 2, 4, 8, 16)

    def literal(u: int, t: int) -> int:
        return sum(k[m] * k[u - t - m] for m in (0, 2, 4) if 0 <= u - t - m < 5)

    assert [literal(8, t) for t in (0, 2, 4, 6)] == [256, 128, 48, 8]


def test_source_004_subsampling_drops_outputs_not_inputs():
    """(x * k) at 2u needs every x; the sum over even m alone loses the odd ones."""
    x, k = drawn(9), drawn(3)
    full = np.convolve(x, k)
    every, even = (
        [sum(x[m] * k[n - m] for m in ms if 0 <= n - m < 3) for n in range(11)] for ms in (range(9), (0, 2, 4, 6, 8))
    )
    assert np.array_equal(full, every)
    assert np.array_equal(full[::2], every[::2])
    assert not np.array_equal(full[::2], even[::2])
    assert not np.array_equal(full[::2], even[: len(full[::2])])


def test_source_004_inner_index_is_doubled():
    """The second layer reads the first at even places: k2(m) meets (x * k2)(2(2u - m)), not (x * k2)(u - m)."""
    x, k = drawn(13), drawn(3)
    inner = dict(enumerate(np.convolve(x, k).tolist()))
    right = np.convolve(np.convolve(x, k)[::2], k)[::2]
    doubled = [sum(int(k[m]) * inner.get(4 * u - 2 * m, 0) for m in range(3)) for u in range(len(right))]
    assert np.array_equal(doubled, right)
    source = [sum(int(k[m]) * inner.get(u - m, 0) for m in (0, 2)) for u in range(0, 4 * len(right), 4)]
    assert not np.array_equal(source, right)


def test_source_004_padding_for_exactly_a_quarter():
    """Once, in all 3c - 6 to 3c - 3. Half a kernel on each side is c in all: enough for c = 2 and 3 only."""
    for c, n in product(range(1, 9), range(4, 41, 4)):
        k = np.ones(c, dtype=int)
        for total in range(max(0, 3 * c - 2 - n), 3 * c + 3):
            quarter = len(strided(np.ones(n, dtype=int), k4_of(k), 4, padding=(total, 0))) == n // 4
            assert quarter == (3 * c - 6 <= total <= 3 * c - 3)
        assert (3 * c - 6 <= c <= 3 * c - 3) == (c in (2, 3))


def harmless(c: int, padding: int, n: int, *, bias: int = 0) -> bool:
    """Whether padding both layers is padding the whole, with 3 times as much in front."""
    k, x = np.arange(c, 2 * c) ** 2 + 1, np.arange(1, n + 1) ** 2
    chain = twice(x, k, bias=bias, padding=padding)
    whole = strided(x, k4_of(k), 4, bias=bias * (1 + k.sum()), padding=(3 * padding, 3 * padding + 4))
    return np.array_equal(chain, whole[: len(chain)])


def test_source_004_padding_between_the_layers_is_no_padding_of_x():
    """For sizes that are multiples of 4 and floor(c / 2) zeros per side and layer: right up to c = 4, then wrong."""
    for c in range(2, 9):
        for n in range(4 * c, 8 * c, 4):
            assert harmless(c, c // 2, n) == (c <= 4)
            assert not harmless(c, c // 2, n, bias=1)
    assert not harmless(3, 1, 14)
    for c, padding, n in product(range(2, 7), range(9), range(14, 34)):
        if padding >= c - 1 or (padding == c - 2 and (n - c) % 2 == 0):
            assert harmless(c, padding, n)


def test_source_004_padding_of_the_first_layer_is_padding_of_the_whole():
    for c, before, after in product(range(1, 6), range(6), range(6)):
        k, x = drawn(c), drawn(17)
        chain = strided(strided(x, k, 2, padding=(before, after)), k, 2)
        assert np.array_equal(chain, strided(x, k4_of(k), 4, padding=(before, after)))


def test_source_004_padded_signal_ends_at_n_minus_one_plus_half_a_kernel():
    """From -c/2 to n + c/2 there are n + c + 1 places, one too many, and none of them whole for odd c."""
    for c, n in product((2, 4, 6), range(4, 9)):
        padded = np.pad(np.ones(n), c // 2)
        assert len(range(-(c // 2), n + c // 2 + 1)) == len(padded) + 1
    assert [Fraction(c, 2).denominator for c in range(1, 7)] == [2, 1, 2, 1, 2, 1]
