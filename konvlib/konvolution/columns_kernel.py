"""Konvolution's input gradient by columns of a degree and a channel, for the halves on Hopper: a Gluon kernel.

What each degree sends to a pixel is a transposed convolution of ``dy``, and all degrees take the same ``dy``: their
coefficients lie side by side, as the columns of one product. Once it is summed over taps and output channels, the
columns of a channel are summed with the slopes of their polynomials, in registers. So the gradient by the polynomials,
with as many channels more as there are degrees, is never written.

Boxes of ``dy`` are copied ahead, with zeros outside, through a ring of slots; inputs that leave the same remainder by
the stride are shown by the same taps. `konvlib.konvolution.columns` says which boxes, and in which order.
"""

from __future__ import annotations

from konvlib import runtime
from konvlib.konvolution.halo_kernel import exactly_squashed
from konvlib.layers.input_grad_hopper import taps_of_phase
from konvlib.runtime import barrier, gl, hopper

SIZES = (
    *("tiles", "blocks_c", "blocks_h", "blocks_w", "boxes", "phases", "order"),
    *("batch", "out_channels", "kernel_h", "kernel_w"),
    *(f"{name}_{axis}" for name in ("in", "stride", "padding", "dilation", "gcd", "inverse") for axis in "hw"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""


@runtime.gluon_jit(do_not_specialize=SIZES)
def konv_columns_kernel(
    dy_desc, w_desc, more_desc, x_ptr, dx_ptr,
    # All tiles: blocks of channels by boxes along rows, columns and in all by phases, and in which order those come.
    tiles, blocks_c, blocks_h, blocks_w, boxes, phases, order,
    # The layer.
    batch, in_channels, out_channels, in_h, in_w, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w,
    dilation_h, dilation_w, gcd_h, gcd_w, inverse_h, inverse_w,
    # Steps in memory. Channels lie together.
    stride_xn, stride_xh, stride_xw, stride_dxn, stride_dxh, stride_dxw,
    # The polynomials; a program has the MAIN first degrees side by side, and the REST, both powers of two.
    DEGREES: gl.constexpr, MAIN: gl.constexpr, REST: gl.constexpr, BASIS: gl.constexpr, SQUASH: gl.constexpr,
    STRIDED: gl.constexpr, EVEN_C: gl.constexpr, INT64: gl.constexpr,
    # Images, rows and columns of a box, its pixels, channels, products at a time, how many slots the ring has.
    BOX_N: gl.constexpr, BOX_H: gl.constexpr, BOX_W: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_C: gl.constexpr,
    BLOCK_K: gl.constexpr, SLOTS: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = sum_k p_k'(x[n, c, j]) sum_{u, o} dy[n, o, i] kappa[o, k, c, u] over s i + d u - p = j."""
    dtype: gl.constexpr = dy_desc.dtype
    flat_dy: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=2 * BLOCK_K, element_bitwidth=16, rank=2)
    main_sums: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, MAIN * BLOCK_C, 16])
    sums: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_C, 16])
    LANES: gl.constexpr = BLOCK_C // 8
    rows: gl.constexpr = gl.BlockedLayout([1, 8], [32 // LANES, LANES], [num_warps, 1], [1, 0])
    # A ring of slots that copies fill ahead, each with a barrier that tells when they have arrived.
    dy_smem = gl.allocate_shared_memory(dtype, [SLOTS, BOX_N, BOX_H, BOX_W, BLOCK_K], dy_desc.layout)
    w_smem = gl.allocate_shared_memory(dtype, [SLOTS, BLOCK_K, MAIN * BLOCK_C], w_desc.layout)
    more_smem = w_smem
    if REST > 0:
        more_smem = gl.allocate_shared_memory(dtype, [SLOTS, BLOCK_K, REST * BLOCK_C], w_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], hopper.mbarrier.MBarrierLayout())
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.init(full.index(i), count=1)
    hopper.fence_async_shared()
    barrier()
    # The first tile of this program, and its first steps.
    block, n, t_h, t_w, r_h, r_w, i_h, gap_h, i_w, gap_w, tap, next_row, next_tap, taps_w, steps = tile_of(
        gl.program_id(0), tiles, blocks_c, blocks_h, blocks_w, boxes, phases, order, out_channels, kernel_h, kernel_w,
        stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, gcd_h, gcd_w, inverse_h, inverse_w,
        (MAIN + REST) * BLOCK_C, BLOCK_K, BOX_N, BOX_H, BOX_W, STRIDED,
    )  # fmt: skip
    slot, turn, k, v_w, first_w, row = 0, 0, 0, 0, i_w, tap
    for i in gl.static_range(SLOTS - 1):
        k, v_w, i_h, i_w, row, tap = copy_step(
            dy_desc, w_desc, more_desc, dy_smem, w_smem, more_smem, full, i, i < steps,
            n, k, v_w, i_h, i_w, row, tap, first_w, gap_h, gap_w, next_row, next_tap, taps_w, out_channels,
            MAIN, REST, BLOCK_M, BLOCK_C, BLOCK_K,
        )  # fmt: skip
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        # The samples, 16 bytes of channels a thread; they come while products run.
        offs_m = gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, rows))
        offs_c = block * BLOCK_C + gl.arange(0, BLOCK_C, layout=gl.SliceLayout(0, rows))
        j_n = n + offs_m // (BOX_W * BOX_H)
        j_h = (t_h + offs_m // BOX_W % BOX_H) * stride_h + r_h
        j_w = (t_w + offs_m % BOX_W) * stride_w + r_w
        mask = ((j_n < batch) & (j_h < in_h) & (j_w < in_w))[:, None]
        if not EVEN_C:
            mask = mask & (offs_c < in_channels)[None, :]
        if INT64:
            j_n, j_h, j_w = j_n.to(gl.int64), j_h.to(gl.int64), j_w.to(gl.int64)
        x_rows = j_n * stride_xn + j_h * stride_xh + j_w * stride_xw
        x = gl.load(x_ptr + (x_rows[:, None] + offs_c[None, :]), mask=mask, other=0)
        acc = hopper.warpgroup_mma_init(gl.zeros([BLOCK_M, MAIN * BLOCK_C], gl.float32, main_sums))
        if REST > 0:
            rest_sums: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, REST * BLOCK_C, 16])
            more = hopper.warpgroup_mma_init(gl.zeros([BLOCK_M, REST * BLOCK_C], gl.float32, rest_sums))
        for step in range(steps):
            hopper.mbarrier.wait(full.index(slot), turn)
            dy = dy_smem.index(slot)._reinterpret(dtype, [BLOCK_M, BLOCK_K], flat_dy)
            acc = hopper.warpgroup_mma(dy, w_smem.index(slot), acc, is_async=True)
            # The products of the step before are done here, and after the barrier everywhere: its slot is free.
            if REST > 0:
                more = hopper.warpgroup_mma(dy, more_smem.index(slot), more, is_async=True)
                acc, more = hopper.warpgroup_mma_wait(2, [acc, more])
                more = hopper.warpgroup_mma_init(more)
            else:
                acc = hopper.warpgroup_mma_wait(1, [acc])
            acc = hopper.warpgroup_mma_init(acc)
            barrier()
            k, v_w, i_h, i_w, row, tap = copy_step(
                dy_desc, w_desc, more_desc, dy_smem, w_smem, more_smem, full,
                gl.where(slot == 0, SLOTS - 1, slot - 1), step + SLOTS - 1 < steps,
                n, k, v_w, i_h, i_w, row, tap, first_w, gap_h, gap_w, next_row, next_tap, taps_w, out_channels,
                MAIN, REST, BLOCK_M, BLOCK_C, BLOCK_K,
            )  # fmt: skip
            turn = gl.where(slot == SLOTS - 1, turn ^ 1, turn)
            slot = gl.where(slot == SLOTS - 1, 0, slot + 1)
        # The next tile's first steps are queued; the slot of the last products is the one that is left out.
        block, n, t_h, t_w, r_h, r_w, i_h, gap_h, i_w, gap_w, tap, next_row, next_tap, taps_w, steps = tile_of(
            tile + gl.num_programs(0), tiles, blocks_c, blocks_h, blocks_w, boxes, phases, order, out_channels,
            kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
            gcd_h, gcd_w, inverse_h, inverse_w, (MAIN + REST) * BLOCK_C, BLOCK_K, BOX_N, BOX_H, BOX_W, STRIDED,
        )  # fmt: skip
        k, v_w, first_w, row = 0, 0, i_w, tap
        for i in gl.static_range(SLOTS - 1):
            k, v_w, i_h, i_w, row, tap = copy_step(
                dy_desc, w_desc, more_desc, dy_smem, w_smem, more_smem, full,
                gl.where(slot + i < SLOTS, slot + i, slot + i - SLOTS), i < steps,
                n, k, v_w, i_h, i_w, row, tap, first_w, gap_h, gap_w, next_row, next_tap, taps_w, out_channels,
                MAIN, REST, BLOCK_M, BLOCK_C, BLOCK_K,
            )  # fmt: skip
        # The samples are squashed while the last products run.
        t = exactly_squashed(gl.convert_layout(x, sums).to(gl.float32), SQUASH)
        if REST > 0:
            acc, more = hopper.warpgroup_mma_wait(0, [acc, more])
            each = by_degree(acc, MAIN) + by_degree(more, REST)
        else:
            each = by_degree(hopper.warpgroup_mma_wait(0, [acc]), MAIN)
        dx = with_slopes(each, t, sums, DEGREES, BASIS)
        if SQUASH == "tanh":
            dx = dx * (1.0 - t * t)
        dx_rows = j_n * stride_dxn + j_h * stride_dxh + j_w * stride_dxw
        dx = gl.convert_layout(dx.to(dtype), rows)
        gl.store(dx_ptr + (dx_rows[:, None] + offs_c[None, :]), dx, mask=mask)
    dy_smem._keep_alive()
    w_smem._keep_alive()
    more_smem._keep_alive()
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.invalidate(full.index(i))


