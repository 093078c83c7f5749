"""The usual mistakes in the kernels of layers, poolings, columns and Konvolution.

Each row has the results that must change (of tests/kernels/test_mutants.py), the file, the function in it (a kernel, or
what kernels call), the mistake, what is right and what is wrong. Where several kernels have a line in common, each of
them gets the mistake.
"""

FORWARD = ("conv_forward_kernel", "conv_forward_few_kernel")
INPUT_GRAD = ("conv_input_grad_kernel", "conv_input_grad_few_kernel")
WEIGHT_GRAD = ("conv_weight_grad_kernel", "conv_weight_grad_few_kernel")
EVERY_INPUT_GRAD = (
    *(("layers", "layers/input_grad", kernel) for kernel in INPUT_GRAD),
    ("konvolution", "layers/polynomial_input_grad", "polynomial_input_grad_kernel"),
)
LAYER = [
    *(
        ("layers", "layers/forward", kernel, *row)
        for kernel in FORWARD
        for row in (
            ("padding added", "i_w * stride_w - padding_w", "i_w * stride_w + padding_w"),
            ("stride ignored", "i_w * stride_w - padding_w", "i_w - padding_w"),
            ("dilation ignored", "dilation_w * u_w * stride_xw", "u_w * stride_xw"),
            ("channels of the first group", "    x_ptr += group * in_channels\n", ""),
            ("weight of the first group", "w_ptr += group.to", "w_ptr += 0 * group.to"),
            ("bias of the group's own channels", "tl.load(bias_ptr + offs_o", "tl.load(bias_ptr + offs_n"),
            ("= for +=", "tl.dot(x, w, acc, ", "tl.dot(x, w, "),
        )
    ),
    (
        "layers",
        "layers/forward",
        "conv_forward_kernel",
        "last row of taps missed",
        "next_row = u_w >= kernel_w",
        "next_row = u_w >= kernel_w - 1",
    ),
    (
        "layers",
        "layers/forward",
        "conv_forward_few_kernel",
        "rows of taps as long as columns",
        "tap // kernel_w % kernel_h",
        "tap // kernel_h % kernel_h",
    ),
    *(
        (*where, *row)
        for where in EVERY_INPUT_GRAD
        for row in (
            ("taps of a phase without their step", "+ u_w + unit_w * v_w", "+ u_w + v_w"),
            ("channels of the first group", "    dy_ptr += group * out_channels\n", ""),
            ("weight of the first group", "w_ptr += group.to", "w_ptr += 0 * group.to"),
            (
                "phases not interleaved",
                "t_d * stride_d + r_d, t_h * stride_h + r_h, t_w * stride_w + r_w",
                "t_d * stride_d, t_h * stride_h, t_w * stride_w",
            ),
        )
    ),
    *(
        ("layers", "layers/input_grad", kernel, *row)
        for kernel in INPUT_GRAD
        for row in (
            ("bias of the group's own channels", "tl.load(bias_ptr + offs_c", "tl.load(bias_ptr + offs_n"),
            ("= for +=", "tl.dot(dy, w, acc, ", "tl.dot(dy, w, "),
        )
    ),
    *(
        (*where, "last row of taps missed", "next_row = v_w >= taps_w", "next_row = v_w >= taps_w - 1")
        for where in EVERY_INPUT_GRAD[::2]
    ),
    *(
        ("layers", "layers/input_grad", "taps_of_phase", *row)
        for row in (
            ("taps of a phase forward", "-(dilation // gcd), first", "dilation // gcd, first"),
            ("phase without the padding", "remainder = (phase + padding) % stride", "remainder = phase % stride"),
        )
    ),
    *(
        ("layers", "layers/weight_grad", kernel, *row)
        for kernel in WEIGHT_GRAD
        for row in (
            ("dilation ignored", "tap % kernel_w * dilation_w - padding_w", "tap % kernel_w - padding_w"),
            ("gradient of the first group", "    dy_ptr += group * out_channels\n", ""),
            ("= for +=", "tl.dot(tl.trans(dy), x, acc, ", "tl.dot(tl.trans(dy), x, "),
        )
    ),
    ("layers", "layers/weight_grad", WEIGHT_GRAD[0], "stride ignored", "j_w = i_w * stride_w + u_w", "j_w = i_w + u_w"),
    ("layers", "layers/weight_grad", WEIGHT_GRAD[1], "stride ignored", "j_w = (i_w * stride_w)[", "j_w = (i_w)["),
    (
        "layers",
        "layers/weight_grad_parts",
        "sum_parts_kernel",
        "one part only",
        "for i in tl.static_range(PARTS):",
        "for i in tl.static_range(1):",
    ),
]

