"""The usual mistakes in convolving and correlating sequences."""

MUTANTS = [
    (
        "naive",
        "flip dropped",
        "g[row][part.start + n - m]",
        "g[row][m]",
    ),
    (
        "naive",
        "= for +=",
        "y[row][n] += f",
        "y[row][n] = f",
    ),
    (
        "naive",
        "= for += in the correlation",
        "y[row][i] += f",
        "y[row][i] = f",
    ),
    (
        "naive",
        "negative index wraps to the end",
        "0 <= part.start + n - m < part.m",
        "part.start + n - m < part.m",
    ),
    (
        "naive",
        "first sample lost",
        "0 <= n + k < part.n",
        "0 < n + k < part.n",
    ),
    (
        "naive",
        "conjugate forgotten",
        "* np.conj(g[row][n])",
        "* g[row][n]",
    ),
    (
        "naive",
        "wrong operand conjugated",
        "np.conj(g[row][n])",
        "g[row][n]; y[row] = np.conj(y[row])",
    ),
    (
        "naive",
        "lags off by one",
        "part.start - (part.m - 1)",
        "part.start - part.m",
    ),
    (
        "naive",
        "sign of the lag",
        "f[row][n + k]",
        "f[row][n - k]",
    ),
    (
        "__init__",
        "flip dropped for short sequences",
        "np.correlate(f, g[::-1], mode) if",
        "np.correlate(f, g, mode) if",
    ),
    (
        "__init__",
        "longer operand second not swapped",
        " if n >= m else np.correlate(g, f[::-1], mode)",
        "",
    ),
    (
        "arrays",
        "conjugate forgotten by FFT",
        'np.conj(g[..., ::-1]) if g.dtype.kind == "c" else g[..., ::-1]',
        "g[..., ::-1]",
    ),
    (
        "arrays",
        "flip dropped in the correlation by FFT",
        "else g[..., ::-1]",
        "else g",
    ),
    (
        "arrays",
        "wrap-around falls on wanted values",
        "max(full - part.start, end)",
        "end",
    ),
    (
        "arrays",
        "correlation commuted",
        "_direct(np.correlate, f, g, part)",
        "_direct(np.correlate, g, f, part)",
    ),
    (
        "arrays",
        "NaN spread by FFT",
        "automatic and not np.isfinite(y).all()",
        "False",
    ),
    (
        "arrays",
        "= for += where blocks overlap",
        "y[..., first + 1 : last + 1, : m - 1] += parts",
        "y[..., first + 1 : last + 1, : m - 1] = parts",
    ),
    (
        "arrays",
        "blocks one too long",
        "step = size - (m - 1)",
        "step = size - (m - 2)",
    ),
    (
        "arrays",
        "one kernel for the whole batch",
        "y[row] = function(f[row], g[row], part.mode)",
        "y[row] = function(f[row], g[(0,) * len(part.batch)], part.mode)",
    ),
    (
        "arrays",
        "blocks reversed",
        "overwrite_x=True)\n        y[...",
        "overwrite_x=True)[..., ::-1]\n        y[...",
    ),
]
