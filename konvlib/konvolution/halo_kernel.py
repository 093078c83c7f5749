"""Konvolution by a halo in shared memory, for the halves on Hopper: a Gluon kernel.

Polynomials are evaluated once for each sample, degree and column tap, and written to shared memory; all row taps are
products with that one buffer, read some rows further on. Eight pixels by 64 channels are one atom of the 128-byte
swizzle, so a view that begins some atoms further on is an operand of the tensor cores as it is.

The eight lanes of an atom are eight pairs of an image and a column, the slots of a tile are rows: first all rows of
eight pairs, then some lines that are thrown away, where a tap that runs past the last row finds padding, then those of
the next eight. The products of one degree run while the same warps evaluate the next. `halo.Walk` says how a layer is
cut up.
"""

from __future__ import annotations

from konvlib.layers.polynomials import squashed

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import (
        fence_async_shared,
        mbarrier,
        tma,
        warpgroup_mma,
        warpgroup_mma_init,
        warpgroup_mma_wait,
    )
except ImportError:  # no Triton, or one that is too old
    gluon = gl = None

jit, constexpr_function = (gluon.jit, gluon.constexpr_function) if gluon else (lambda function: function,) * 2
barrier = getattr(gl, "thread_barrier", getattr(gl, "barrier", None))  # as it is called by Triton 3.6, and after
exactly_squashed = jit(squashed.fn) if hasattr(squashed, "fn") else squashed

LANES = gl.constexpr(8) if gluon else 8
CHANNELS = gl.constexpr(64) if gluon else 64
"""The pixels and the channels of one atom."""

FAR = gl.constexpr(-(2**30)) if gluon else -(2**30)
"""A row so far before an input that no tap reaches it from there."""

FLAT = gl.constexpr(gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)) if gluon else None
"""How rows of 64 halves lie in shared memory."""