DEPTHWISE = [
    *(
        ("depthwise", "layers/depthwise", "depthwise_forward_kernel", *row)
        for row in (
            ("multiplier ignored", "channel // MULTIPLIER * stride_xc", "channel * 0 * stride_xc"),
            ("stride ignored", "i_w * STRIDE_W - padding_w", "i_w - padding_w"),
            ("outputs of a strip without the stride", "b * STRIDE_W + DILATION_W * u", "b + DILATION_W * u"),
            ("lines of taps without dilation", "j = j_h + DILATION_H * u_h", "j = j_h + u_h"),
            ("bias of the first channels", "bias_ptr + ((channel * VECTOR)", "bias_ptr + ((channel * 0)"),
        )
    ),
    *(
        ("depthwise", "layers/depthwise_input_grad", "depthwise_input_grad_kernel", *row)
        for row in (
            ("one channel per input", "m, v = turn % MULTIPLIER", "m, v = turn % 1"),
            ("stride not divided", "t_w // STRIDE_W + padding_w // STRIDE_W", "t_w + padding_w // STRIDE_W"),
            ("phases not interleaved", "t_h * STRIDE_H + r_h", "t_h * STRIDE_H"),
            ("taps of a phase without their step", "u_h + unit_h * v_h", "u_h + v_h"),
        )
    ),
    *(
        ("depthwise", "layers/depthwise_weight_grad", "depthwise_weight_grad_kernel", *row)
        for row in (
            ("multiplier ignored", "channel // MULTIPLIER * stride_xc", "channel * 0 * stride_xc"),
            ("lines of the first image", "image * stride_xn + channel", "channel"),
            ("always the same strip", "strip + carry.to(tl.int32)", "strip"),
            ("every part from the start", "begin = (part.to(tl.int64) if INT64 else part) * share", "begin = part * 0"),
        )
    ),
    (
        "depthwise",
        "layers/depthwise_weight_grad",
        "depthwise_sum_parts_kernel",
        "parts of the first block only",
        "for begin in tl.range(0, parts, BLOCK_M):",
        "for begin in tl.range(0, 1, BLOCK_M):",
    ),
]

POOLING = [
    ("poolings", *row)
    for row in (
        (
            "images/pooling",
            "max_pool_kernel",
            "zeros pad the largest",
            'mask=mask_w, other=float("-inf")',
            "mask=mask_w, other=0",
        ),
        ("images/pooling", "max_pool_kernel", "NaN is never the largest", "(x > value) | (x != x)", "x > value"),
        ("images/pooling", "max_pool_kernel", "last of the largest", "(x > value) |", "(x >= value) |"),
        (
            "images/pooling",
            "avg_pool_kernel",
            "padding counted in the mean",
            "count = tl.minimum(start_w + KERNEL_W, high_w) - tl.maximum(start_w, low_w)",
            "count = tl.maximum(start_w * 0, KERNEL_W)",
        ),
        (
            "images/pooling",
            "max_pool_kernel",
            "stride of the height ignored",
            "* stride_h - padding_h",
            "- padding_h",
        ),
        (
            "images/pooling_scatter",
            "avg_pool_scatter_kernel",
            "padding counted in the mean's gradient",
            "count = (tl.minimum(start + KERNEL_W, high_w) - tl.maximum(start, low_w)) * count_h",
            "count = tl.maximum(start * 0, KERNEL_H * KERNEL_W)",
        ),
        (
            "images/pooling_scatter",
            "max_pool_scatter_kernel",
            "every window sends to every sample",
            "acc += tl.where(chosen == tap_h + u, dy, 0.0)",
            "acc += dy",
        ),
        (
            "images/pooling_scatter",
            "max_pool_scatter_kernel",
            "dilation ignored where samples are sent",
            "i_w - dilation_w // gcd_w * v_w",
            "i_w - v_w",
        ),
        (
            "images/pooling_scatter",
            "avg_pool_scatter_kernel",
            "windows of the first tap alone",
            "u_w + stride_w // gcd_w * v_w, i_w - dilation_w // gcd_w * v_w",
            "u_w + stride_w // gcd_w * v_w, i_w",
        ),
    )
]

