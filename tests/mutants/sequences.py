"""The usual mistakes in convolving and correlating sequences."""

MUTANTS = [
    (
        "naive",
        "flip dropped",
        "g[row][start + n - m]",
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
        "0 <= start + n - m < g.shape[-1]",
        "start + n - m < g.shape[-1]",
    ),
    (
        "naive",
        "first sample lost",
        "0 <= n + k < f.shape[-1]",
        "0 < n + k < f.shape[-1]",
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
        "start - (g.shape[-1] - 1)",
        "start - g.shape[-1]",
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
        "fast",
        "conjugate forgotten by FFT",
        'np.conj(g[..., ::-1]) if g.dtype.kind == "c" else g[..., ::-1]',
        "g[..., ::-1]",
    ),
    (
        "fast",
        "flip dropped in the correlation by FFT",
        "else g[..., ::-1]",
        "else g",
    ),
    (
        "fast",
        "wrap-around falls on wanted values",
        "max(full - start, start + length)",
        "start + length",
    ),
    (
        "fast",
        "correlation commuted",
        "_direct(np.correlate, f, g, mode, window[1])",
        "_direct(np.correlate, g, f, mode, window[1])",
    ),
    (
        "fast",
        "NaN spread by FFT",
        "automatic and not np.isfinite(y).all()",
        "False",
    ),
    (
        "fast",
        "= for += where blocks overlap",
        "y[..., first + 1 : last + 1, : m - 1] += parts",
        "y[..., first + 1 : last + 1, : m - 1] = parts",
    ),
    (
        "fast",
        "blocks one too long",
        "step = size - (m - 1)",
        "step = size - (m - 2)",
    ),
    (
        "fast",
        "one kernel for the whole batch",
        "y[row] = function(f[row], g[row], mode)",
        "y[row] = function(f[row], g[(0,) * len(lead)], mode)",
    ),
    (
        "fast",
        "blocks reversed",
        "overwrite_x=True)\n        y[...",
        "overwrite_x=True)[..., ::-1]\n        y[...",
    ),
]
