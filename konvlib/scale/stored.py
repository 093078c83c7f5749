"""A layer of what lies in a store: each block slices the store itself, so that workers exchange nothing."""

from __future__ import annotations

from typing import Any

import dask.array as da

from konvlib.geometry import Padding, PaddingMode, PerAxis
from konvlib.scale.chains import lazily
from konvlib.scale.links import PaddedLayer
from konvlib.scale.stores import checked_store


def from_store(
    store: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    chunks: Any = None,
) -> da.Array:
    r"""Return a layer of a store, of which each block slices what its own windows see, lazily.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} x[b, c, s\,i + d\,u - p]\; w[o, c, u]

    Outputs ``i_0 <= i < i_1`` slice ``[i_0 s - p, (i_1 - 1) s - p + d (k - 1) + 1)`` of each axis, as far as there is
    something. What neighbours share is read twice and never sent: between workers, nothing moves.

    Parameters
    ----------
    store : object with shape, dtype and slices; shape (N, C, *size) or (C, *size)
        A Zarr array, a memory map, an HDF5 dataset open for reading only: read by the workers, each of which must reach
        it. A memory map and a file of HDF5 are opened again there; an array in memory is sent. Of shape ``size`` where
        ``w`` is a bare kernel.
    w : array_like, shape (C_out, C // groups, *kernel_size)
        The weight, which says how many axes are spatial; or a bare kernel of one or two axes, of one channel.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    stride, padding, dilation, groups, padding_mode
        As in `konvlib.conv2d`.
    chunks : as in `dask.array.Array.rechunk`, optional
        Of the result, with all channels in one. By default, blocks of outputs lie beside whole shards or chunks of the
        store, as many as fit in half of Dask's ``array.chunk-size``: a store decodes all of a chunk of which a block
        sees a part, so that larger blocks read less twice.

    Returns
    -------
    dask.array.Array, shape (N, C_out, *output_size) or as the store
        With the dtype that NumPy gives the operands together. Nothing is read before it is computed, and the store is
        read anew each time.

    Raises
    ------
    TypeError
        If an argument has the wrong kind: a Dask array, Python objects.
    ValueError
        If shapes, channels or groups do not go together, if no window fits, or if chunks do not sum to the output.

    See Also
    --------
    konvlib.conv2d : The same of a Dask array.
    konvlib.scale.chain : Several layers in one read.

    Examples
    --------
    >>> import zarr
    >>> store = zarr.array([[[1, 3, 2, 0, 4]]], chunks=(1, 1, 2))
    >>> y = from_store(store, [[[2, 1, -1]]], padding=1)
    >>> y.chunks, y.compute().tolist()
    (((1,), (1,), (5,)), [[[-2, 3, 8, 0, 4]]])
    """
    layer = PaddedLayer(w, stride, dilation, bias, groups, padding, padding_mode)
    return lazily(checked_store(store, "store"), "store", {"": layer}, chunks)