COLUMNS = [
    ("columns", "matrices/columns", *row)
    for row in (
        ("im2col_kernel", "stride of columns ignored", "offs_n) * stride_w - padding_w", "offs_n) - padding_w"),
        ("im2col_kernel", "axes of the window exchanged", "start_h + u_h * dilation_h", "start_h + u_h * dilation_w"),
        (
            "col2im_kernel",
            "dilation ignored where samples are sent",
            "i_h - dilation_h // gcd_h * v_h",
            "i_h - v_h",
        ),
        ("col2im_kernel", "columns of the first tap", "(tap_h + u) * stride_colst", "tap_h * stride_colst"),
    )
]

POLYNOMIALS = [
    ("konvolution", "layers/polynomials", *row)
    for row in (
        (
            "next_degree",
            "weight of the degree before",
            "line - n * 1.0 * before) / (n + 1.0)",
            "line - before) / (n + 1.0)",
        ),
        ("next_degree", "Hermite without its factor", "return line - n * 1.0 * before", "return line - before"),
        ("polynomial", "second kind starts as the first", 'now = 2.0 * x if BASIS == "chebyshev2" else x', "now = x"),
        ("slope", "slope without the squash's", "slope_now = slope_now * (1.0 - t * t)", "slope_now *= 1.0"),
        ("slope", "slope without the line's", "next_degree(now + t * slope_now", "next_degree(t * slope_now"),
        ("squashed", "samples not squashed", "t = 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)", "t = x * 1.0"),
        ("squashed", "near zero not squashed", "odd / even, t)", "x, t)"),
        ("expanded", "padding contributes", "(tl.where(mask, p, 0.0) if MASKED else p)", "p"),
    )
]

KONVOLUTION = [
    *(
        ("konvolution", "konvolution/kernels", *row)
        for row in (
            ("expand_kernel", "the first degree for all", "polynomial(t, degree, BASIS)", "polynomial(t, 1, BASIS)"),
            (
                "expand_kernel",
                "samples expanded as they are",
                "t = squashed(tl.load(x_ptr + offs, mask=mask, other=0).to(ACC_DTYPE), SQUASH)",
                "t = tl.load(x_ptr + offs, mask=mask, other=0).to(ACC_DTYPE)",
            ),
            (
                "expand_kernel",
                "samples of all degrees mixed",
                "z = z_ptr + (offs // step * (DEGREES * step) + offs % step)",
                "z = z_ptr + offs",
            ),
            ("contract_kernel", "the first degree's slope", "slope(x, degree, BASIS", "slope(x, 1, BASIS"),
            ("contract_kernel", "the last degree's gradient alone", "acc += grad *", "acc = grad *"),
        )
    ),
    *(
        (
            "konvolution",
            "layers/forward",
            kernel,
            "one degree's coefficients for all",
            "(degree - 1) * in_channels",
            "0",
        )
        for kernel in FORWARD
    ),
    *(
        (
            "konvolution",
            "layers/forward",
            kernel,
            "map of the first pixel",
            "i_h * stride_bh + i_w * stride_bw",
            "i_h * 0",
        )
        for kernel in FORWARD
    ),
    *(
        (
            "konvolution",
            "layers/weight_grad",
            kernel,
            "the first degree for all",
            "mask_x, DEGREE, BASIS",
            "mask_x, 1, BASIS",
        )
        for kernel in WEIGHT_GRAD
    ),
    *(
        ("konvolution", "layers/polynomial_input_grad", "polynomial_input_grad_kernel", *row)
        for row in (
            ("one degree's coefficients for all", "(degree - 1) * in_channels", "0"),
            ("slope at the gradient's place", "j_d * stride_xd + j_h * stride_xh + j_w * stride_xw", "j_d * stride_xd"),
            ("the last degree's gradient alone", "acc += part *", "acc = part *"),
        )
    ),
]

KERNELS = [*LAYER, *DEPTHWISE, *POOLING, *COLUMNS, *POLYNOMIALS, *KONVOLUTION]

KERNELS = [("long sums", *row[1:]) if row[0] == "layers" and row[3] == "= for +=" else row for row in KERNELS]
"""That a loop starts anew is seen only where it goes round twice."""
