"""The usual mistakes in the kernels of layers, poolings and columns: package, file, mistake, right, wrong.

They are run by tests/test_kernel_mutants.py, since a kernel serves several rooms.
"""

MUTANTS: list[tuple[str, str, str, str]] = []

KERNELS = [
    ("trilinear", "gather", "padding subtracted twice", "= -p0, -p1, -p2, d0", "= -p0, -p1, p2, d0"),
    (
        "trilinear",
        "gather",
        "stride ignored",
        "step0, step1, step2 = 0, 0, 0, s0, s1, s2",
        "step0, step1, step2 = 0, 0, 0, 1, 1, 1",
    ),
    (
        "trilinear",
        "gather",
        "taps of a phase without their step",
        "tap2 + unit2 * u2\n            b = tl.load(w + (u * wt + c * wk) +",
        "tap2 + u2\n            b = tl.load(w + (u * wt + c * wk) +",
    ),
    ("trilinear", "gather", "taps of a phase forward", "-(d // common), tap", "d // common, tap"),
    ("trilinear", "gather", "phase without the padding", "remainder = (r + p) % s", "remainder = r % s"),
    ("trilinear", "gather", "channels of the first group", "    x += group * channels\n", ""),
    (
        "trilinear",
        "gather",
        "weight of the first group",
        "    w += group.to(tl.int64)",
        "    w += 0 * group.to(tl.int64)",
    ),
    ("trilinear", "gather", "bias of the group's own channels", "tl.load(bias + o_all", "tl.load(bias + o"),
    ("trilinear", "gather", "last row of taps missed", "next_row = u2 >= n2", "next_row = u2 >= n2 - 1"),
    (
        "trilinear",
        "gather",
        "phases not interleaved",
        "a0, a1, a2 = a0 * s0 + r0, a1 * s1 + r1, a2 * s2 + r2",
        "a0, a1, a2 = a0 * s0, a1 * s1, a2 * s2",
    ),
    (
        "trilinear",
        "gather",
        "= for +=",
        "total, input_precision=PRECISION, out_dtype=SUM)\n            c += DEPTH",
        "input_precision=PRECISION, out_dtype=SUM)\n            c += DEPTH",
    ),
    ("trilinear", "reduction", "dilation ignored", "tap % k2 * d2 - p2", "tap % k2 - p2"),
    ("trilinear", "reduction", "stride ignored", "q2 = a2 * s2\n", "q2 = a2\n"),
    ("trilinear", "reduction", "gradient of the first group", "    dy += group * outputs\n", ""),
    ("trilinear", "reduction", "one part only", "for _ in tl.range(0, parts):", "for _ in tl.range(0, 1):"),
    ("trilinear", "depthwise", "multiplier ignored", "source = c // multiplier", "source = c * 0"),
    (
        "trilinear",
        "depthwise",
        "one channel per input",
        "rounds = taps * multiplier if TRANSPOSED else taps",
        "rounds = taps",
    ),
    ("trilinear", "depthwise", "stride not divided", "(q2 % s2 == 0) & (q1 % s1 == 0) &", "(q1 % s1 == 0) &"),
    (
        "trilinear",
        "depthwise",
        "lines of the first image",
        "(u * 0 + n).to(tl.int64) * xn",
        "(u * 0).to(tl.int64) * xn",
    ),
    (
        "images",
        "kernels",
        "zeros pad the largest",
        'mask=keep, other=0 if MEAN else float("-inf")',
        "mask=keep, other=0",
    ),
    (
        "images",
        "kernels",
        "NaN is never the largest",
        "better = (sample > value) | (sample != sample)",
        "better = sample > value",
    ),
    ("images", "kernels", "last of the largest", "better = (sample > value) |", "better = (sample >= value) |"),
    (
        "images",
        "kernels",
        "padding counted in the mean's gradient",
        "count = tl.maximum(count, 1).to(SUM)\n                    share",
        "count = tl.maximum(count, 6).to(SUM)\n                    share",
    ),
    ("images", "kernels", "every window sends to every sample", "keep = keep & (chosen == tap1 + u2)", "keep = keep"),
    ("images", "kernels", "dilation ignored where samples are sent", "last2 - gap2 // common2 * v2", "last2 - v2"),
    ("matrices", "kernels", "stride of columns ignored", "pixel) * step2 - before2", "pixel) - before2"),
    ("matrices", "kernels", "axes of the window exchanged", "at1 = start1 + u1 * gap1", "at1 = start1 + u1 * gap2"),
]
