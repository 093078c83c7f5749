"""Konvolution by a halo, in equal shares: a Gluon kernel whose programs do the same number of turns, and their sums.

It is the kernel of `halo_kernel` but for who does what. There a program does one tile, so that all wait for those that
have one more. Here the turns of all tiles lie in one line, which is cut into shares of equal length, one for each
program. The weights of the next tile are queued while the last products of one run.

What a program did of a tile that it shares with others is written to a place of its own. A second kernel adds these
parts in their order: no program waits for another, and each run gives the same bits.
"""

from __future__ import annotations

from konvlib.konvolution.halo_kernel import (
    CHANNELS,
    FLAT,
    LANES,
    barrier,
    barriers_of,
    copy_weights,
    degree_1,
    fence_async_shared,
    gl,
    jit,
    load,
    mbarrier,
    multiply,
    next_degree,
    next_tap,
    out_layout,
    pixels_from,
    places_of,
    position,
    products,
    warpgroup_mma_init,
    warpgroup_mma_wait,
    windows_of,
    write,
)


@jit
def konv_balanced_kernel(
    # Each program does SHARE turns, the last one what is left. It has two parts in memory.
    parts_ptr, share,
    # As for `konv_halo_kernel`.
    x_ptr, w_desc, bias_ptr, y_ptr,
    slots, lines, pairs, tiles, in_channels, out_channels, in_h, in_w, out_h, out_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    first_h, last_h, first_w, last_w,
    stride_xn, stride_xh, stride_xw, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
    KERNEL_H: gl.constexpr, KERNEL_W: gl.constexpr, PHASES: gl.constexpr, STEP: gl.constexpr,
    DEGREES: gl.constexpr, BASIS: gl.constexpr, SQUASH: gl.constexpr, MASKED: gl.constexpr,
    BIAS: gl.constexpr, EVEN_C: gl.constexpr, INT64: gl.constexpr,
    SLOTS: gl.constexpr, EXTRA: gl.constexpr, BLOCK_N: gl.constexpr, BUFFERS: gl.constexpr, RING: gl.constexpr,
    TOGETHER: gl.constexpr, RUNNING: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_{u_w, u_h, k, c} p_k(x[n, c, s i + d u - p]) kappa[o, k, c, u], or parts of it."""
    BLOCK_M: gl.constexpr = SLOTS * LANES
    SPAN: gl.constexpr = SLOTS + EXTRA
    AHEAD: gl.constexpr = RING - 2
    STAGES: gl.constexpr = PHASES * DEGREES
    GROUPS: gl.constexpr = position(PHASES, 1, 0, KERNEL_H, PHASES, DEGREES, TOGETHER)
    main: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [num_warps, 1], [1, 0])
    more: gl.constexpr = gl.BlockedLayout([1, 4], [2, 16], [num_warps, 1], [1, 0])
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_N, 16])
    dtype: gl.constexpr = x_ptr.dtype.element_ty
    # Which turns are this program's? Those of a tile follow each other, and the tiles of the same pixels.
    turns = gl.cdiv(in_channels, CHANNELS) * KERNEL_W
    blocks_n = gl.cdiv(out_channels, BLOCK_N)
    start = gl.program_id(0) * share
    stop = gl.minimum(start + share, gl.cdiv(slots, SLOTS) * blocks_n * turns)
    samples = gl.allocate_shared_memory(dtype, [BUFFERS * SPAN, LANES, CHANNELS], FLAT)
    weights = gl.allocate_shared_memory(dtype, [RING * TOGETHER, BLOCK_N, CHANNELS], FLAT)
    full = barriers_of(RING)
    # The weights to queue next: their tile, their outputs, and for how many turns there are more.
    coming, coming_n, left = start % turns * (KERNEL_H * DEGREES), start // turns % blocks_n * BLOCK_N, stop - start
    for i in gl.static_range(AHEAD):
        coming, coming_n, left = queue_weights(
            w_desc, weights, full, coming, coming_n, left, i, tiles, out_channels, TOGETHER, BLOCK_N,
            products(0, 1, 0, i, KERNEL_H, PHASES, DEGREES, TOGETHER), i % GROUPS == GROUPS - 1,
        )  # fmt: skip
    place, parity, buffer = 0, 0, 0
    for tile in range(start // turns, gl.cdiv(stop, turns)):
        first_turn, last_turn = gl.maximum(start, tile * turns), gl.minimum(stop, tile * turns + turns)
        first_slot, first_n = tile // blocks_n * SLOTS, tile % blocks_n * BLOCK_N
        u_w, c = first_turn % turns % KERNEL_W, first_turn % turns // KERNEL_W * CHANNELS
        right = u_w * dilation_w
        x_main, at_h, at_w, offs_c = windows_of(
            x_ptr, first_slot, slots, lines, pairs, out_w, stride_h, stride_w, padding_h, padding_w,
            stride_xn, stride_xh, stride_xw, main, 0, BLOCK_M, CHANNELS, INT64,
        )  # fmt: skip
        move = right * stride_xw + c
        keep, x = load(x_main + move, at_h, at_w + right, offs_c, in_h, in_w, in_channels - c, EVEN_C)
        if EXTRA > 0:
            x_more, e_h, e_w, more_c = windows_of(
                x_ptr, first_slot, slots, lines, pairs, out_w, stride_h, stride_w, padding_h, padding_w,
                stride_xn, stride_xh, stride_xw, more, SLOTS, EXTRA * LANES, CHANNELS, INT64,
            )  # fmt: skip
            e_keep, e_x = load(x_more + move, e_h, e_w + right, more_c, in_h, in_w, in_channels - c, EVEN_C)
        acc = warpgroup_mma_init(gl.zeros([BLOCK_M, BLOCK_N], gl.float32, acc_layout))
        # The rings of buffers and of weights go on from tile to tile.
        for turn in range(first_turn - start, last_turn - start):
            for phase in gl.static_range(PHASES):
                s, p, before = degree_1(x, keep, main, BASIS, SQUASH, MASKED)
                if EXTRA > 0:
                    e_s, e_p, e_before = degree_1(e_x, e_keep, more, BASIS, SQUASH, MASKED)
                # The next samples: of the next phase, or of the next column tap, or of further channels. They come
                # while the products of all degrees run.
                if phase + 1 == PHASES:
                    u_w, c = next_tap(u_w, c, KERNEL_W, CHANNELS)
                down, right = (phase + 1) % PHASES * dilation_h, u_w * dilation_w
                move = down * stride_xh + right * stride_xw + c
                rest = in_channels - c
                keep, x = load(x_main + move, at_h + down, at_w + right, offs_c, in_h, in_w, rest, EVEN_C)
                if EXTRA > 0:
                    e_keep, e_x = load(x_more + move, e_h + down, e_w + right, more_c, in_h, in_w, rest, EVEN_C)
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
                        coming, coming_n, left = queue_weights(
                            w_desc, weights, full, coming, coming_n, left, free, tiles, out_channels, TOGETHER, BLOCK_N,
                            products(phase, degree, first, AHEAD, KERNEL_H, PHASES, DEGREES, TOGETHER),
                            (group + AHEAD) % GROUPS == GROUPS - 1,
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
        if last_turn - first_turn == turns:
            write(
                total, first_slot, first_n, bias_ptr, y_ptr, slots, lines, pairs, out_channels, out_h, out_w,
                first_h, last_h, first_w, last_w, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
                num_warps, BIAS, INT64,
            )  # fmt: skip
        else:
            part = gl.program_id(0) * 2 + gl.where(tile * turns < start, 0, 1)
            gl.store(part_of(parts_ptr, part, 0, BLOCK_M, BLOCK_M, BLOCK_N, acc_layout), total)
    for i in gl.static_range(RING):
        mbarrier.invalidate(full.index(i))


@jit
def add_shares_kernel(
    parts_ptr, share, turns, bias_ptr, y_ptr,
    slots, lines, pairs, out_channels, out_h, out_w, first_h, last_h, first_w, last_w,
    stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
    # A program adds ROWS slots of a tile.
    BIAS: gl.constexpr, INT64: gl.constexpr, SLOTS: gl.constexpr, BLOCK_N: gl.constexpr, ROWS: gl.constexpr,
    num_warps: gl.constexpr,
):  # fmt: skip
    """Add the parts of each tile that several programs did, in their order, and write it."""
    out: gl.constexpr = out_layout(BLOCK_N, num_warps)
    # Whose share begins within which tile? The first of those that begin in a tile stands for it.
    second = gl.program_id(0) // (SLOTS // ROWS) + 1
    rows = gl.program_id(0) % (SLOTS // ROWS) * ROWS
    tile = second * share // turns
    if (second * share > tile * turns) & (second * share - share <= tile * turns):
        blocks_n = gl.cdiv(out_channels, BLOCK_N)
        # The part of the program before is its last, those of others are their first.
        total = gl.load(part_of(parts_ptr, second * 2 - 1, rows, ROWS * LANES, SLOTS * LANES, BLOCK_N, out))
        for program in range(second, gl.cdiv((tile + 1) * turns, share)):
            total += gl.load(part_of(parts_ptr, program * 2, rows, ROWS * LANES, SLOTS * LANES, BLOCK_N, out))
        write(
            total, tile // blocks_n * SLOTS + rows, tile % blocks_n * BLOCK_N, bias_ptr, y_ptr,
            slots, lines, pairs, out_channels, out_h, out_w, first_h, last_h, first_w, last_w,
            stride_bh, stride_bw, stride_yn, stride_yh, stride_yw, num_warps, BIAS, INT64,
        )  # fmt: skip


@jit
def part_of(
    parts_ptr, part, first_slot, ROWS: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    layout: gl.constexpr,
):  # fmt: skip
    """Where rows of a part lie, from a slot on."""
    rows = gl.arange(0, ROWS, layout=gl.SliceLayout(1, layout))
    offs_n = gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, layout))
    begin = part * (BLOCK_M * BLOCK_N) + first_slot * (LANES * BLOCK_N)
    return parts_ptr + begin + (rows[:, None] * BLOCK_N + offs_n[None, :])


@jit
def queue_weights(
    w_desc, weights, full, coming, coming_n, left, place, tiles, out_channels,
    TOGETHER: gl.constexpr, BLOCK_N: gl.constexpr, COUNT: gl.constexpr, LAST: gl.constexpr,
):  # fmt: skip
    """Queue the weights of a group, if its turn is this program's; which come next.

    After the LAST group of a turn there is one turn less, and after all weights of a tile those of the next one come.
    """
    coming = copy_weights(
        w_desc, weights, full, coming, place, coming_n, gl.where(left > 0, tiles, 0), TOGETHER, BLOCK_N, COUNT
    )  # fmt: skip
    if LAST:
        left -= 1
        next_n = gl.where(coming_n + BLOCK_N < out_channels, coming_n + BLOCK_N, 0)
        coming_n = gl.where(coming == tiles, next_n, coming_n)
        coming = gl.where(coming == tiles, 0, coming)
    return coming, coming_n, left
