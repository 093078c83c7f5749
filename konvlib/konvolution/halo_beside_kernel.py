"""Konvolution by a halo, degrees side by side: a Gluon kernel for few channels, or few outputs.

It is the kernel of `halo_kernel` but for what the 64 columns of an atom are: 16 channels of four degrees, or 32 of two,
where there it is 64 channels of one. So few channels leave no column empty. And a thread keeps fewer samples, so that a
tile may have 256 pixels: few outputs need many, since each tile of pixels reads all weights.

Products are pixels by outputs, or, swapped, outputs by pixels: of 64 outputs and 256 pixels the tensor cores then read
less of shared memory.
"""

from __future__ import annotations

from konvlib.konvolution.halo_kernel import (
    CHANNELS,
    FLAT,
    LANES,
    barrier,
    barriers_of,
    constexpr_function,
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
def konv_beside_kernel(
    x_ptr, w_desc, bias_ptr, y_ptr,
    # As for `konv_halo_kernel`.
    slots, lines, pairs, tiles, in_channels, out_channels, in_h, in_w, out_h, out_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    first_h, last_h, first_w, last_w,
    stride_xn, stride_xh, stride_xw, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
    KERNEL_H: gl.constexpr, KERNEL_W: gl.constexpr, PHASES: gl.constexpr, STEP: gl.constexpr,
    DEGREES: gl.constexpr, BASIS: gl.constexpr, SQUASH: gl.constexpr, MASKED: gl.constexpr,
    BIAS: gl.constexpr, EVEN_C: gl.constexpr, INT64: gl.constexpr,
    # An atom has WIDTH channels of 64 / WIDTH degrees. SWAPPED has outputs as the rows of products.
    WIDTH: gl.constexpr, SWAPPED: gl.constexpr,
    SLOTS: gl.constexpr, EXTRA: gl.constexpr, BLOCK_N: gl.constexpr, BUFFERS: gl.constexpr, RING: gl.constexpr,
    TOGETHER: gl.constexpr, RUNNING: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_{u_w, u_h, k, c} p_k(x[n, c, s i + d u - p]) kappa[o, k, c, u]."""
    BLOCK_M: gl.constexpr = SLOTS * LANES
    SPAN: gl.constexpr = SLOTS + EXTRA
    AHEAD: gl.constexpr = RING - 2
    GROUP: gl.constexpr = CHANNELS // WIDTH
    # How many atoms hold all degrees of a sample; the kernel of one degree each has as many stages as degrees.
    ATOMS: gl.constexpr = (DEGREES + GROUP - 1) // GROUP
    STAGES: gl.constexpr = PHASES * ATOMS
    GROUPS: gl.constexpr = position(PHASES, 1, 0, KERNEL_H, PHASES, ATOMS, TOGETHER)
    main: gl.constexpr = spread_of(BLOCK_M, WIDTH, num_warps)
    dtype: gl.constexpr = x_ptr.dtype.element_ty
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
            products(0, 1, 0, i, KERNEL_H, PHASES, ATOMS, TOGETHER),
        )  # fmt: skip
    x_main, at_h, at_w, offs_c = windows_of(
        x_ptr, first_slot, slots, lines, pairs, out_w, stride_h, stride_w, padding_h, padding_w,
        stride_xn, stride_xh, stride_xw, main, 0, BLOCK_M, WIDTH, INT64,
    )  # fmt: skip
    keep, x = load(x_main, at_h, at_w, offs_c, in_h, in_w, in_channels, EVEN_C)
    if EXTRA > 0:
        more: gl.constexpr = spread_of(EXTRA * LANES, WIDTH, num_warps)
        x_more, e_h, e_w, more_c = windows_of(
            x_ptr, first_slot, slots, lines, pairs, out_w, stride_h, stride_w, padding_h, padding_w,
            stride_xn, stride_xh, stride_xw, more, SLOTS, EXTRA * LANES, WIDTH, INT64,
        )  # fmt: skip
        e_keep, e_x = load(x_more, e_h, e_w, more_c, in_h, in_w, in_channels, EVEN_C)
    if SWAPPED:
        acc_layout: gl.constexpr = gl.NVMMADistributedLayout(
            [3, 0], [4, num_warps // 4], [16, BLOCK_M * 4 // num_warps, 16]
        )
        acc = warpgroup_mma_init(gl.zeros([BLOCK_N, BLOCK_M], gl.float32, acc_layout))
    else:
        acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_N, 16])
        acc = warpgroup_mma_init(gl.zeros([BLOCK_M, BLOCK_N], gl.float32, acc_layout))
    place, parity, buffer, u_w, c = 0, 0, 0, 0, 0
    for turn in range(gl.cdiv(in_channels, WIDTH) * KERNEL_W):
        for phase in gl.static_range(PHASES):
            s, p, before = degree_1(x, keep, main, BASIS, SQUASH, MASKED)
            if EXTRA > 0:
                e_s, e_p, e_before = degree_1(e_x, e_keep, more, BASIS, SQUASH, MASKED)
            # The next samples: of the next phase, or of the next column tap, or of further channels.
            if phase + 1 == PHASES:
                u_w, c = next_tap(u_w, c, KERNEL_W, WIDTH)
            down, right = (phase + 1) % PHASES * dilation_h, u_w * dilation_w
            move = down * stride_xh + right * stride_xw + c
            left = in_channels - c
            keep, x = load(x_main + move, at_h + down, at_w + right, offs_c, in_h, in_w, left, EVEN_C)
            if EXTRA > 0:
                e_keep, e_x = load(x_more + move, e_h + down, e_w + right, more_c, in_h, in_w, left, EVEN_C)
            for atom in gl.static_range(1, ATOMS + 1):
                atoms, p, before = side_by_side(
                    s, p, before, (atom - 1) * GROUP + 1, main, DEGREES, BASIS, WIDTH, dtype
                )  # fmt: skip
                if EXTRA > 0:
                    e_atoms, e_p, e_before = side_by_side(
                        e_s, e_p, e_before, (atom - 1) * GROUP + 1, more, DEGREES, BASIS, WIDTH, dtype
                    )  # fmt: skip
                if STAGES % BUFFERS == 0:
                    buffer = (phase * ATOMS + atom - 1) % BUFFERS
                begin = buffer * SPAN
                for first in gl.static_range(0, (KERNEL_H - phase + PHASES - 1) // PHASES, TOGETHER):
                    # What ran before the last RUNNING products is done here, and after the barrier everywhere: its
                    # buffer, and its places in the ring, are free.
                    acc = warpgroup_mma_wait(RUNNING, [acc])
                    acc = warpgroup_mma_init(acc)
                    if first == 0:
                        pixels_from(samples, begin, BLOCK_M).store(atoms)
                        if EXTRA > 0:
                            pixels_from(samples, begin + SLOTS, EXTRA * LANES).store(e_atoms)
                        fence_async_shared()
                    barrier()
                    # The weights of a later group of products are queued, in the place of those that are done.
                    group = position(phase, atom, first, KERNEL_H, PHASES, ATOMS, TOGETHER)
                    place, after, free, parity = places_of(group, turn, place, parity, GROUPS, RING)
                    coming = copy_weights(
                        w_desc, weights, full, coming, free, first_n, tiles, TOGETHER, BLOCK_N,
                        products(phase, atom, first, AHEAD, KERNEL_H, PHASES, ATOMS, TOGETHER),
                    )  # fmt: skip
                    mbarrier.wait(full.index(place), parity)
                    acc = multiply(
                        acc, samples, weights, begin + first * STEP, place * TOGETHER, STEP, BLOCK_M,
                        products(phase, atom, first, 0, KERNEL_H, PHASES, ATOMS, TOGETHER), SWAPPED,
                    )  # fmt: skip
                    if GROUPS % RING > 0:
                        parity = gl.where(place == RING - 1, parity ^ 1, parity)
                        place = after
                if STAGES % BUFFERS > 0:
                    buffer = gl.where(buffer == BUFFERS - 1, 0, buffer + 1)
    total = warpgroup_mma_wait(0, [acc])
    for i in gl.static_range(RING):
        mbarrier.invalidate(full.index(i))
    if SWAPPED:
        total = total.permute((1, 0))
    write(
        total, first_slot, first_n, bias_ptr, y_ptr, slots, lines, pairs, out_channels, out_h, out_w,
        first_h, last_h, first_w, last_w, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
        num_warps, BIAS, INT64,
    )  # fmt: skip


@constexpr_function
def spread_of(rows, width, warps):
    """How samples lie in threads: some channels of a pixel each, 16 bytes where there are so many samples.

    Eight threads that write together meet no bank twice. Their pixels differ in those bits by which the swizzle moves
    what lies beside each other: with two columns of 16 bytes they are 0, 2, 4 and 6, with four of them 0 and 4.
    """
    across, down, threads = width.bit_length() - 1, rows.bit_length() - 1, 4 + warps.bit_length()  # in bits
    own = min(max(across + down - threads, 1), 3)
    columns = [[0, 1 << bit] for bit in range(across)]
    pixels = [[1 << bit, 0] for bit in (*range(across - 3, 3), *range(across - 3), *range(3, down))]
    others = [*columns[own:], *pixels]
    others += [[0, 0]] * (threads - len(others))  # threads that do the same
    return gl.DistributedLinearLayout(
        columns[:own] + others[threads:], others[:5], others[5:threads], block_bases=[], shape=[rows, width]
    )


@jit
def side_by_side(
    s, p, before, n: gl.constexpr, layout: gl.constexpr,
    DEGREES: gl.constexpr, BASIS: gl.constexpr, WIDTH: gl.constexpr, dtype: gl.constexpr,
):  # fmt: skip
    """Degree n, which is p, and those after it as columns of one block; the degree after them, and that before it."""
    first = p.to(dtype)
    p, before = degree_after(s, p, before, n, layout, DEGREES, BASIS)
    second = p.to(dtype)
    p, before = degree_after(s, p, before, n + 1, layout, DEGREES, BASIS)
    block = gl.join(first, second)
    if WIDTH == 16:
        third = p.to(dtype)
        p, before = degree_after(s, p, before, n + 2, layout, DEGREES, BASIS)
        fourth = p.to(dtype)
        p, before = degree_after(s, p, before, n + 3, layout, DEGREES, BASIS)
        block = gl.join(block, gl.join(third, fourth)).permute((0, 3, 2, 1))
    else:
        block = block.permute((0, 2, 1))
    return block.reshape([first.shape[0], CHANNELS]), p, before


@jit
def degree_after(s, p, before, n: gl.constexpr, layout: gl.constexpr, DEGREES: gl.constexpr, BASIS: gl.constexpr):
    """Degree n + 1 and degree n; zeros after the last degree."""
    after = next_degree(s, p, before, n, BASIS) if n < DEGREES else gl.full(p.shape, 0.0, gl.float32, layout)
    return after, p
