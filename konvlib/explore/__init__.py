"""Pictures that the reader moves: in a notebook, a call shows one in the state of its arguments.

    from konvlib import explore

    explore.strides(w1=[1, 2, 1], w2=[1, 2, 1])

Each is an HTML element whose module (JavaScript, beside this file) draws it; where no script runs, its sentence says
what would be seen, computed by the engine. On the book's site the modules are linked once for each page.
"""

from konvlib.explore.element import Explorable
from konvlib.explore.grids import gradients, images, konvolution, matrices, transposes
from konvlib.explore.lines import output_size, sequences, strides

__all__ = [
    "Explorable",
    "gradients",
    "images",
    "konvolution",
    "matrices",
    "output_size",
    "sequences",
    "strides",
    "transposes",
]