@jit
def konv_halo_kernel(
    x_ptr, w_desc, bias_ptr, y_ptr,
    # All slots, those of eight pairs, the pairs; the tiles of a weight, one output's channels by 64; the layer.
    slots, lines, pairs, tiles, in_channels, out_channels, in_h, in_w, out_h, out_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    # Where the outputs between the ends of an axis begin, and the last of them: they share a bias.
    first_h, last_h, first_w, last_w,
    # Steps in memory. Channels lie together.
    stride_xn, stride_xh, stride_xw, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
    # The row taps f, f + PHASES, ... share a buffer, and lie STEP slots apart in it.
    KERNEL_H: gl.constexpr, KERNEL_W: gl.constexpr, PHASES: gl.constexpr, STEP: gl.constexpr,
    DEGREES: gl.constexpr, BASIS: gl.constexpr, SQUASH: gl.constexpr, MASKED: gl.constexpr,
    BIAS: gl.constexpr, EVEN_C: gl.constexpr, INT64: gl.constexpr,
    # A tile is SLOTS rows of 8 pixels by BLOCK_N outputs. Samples have BUFFERS buffers; weights a ring of RING places,
    # each for a group of at most TOGETHER products and at least RUNNING, which lies between two barriers.
    SLOTS: gl.constexpr, EXTRA: gl.constexpr, BLOCK_N: gl.constexpr, BUFFERS: gl.constexpr, RING: gl.constexpr,
    TOGETHER: gl.constexpr, RUNNING: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_{u_w, u_h, k, c} p_k(x[n, c, s i + d u - p]) kappa[o, k, c, u]."""
    BLOCK_M: gl.constexpr = SLOTS * LANES
    SPAN: gl.constexpr = SLOTS + EXTRA
    AHEAD: gl.constexpr = RING - 2
    # How many buffers of samples are filled, and how many groups of products run, for each time that samples are read.
    STAGES: gl.constexpr = PHASES * DEGREES
    GROUPS: gl.constexpr = position(PHASES, 1, 0, KERNEL_H, PHASES, DEGREES, TOGETHER)
    main: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [num_warps, 1], [1, 0])
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_N, 16])
    dtype: gl.constexpr = x_ptr.dtype.element_ty
    # Which tile of the outputs is this program's? Programs next to each other read the same pixels.
    blocks_n = gl.cdiv(out_channels, BLOCK_N)
    first_n = gl.program_id(0) % blocks_n * BLOCK_N
    first_slot = gl.program_id(0) // blocks_n * SLOTS
    samples = gl.allocate_shared_memory(dtype, [BUFFERS * SPAN, LANES, CHANNELS], FLAT)
    weights = gl.allocate_shared_memory(dtype, [RING * TOGETHER, BLOCK_N, CHANNELS], FLAT)
    full = barriers_of(RING)
    coming = 0
    for i in gl.static_range(AHEAD):
        coming = copy_weights(
            w_desc, weights, full, coming, i, first_n, tiles, TOGETHER, BLOCK_N,
            products(0, 1, 0, i, KERNEL_H, PHASES, DEGREES, TOGETHER),
        )  # fmt: skip
    # Where the windows of the pixels begin, and of those of the halo, the slots after them.
    x_main, at_h, at_w, offs_c = windows_of(
        x_ptr, first_slot, slots, lines, pairs, out_w, stride_h, stride_w, padding_h, padding_w,
        stride_xn, stride_xh, stride_xw, main, 0, BLOCK_M, CHANNELS, INT64,
    )  # fmt: skip
    keep, x = load(x_main, at_h, at_w, offs_c, in_h, in_w, in_channels, EVEN_C)
    if EXTRA > 0:
        more: gl.constexpr = gl.BlockedLayout([1, 4], [2, 16], [num_warps, 1], [1, 0])
        x_more, e_h, e_w, more_c = windows_of(
            x_ptr, first_slot, slots, lines, pairs, out_w, stride_h, stride_w, padding_h, padding_w,
            stride_xn, stride_xh, stride_xw, more, SLOTS, EXTRA * LANES, CHANNELS, INT64,
        )  # fmt: skip
        e_keep, e_x = load(x_more, e_h, e_w, more_c, in_h, in_w, in_channels, EVEN_C)
    acc = warpgroup_mma_init(gl.zeros([BLOCK_M, BLOCK_N], gl.float32, acc_layout))
    place, parity, buffer, u_w, c = 0, 0, 0, 0, 0
    for turn in range(gl.cdiv(in_channels, CHANNELS) * KERNEL_W):
        for phase in gl.static_range(PHASES):
            s, p, before = degree_1(x, keep, main, BASIS, SQUASH, MASKED)
            if EXTRA > 0:
                e_s, e_p, e_before = degree_1(e_x, e_keep, more, BASIS, SQUASH, MASKED)
            # The next samples: of the next phase, or of the next column tap, or of further channels. They come while
            # the products of all degrees run.
            if phase + 1 == PHASES:
                u_w, c = next_tap(u_w, c, KERNEL_W, CHANNELS)
            down, right = (phase + 1) % PHASES * dilation_h, u_w * dilation_w
            move = down * stride_xh + right * stride_xw + c
            left = in_channels - c
            keep, x = load(x_main + move, at_h + down, at_w + right, offs_c, in_h, in_w, left, EVEN_C)
            if EXTRA > 0:
                e_keep, e_x = load(x_more + move, e_h + down, e_w + right, more_c, in_h, in_w, left, EVEN_C)
            for degree in gl.static_range(1, DEGREES + 1):
                if degree > 1:
                    p, before = next_degree(s, p, before, degree - 1, BASIS), p
                    if EXTRA > 0:
                        e_p, e_before = next_degree(e_s, e_p, e_before, degree - 1, BASIS), e_p
                if STAGES % BUFFERS == 0:
                    buffer = (phase * DEGREES + degree - 1) % BUFFERS
                begin = buffer * SPAN
                for first in gl.static_range(0, (KERNEL_H - phase + PHASES - 1) // PHASES, TOGETHER):
                    # What ran before the last RUNNING products is done here, and after the barrier everywhere: its
                    # buffer, and its places in the ring, are free.
                    acc = warpgroup_mma_wait(RUNNING, [acc])
                    acc = warpgroup_mma_init(acc)
                    if first == 0:
                        pixels_from(samples, begin, BLOCK_M).store(p.to(dtype))
                        if EXTRA > 0:
                            pixels_from(samples, begin + SLOTS, EXTRA * LANES).store(e_p.to(dtype))
                        fence_async_shared()
                    barrier()
                    # The weights of a later group of products are queued, in the place of those that are done.
                    group = position(phase, degree, first, KERNEL_H, PHASES, DEGREES, TOGETHER)
                    place, after, free, parity = places_of(group, turn, place, parity, GROUPS, RING)
                    coming = copy_weights(
                        w_desc, weights, full, coming, free, first_n, tiles, TOGETHER, BLOCK_N,
                        products(phase, degree, first, AHEAD, KERNEL_H, PHASES, DEGREES, TOGETHER),
                    )  # fmt: skip
                    mbarrier.wait(full.index(place), parity)
                    acc = multiply(
                        acc, samples, weights, begin + first * STEP, place * TOGETHER, STEP, BLOCK_M,
                        products(phase, degree, first, 0, KERNEL_H, PHASES, DEGREES, TOGETHER),
                    )  # fmt: skip
                    if GROUPS % RING > 0:
                        parity = gl.where(place == RING - 1, parity ^ 1, parity)
                        place = after
                if STAGES % BUFFERS > 0:
                    buffer = gl.where(buffer == BUFFERS - 1, 0, buffer + 1)
    total = warpgroup_mma_wait(0, [acc])
    for i in gl.static_range(RING):
        mbarrier.invalidate(full.index(i))
    write(
        total, first_slot, first_n, bias_ptr, y_ptr, slots, lines, pairs, out_channels, out_h, out_w,
        first_h, last_h, first_w, last_w, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
        num_warps, BIAS, INT64,
    )  # fmt: skip


@jit
def barriers_of(RING: gl.constexpr):
    """A barrier for each place of a ring."""
    full = gl.allocate_shared_memory(gl.int64, [RING, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(RING):
        mbarrier.init(full.index(i), count=1)
    fence_async_shared()
    barrier()
    return full


@jit
def windows_of(
    x_ptr, first_slot, slots, lines, pairs, out_w, stride_h, stride_w, padding_h, padding_w,
    stride_xn, stride_xh, stride_xw, layout: gl.constexpr,
    AFTER: gl.constexpr, ROWS: gl.constexpr, WIDTH: gl.constexpr, INT64: gl.constexpr,
):  # fmt: skip
    """Pointers to where the windows of ROWS pixels begin, AFTER slots on; their rows, columns and WIDTH channels."""
    offs_c = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, layout))
    rows = gl.arange(0, ROWS, layout=gl.SliceLayout(1, layout))
    image, y_h, y_w, there = pixel_of(first_slot + AFTER + rows // LANES, rows % LANES, slots, lines, pairs, out_w)
    at_h, at_w = gl.where(there, y_h * stride_h - padding_h, FAR), y_w * stride_w - padding_w
    offs_x = offset(image, at_h, at_w, stride_xn, stride_xh, stride_xw, INT64)
    return x_ptr + (offs_x[:, None] + offs_c[None, :]), at_h, at_w, offs_c


@jit
def pixel_of(slot, lane, slots, lines, pairs, out_w):
    """The image, row and column of a slot's lane, and whether there is such a pixel, but for rows to discard."""
    pair = slot // lines * LANES + lane
    return pair // out_w, slot % lines, pair % out_w, (slot < slots) & (pair < pairs)


@jit
def offset(image, h, w, stride_n, stride_h, stride_w, INT64: gl.constexpr):
    """How far pixels lie from the first."""
    if INT64:
        image, h, w = image.to(gl.int64), h.to(gl.int64), w.to(gl.int64)
    return image * stride_n + h * stride_h + w * stride_w


@jit
def load(pointers, at_h, at_w, offs_c, in_h, in_w, channels, EVEN_C: gl.constexpr):
    """Which rows of a tile show samples rather than padding, and the samples of 64 channels."""
    keep = (at_h >= 0) & (at_h < in_h) & (at_w >= 0) & (at_w < in_w) & (channels > 0)
    mask = keep[:, None]
    if not EVEN_C:
        mask = mask & (offs_c < channels)[None, :]
    return keep, gl.load(pointers, mask=mask, other=0)


@jit
def next_tap(u_w, c, KERNEL_W: gl.constexpr, WIDTH: gl.constexpr):
    """The next column tap, or the first of the next WIDTH channels."""
    u_w += 1
    c = gl.where(u_w == KERNEL_W, c + WIDTH, c)
    u_w = gl.where(u_w == KERNEL_W, 0, u_w)
    return u_w, c


@jit
def pixels_from(samples, slot, ROWS: gl.constexpr):
    """The samples of ROWS pixels, from a slot on."""
    return samples.index(slot)._reinterpret(samples.dtype, [ROWS, CHANNELS], FLAT)


@jit
def copy_weights(
    w_desc, weights, full, tile, place, first_n, tiles,
    TOGETHER: gl.constexpr, BLOCK_N: gl.constexpr, COUNT: gl.constexpr,
):  # fmt: skip
    """Queue the copies of COUNT tiles of weights, BLOCK_N outputs by 64 channels; which come next."""
    go = tile < tiles
    mbarrier.expect(full.index(place), COUNT * BLOCK_N * CHANNELS * 2, pred=go)
    for i in gl.static_range(COUNT):
        tma.async_copy_global_to_shared(
            w_desc, [first_n, (tile + i) * CHANNELS], full.index(place), weights.index(place * TOGETHER + i), pred=go
        )
    return tile + COUNT


@jit
def places_of(group: gl.constexpr, turn, place, parity, GROUPS: gl.constexpr, RING: gl.constexpr):
    """The places of a group's weights, of the next one's, and of those RING - 2 groups later; a parity to wait for."""
    AHEAD: gl.constexpr = RING - 2
    if GROUPS % RING == 0:  # each group has a place of its own
        place, after, free = group % RING, (group + 1) % RING, (group + AHEAD) % RING
        parity = (turn * (GROUPS // RING) + group // RING) % 2
    else:
        after = gl.where(place == RING - 1, 0, place + 1)
        free = after if AHEAD == 1 else gl.where(place > 1, place - 2, place + AHEAD)
    return place, after, free, parity


@jit
def multiply(
    acc, samples, weights, slot, tile, STEP: gl.constexpr, BLOCK_M: gl.constexpr, COUNT: gl.constexpr,
    SWAPPED: gl.constexpr = False,
):  # fmt: skip
    """Queue COUNT products: of pixels, each time STEP slots further on, by tiles of weights, or SWAPPED."""
    for i in gl.static_range(COUNT):
        shown, weight = pixels_from(samples, slot + i * STEP, BLOCK_M), weights.index(tile + i)
        if SWAPPED:
            acc = warpgroup_mma(weight, shown.permute((1, 0)), acc, is_async=True)
        else:
            acc = warpgroup_mma(shown, weight.permute((1, 0)), acc, is_async=True)
    return acc


@jit
def write(
    total, first_slot, first_n, bias_ptr, y_ptr, slots, lines, pairs, out_channels, out_h, out_w,
    first_h, last_h, first_w, last_w, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
    WARPS: gl.constexpr, BIAS: gl.constexpr, INT64: gl.constexpr,
):  # fmt: skip
    """Add the bias to sums of some slots by some outputs, round them, and write those that are outputs."""
    out: gl.constexpr = out_layout(total.shape[1], WARPS)
    total = gl.convert_layout(total, out)
    rows = gl.arange(0, total.shape[0], layout=gl.SliceLayout(1, out))
    offs_o = first_n + gl.arange(0, total.shape[1], layout=gl.SliceLayout(0, out))
    image, y_h, y_w, there = pixel_of(first_slot + rows // LANES, rows % LANES, slots, lines, pairs, out_w)
    mask = (there & (y_h < out_h))[:, None] & (offs_o < out_channels)[None, :]
    if BIAS:
        kind_h = gl.minimum(y_h, first_h) + gl.maximum(y_h - last_h, 0)
        kind_w = gl.minimum(y_w, first_w) + gl.maximum(y_w - last_w, 0)
        b_rows = kind_h * stride_bh + kind_w * stride_bw
        bias = gl.load(bias_ptr + (b_rows[:, None] + offs_o[None, :]), mask=mask, other=0)
        total += bias.to(gl.float32)
    offs_y = offset(image, y_h, y_w, stride_yn, stride_yh, stride_yw, INT64)
    gl.store(y_ptr + (offs_y[:, None] + offs_o[None, :]), total.to(y_ptr.dtype.element_ty), mask=mask)


@constexpr_function
def out_layout(block_n, warps):
    """How outputs lie where they are written: 16 bytes of channels a thread."""
    across = min(block_n // 8, 32)
    return gl.BlockedLayout([1, 8], [32 // across, across], [warps, 1], [1, 0])


@constexpr_function
def products(phase, degree, first, ahead, KERNEL_H, PHASES, DEGREES, TOGETHER):
    """How many products the group has that comes so many groups after one that begins with a row tap of a phase."""
    every = groups_of(KERNEL_H, PHASES, DEGREES, TOGETHER)
    at = position(phase, degree, first, KERNEL_H, PHASES, DEGREES, TOGETHER) + ahead
    return every[at % len(every)][3]


@constexpr_function
def position(phase, degree, first, KERNEL_H, PHASES, DEGREES, TOGETHER):
    """Which group of products begins with a row tap of a phase; all of them, for one phase more than there is."""
    every = groups_of(KERNEL_H, PHASES, DEGREES, TOGETHER)
    return next((i for i, group in enumerate(every) if group[:3] == (phase, degree, first)), len(every))


@constexpr_function
def groups_of(kernel_h, phases, degrees, together):
    """The phase, the degree, the first row tap and the products of each group, in order.

    Examples
    --------
    >>> groups_of(3, 2, 1, 1)
    [(0, 1, 0, 1), (0, 1, 1, 1), (1, 1, 0, 1)]
    """
    return [
        (phase, degree, first, min(together, taps - first))
        for phase, taps in enumerate([(kernel_h - phase + phases - 1) // phases for phase in range(phases)])
        for degree in range(1, degrees + 1)
        for first in range(0, taps, together)
    ]


@jit
def degree_1(x, keep, layout: gl.constexpr, BASIS: gl.constexpr, SQUASH: gl.constexpr, MASKED: gl.constexpr):
    """What multiplies a degree in the step to the next, degree 1, and degree 0.

    With MASKED degree 0 is zero in padding, and so is each other: every step is linear in the degrees before.
    """
    t = x.to(gl.float32)
    if SQUASH == "tanh":
        t = tanh(t, x.dtype)
    ones = gl.full(x.shape, 1.0, gl.float32, layout)
    if MASKED:
        ones = gl.where(keep[:, None], ones, 0.0)
    s = t
    if BASIS == "chebyshev" or BASIS == "chebyshev2":
        s = t + t
    p = t
    if BASIS == "chebyshev2":
        p = s
    return s, p, ones


@jit
def next_degree(s, p, before, n: gl.constexpr, BASIS: gl.constexpr):
    """Degree n + 1 from the two before."""
    if BASIS == "monomial":
        after = s * p
    elif BASIS == "legendre":
        after = s * p * ((2.0 * n + 1.0) / (n + 1.0)) - before * (n / (n + 1.0))
    elif BASIS == "hermite":
        after = s * p - before * (n * 1.0)
    else:
        after = s * p - before
    return after


@jit
def tanh(x, dtype: gl.constexpr):
    """One instruction, wrong by 2**-11 at most, where the result is rounded to the 8 bits of bfloat16."""
    if dtype == gl.bfloat16:
        t = gl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=gl.float32, is_pure=True, pack=1)
    else:
        t = exactly_squashed(x, "tanh")
    return t
