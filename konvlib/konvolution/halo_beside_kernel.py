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
    FAR,
    LANES,
    barrier,
    constexpr_function,
    copy_weights,
    degree_1,
    fence_async_shared,
    gl,
    jit,
    load,
    mbarrier,
    next_degree,
    offset,
    pixel_of,
    position,
    products,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
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
    flat: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    main: gl.constexpr = spread_of(BLOCK_M, WIDTH, num_warps)
    dtype: gl.constexpr = x_ptr.dtype.element_ty
    blocks_n = gl.cdiv(out_channels, BLOCK_N)
    first_n = gl.program_id(0) % blocks_n * BLOCK_N
    first_slot = gl.program_id(0) // blocks_n * SLOTS
    samples = gl.allocate_shared_memory(dtype, [BUFFERS * SPAN, LANES, CHANNELS], flat)
    weights = gl.allocate_shared_memory(dtype, [RING * TOGETHER, BLOCK_N, CHANNELS], flat)
    full = gl.allocate_shared_memory(gl.int64, [RING, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(RING):
        mbarrier.init(full.index(i), count=1)
    fence_async_shared()
    barrier()
    coming = 0
    for i in gl.static_range(AHEAD):
        coming = copy_weights(
            w_desc, weights, full, coming, i, first_n, tiles, TOGETHER, BLOCK_N,
            products(0, 1, 0, i, KERNEL_H, PHASES, ATOMS, TOGETHER),
        )  # fmt: skip
    offs_c = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, main))
    rows = gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, main))
    image, y_h, y_w, there = pixel_of(first_slot + rows // LANES, rows % LANES, slots, lines, pairs, out_w)
    at_h, at_w = gl.where(there, y_h * stride_h - padding_h, FAR), y_w * stride_w - padding_w
    x_main = x_ptr + (offset(image, at_h, at_w, stride_xn, stride_xh, stride_xw, INT64)[:, None] + offs_c[None, :])
    keep, x = load(x_main, at_h, at_w, offs_c, in_h, in_w, in_channels, EVEN_C)
    if EXTRA > 0:
        more: gl.constexpr = spread_of(EXTRA * LANES, WIDTH, num_warps)
        more_c = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, more))
        e_rows = gl.arange(0, EXTRA * LANES, layout=gl.SliceLayout(1, more))
        e_slot = first_slot + SLOTS + e_rows // LANES
        e_image, e_y_h, e_y_w, e_there = pixel_of(e_slot, e_rows % LANES, slots, lines, pairs, out_w)
        e_h, e_w = gl.where(e_there, e_y_h * stride_h - padding_h, FAR), e_y_w * stride_w - padding_w
        e_offs = offset(e_image, e_h, e_w, stride_xn, stride_xh, stride_xw, INT64)
        x_more = x_ptr + (e_offs[:, None] + more_c[None, :])
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
                u_w += 1
                c = gl.where(u_w == KERNEL_W, c + WIDTH, c)
                u_w = gl.where(u_w == KERNEL_W, 0, u_w)
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
                        samples.index(begin)._reinterpret(dtype, [BLOCK_M, CHANNELS], flat).store(atoms)
                        if EXTRA > 0:
                            halo = samples.index(begin + SLOTS)
                            halo._reinterpret(dtype, [EXTRA * LANES, CHANNELS], flat).store(e_atoms)
                        fence_async_shared()
                    barrier()
                    # The weights of a later group of products are queued, in the place of those that are done.
                    if GROUPS % RING == 0:  # each group has a place of its own
                        group = position(phase, atom, first, KERNEL_H, PHASES, ATOMS, TOGETHER)
                        place, free = group % RING, (group + AHEAD) % RING
                        parity = (turn * (GROUPS // RING) + group // RING) % 2
                    else:
                        after = gl.where(place == RING - 1, 0, place + 1)
                        free = after if AHEAD == 1 else gl.where(place > 1, place - 2, place + AHEAD)
                    coming = copy_weights(
                        w_desc, weights, full, coming, free, first_n, tiles, TOGETHER, BLOCK_N,
                        products(phase, atom, first, AHEAD, KERNEL_H, PHASES, ATOMS, TOGETHER),
                    )  # fmt: skip
                    mbarrier.wait(full.index(place), parity)
                    for i in gl.static_range(products(phase, atom, first, 0, KERNEL_H, PHASES, ATOMS, TOGETHER)):
                        shown = samples.index(begin + (first + i) * STEP)
                        shown = shown._reinterpret(dtype, [BLOCK_M, CHANNELS], flat)
                        weight = weights.index(place * TOGETHER + i)
                        if SWAPPED:
                            acc = warpgroup_mma(weight, shown.permute((1, 0)), acc, is_async=True)
                        else:
                            acc = warpgroup_mma(shown, weight.permute((1, 0)), acc, is_async=True)
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
    # Where the outputs lie: 16 bytes of channels a thread.
    ROW: gl.constexpr = BLOCK_N // 8
    out: gl.constexpr = gl.BlockedLayout([1, 8], [32 // ROW, ROW], [num_warps, 1], [1, 0])
    total = gl.convert_layout(total, out)
    rows = gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, out))
    offs_o = first_n + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, out))
    image, y_h, y_w, there = pixel_of(first_slot + rows // LANES, rows % LANES, slots, lines, pairs, out_w)
    mask = (there & (y_h < out_h))[:, None] & (offs_o < out_channels)[None, :]
    if BIAS:
        kind_h = gl.minimum(y_h, first_h) + gl.maximum(y_h - last_h, 0)
        kind_w = gl.minimum(y_w, first_w) + gl.maximum(y_w - last_w, 0)
        b_rows = kind_h * stride_bh + kind_w * stride_bw
        bias = gl.load(bias_ptr + (b_rows[:, None] + offs_o[None, :]), mask=mask, other=0)
        total += bias.to(gl.float32)
    offs_y = offset(image, y_h, y_w, stride_yn, stride_yh, stride_yw, INT64)
    gl.store(y_ptr + (offs_y[:, None] + offs_o[None, :]), total.to(dtype), mask=mask)


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
