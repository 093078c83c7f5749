"""The engine of Convolution, Verified: convolution arithmetic, proved against its definitions.

Every function takes NumPy arrays or torch tensors. Importing this package imports NumPy and SciPy, never torch.

>>> import konvlib
>>> konvlib.convolve([1, 3, 2, 0, 4], [2, 1, -1])
array([ 2,  7,  6, -1,  6,  4, -4])
"""

from konvlib.sequences import convolve, correlate

__version__ = "0.1.0"

__all__ = ["__version__", "convolve", "correlate"]
