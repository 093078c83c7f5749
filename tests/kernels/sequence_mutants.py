"""The usual mistakes in the kernels of sequences: mistake, right, wrong. Run by test_sequence_mutants.py."""

MUTANTS = [
    (
        "the last tap lost",
        "tl.minimum(start + base + BLOCK_N, count)",
        "tl.minimum(start + base + BLOCK_N, count - 1)",
    ),
    (
        "the first sample lost where a tile meets the end",
        "mask = (m < count) & (at >= 0) & (at < samples)",
        "mask = (m < count) & (at > 0) & (at < samples)",
    ),
    (
        "the conjugate of a complex product",
        "a_real * b_real - a_imag * b_imag",
        "a_real * b_real + a_imag * b_imag",
    ),
    (
        "one row for the whole batch",
        "(row % inner_rows).to(tl.int64) * stride_inner",
        "0 * stride_inner",
    ),
    (
        "flip dropped in the Toeplitz matrix",
        "m = count - 1 + offs_n - offs_k[:, None]",
        "m = offs_k[:, None] - offs_n",
    ),
    (
        "NaN of an FFT left where it is",
        "last = tl.where(wrong, last, first)\n    acc_real",
        "last = first\n    acc_real",
    ),
    (
        "the first row of a batch instead of the sum over all",
        "inner = (block // blocks_per_row).to(tl.int64)",
        "inner = tl.full((), 0, tl.int64)",
    ),
    (
        "parts stored over each other",
        "((part * kept_rows + row) * length + offs_m)",
        "(row * length + offs_m)",
    ),
]