@runtime.gluon_jit()
def tile_of(
    tile, tiles, blocks_c, blocks_h, blocks_w, boxes, phases, order, out_channels, kernel_h, kernel_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, gcd_h, gcd_w, inverse_h, inverse_w,
    COLUMNS: gl.constexpr, BLOCK_K: gl.constexpr,
    BOX_N: gl.constexpr, BOX_H: gl.constexpr, BOX_W: gl.constexpr, STRIDED: gl.constexpr,
):  # fmt: skip
    """The channels of a tile, its first pixel and phase; its first outputs and coefficients, and how far the next are.

    Last comes how many steps it has: none past the last tile. Tiles next to each other read the same pixels.
    """
    number = gl.minimum(tile, tiles - 1)
    block, box = number % blocks_c, number // blocks_c
    r_h, r_w = block * 0, block * 0
    if STRIDED:
        # By turns, each box another phase first, or all boxes of a phase after those of another.
        number = box
        box = gl.where(order == 0, number // phases, number % boxes)
        phase = gl.where(order == 0, (number + box) % phases, number // boxes)
        phase = gl.where(order == 2, phases - 1 - phase, phase)
        r_h, r_w = phase // stride_w, phase % stride_w
    above = box // blocks_w
    n, t_h, t_w = above // blocks_h * BOX_N, above % blocks_h * BOX_H, box % blocks_w * BOX_W
    at_h, gap_h, u_h, unit_h, taps_h = taps_of_phase(
        r_h, padding_h, stride_h, dilation_h, gcd_h, inverse_h, kernel_h, STRIDED
    )
    at_w, gap_w, u_w, unit_w, taps_w = taps_of_phase(
        r_w, padding_w, stride_w, dilation_w, gcd_w, inverse_w, kernel_w, STRIDED
    )
    columns = blocks_c * COLUMNS
    tap = (u_h * kernel_w + u_w) * columns + block * COLUMNS
    steps = gl.where(tile < tiles, taps_h * taps_w * gl.cdiv(out_channels, BLOCK_K), 0)
    return (
        block, n, t_h, t_w, r_h, r_w, t_h + at_h, gap_h, t_w + at_w, gap_w, tap,
        unit_h * kernel_w * columns, unit_w * columns, taps_w, steps,
    )  # fmt: skip


@runtime.gluon_jit()
def copy_step(
    dy_desc, w_desc, more_desc, dy_smem, w_smem, more_smem, full, slot, go,
    n, k, v_w, i_h, i_w, row, tap, first_w, gap_h, gap_w, next_row, next_tap, taps_w, out_channels,
    MAIN: gl.constexpr, REST: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_C: gl.constexpr, BLOCK_K: gl.constexpr,
):  # fmt: skip
    """Queue the copies of a step into a slot of the ring; return where the next step is."""
    bar = full.index(slot)
    hopper.mbarrier.expect(bar, 2 * BLOCK_K * (BLOCK_M + (MAIN + REST) * BLOCK_C), pred=go)
    hopper.tma.async_copy_global_to_shared(dy_desc, [n, i_h, i_w, k], bar, dy_smem.index(slot), pred=go)
    hopper.tma.async_copy_global_to_shared(w_desc, [k, tap], bar, w_smem.index(slot), pred=go)
    if REST > 0:
        at = tap + MAIN * BLOCK_C
        hopper.tma.async_copy_global_to_shared(more_desc, [k, at], bar, more_smem.index(slot), pred=go)
    # Channels first, then the taps of a row, then the next row.
    k += BLOCK_K
    ends = k >= out_channels
    k = gl.where(ends, 0, k)
    v_w += ends.to(gl.int32)
    tap = gl.where(ends, tap + next_tap, tap)
    i_w = gl.where(ends, i_w + gap_w, i_w)
    ends = v_w == taps_w
    v_w = gl.where(ends, 0, v_w)
    i_w = gl.where(ends, first_w, i_w)
    i_h = gl.where(ends, i_h + gap_h, i_h)
    row = gl.where(ends, row + next_row, row)
    tap = gl.where(ends, row, tap)
    return k, v_w, i_h, i_w, row, tap


@runtime.gluon_jit()
def by_degree(sums, COUNT: gl.constexpr):
    """The columns of each degree: halves of halves, all in the registers of one thread."""
    if COUNT == 1:
        return (sums,)
    else:
        half: gl.constexpr = sums.shape[1] // 2
        first, second = sums.reshape([sums.shape[0], 2, half]).permute((0, 2, 1)).split()
        return by_degree(first, COUNT // 2) + by_degree(second, COUNT // 2)


@runtime.gluon_jit()
def with_slopes(each, t, layout: gl.constexpr, DEGREES: gl.constexpr, BASIS: gl.constexpr):
    """sum_k p_k'(t) each[k], by Clenshaw's recurrence.

    A slope is a multiple of a polynomial one degree lower, of another basis: k x^(k-1), T_k' = k U_(k-1) and
    He_k' = k He_(k-1). So are U_k' - U_(k-2)' = 2 k U_(k-1) and P_k' - P_(k-2)' = (2 k - 1) P_(k-1): there a degree
    takes what those above it, two apart, take.
    """
    s = t + t if BASIS == "chebyshev" or BASIS == "chebyshev2" else t
    a, above = t, t
    now, before = t, t
    for i in gl.static_range(DEGREES):
        next_a = gl.convert_layout(each[DEGREES - 1 - i], layout, assert_trivial=True)
        if (BASIS == "chebyshev2" or BASIS == "legendre") and i > 1:
            next_a += above
        above = a
        a = next_a
        after = one_degree_lower(a, s, now, before, DEGREES - i, DEGREES, BASIS)
        before = now
        now = after
    return now


@runtime.gluon_jit()
def one_degree_lower(a, s, now, before, K: gl.constexpr, DEGREES: gl.constexpr, BASIS: gl.constexpr):
    """A step of the recurrence: to degree ``K``, which is of degree ``K - 1`` in the other basis, from the two above.

    For P this is ``a (2 K - 1) + (2 K - 1) / K s now - K / (K + 1) before``.
    """
    if BASIS == "chebyshev2":
        total = a * (2.0 * K)
    elif BASIS == "legendre":
        total = a * (2.0 * K - 1.0)
    else:
        total = a * (1.0 * K)
    if K < DEGREES:
        if BASIS == "legendre":
            total += s * now * ((2.0 * K - 1.0) / K)
        else:
            total += s * now
    if K < DEGREES - 1:
        if BASIS == "legendre":
            total -= before * (K / (K + 1.0))
        elif BASIS == "hermite":
            total -= before * (1.0 * K)
        elif BASIS != "monomial":
            total -= before
    return total
