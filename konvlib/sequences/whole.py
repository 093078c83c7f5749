"""Convolution along all axes of two arrays.

`konvlib.sequences` has this public function too; what goes along one axis stands there.
"""

from __future__ import annotations

from types import ModuleType

from konvlib.dispatch import Operand, T, prepared
from konvlib.geometry import check_transform, whole_geometry
from konvlib.sequences import arrays


def convolve_nd(f: Operand[T], g: Operand[T], *, mode: str = "full", method: str = "auto") -> T:
    r"""Convolve two arrays along all their axes.

    .. math:: y[n_1, n_2, \dots] = \sum_{m_1, m_2, \dots} f[m_1, m_2, \dots]\, g[n_1 - m_1, n_2 - m_2, \dots]

    Parameters
    ----------
    f, g : array_like or torch.Tensor
        Two arrays with equally many axes.
    mode : {"full", "same", "valid"}
        What to keep along each axis, as in `convolve`. In mode ``valid`` one must be the longer along every axis.
    method : {"auto", "direct", "fft"}
        How to compute it. ``direct`` is the sum above, ``fft`` multiplies spectra. ``auto`` takes the one that does
        less work. A transform rounds relative to the largest value of the result.

    Returns
    -------
    ndarray or torch.Tensor
        With the dtype of `convolve`; exact on integers, and by ``direct`` and ``auto`` on fractions.

    Raises
    ------
    TypeError, ValueError
        If an operand is empty, if they differ in their number of axes, if in mode ``valid`` each is the longer along
        some axis, and as in `convolve`.

    Notes
    -----
    NaN and infinity stay where the direct sum has them, but for method ``fft``, which spreads them everywhere.

    See Also
    --------
    konvlib.convolve : Along one axis, in batches.
    konvlib.conv2d : A layer, which does not flip the kernel.
    scipy.signal.convolve, scipy.signal.fftconvolve : The same; there mode ``same`` has the size of the first operand.

    Examples
    --------
    >>> convolve_nd([[1, 3], [2, 0]], [[1, 10]])
    array([[ 1, 13, 30],
           [ 2, 20,  0]])
    >>> convolve_nd([[1, 3], [2, 0]], [[1], [10]], mode="valid")
    array([[12, 30]])
    """
    operands, arguments = {"f": f, "g": g}, {"mode": mode, "method": method}
    backend, ready, part = prepared(arrays, _tensors, whole_geometry, operands, arguments)
    if backend is arrays and method == "fft":
        check_transform(ready[0], ready[1], method)
    return backend.convolve_nd(*ready, part)


def _tensors() -> ModuleType:
    from konvlib.sequences import tensors

    return tensors
