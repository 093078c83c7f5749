"""Beyond one machine: Dask arrays, tensors that are sharded over processes, and strips of an image too large for one.

The public functions take Dask arrays as they take arrays. Nothing here is imported before it is asked for: neither
torch nor Dask.

Examples
--------
Axes with names: xarray gives its Dask array to a function that takes one, and nothing is computed.

>>> from functools import partial
>>> import dask.array as da
>>> import konvlib
>>> import xarray as xr
>>> image = xr.DataArray(da.ones((1, 2, 8, 9), chunks=4), dims=("n", "c", "y", "x"), coords={"y": range(8)})
>>> blur = partial(konvlib.conv2d, w=[[[[1, 2, 1]], [[1, 2, 1]]]], padding="same")
>>> axes = ["n", "c", "y", "x"]
>>> y = xr.apply_ufunc(
...     blur, image, input_core_dims=[axes], output_core_dims=[axes], exclude_dims={"c"}, dask="allowed"
... )
>>> y.dims, y.chunks, list(y.coords)
(('n', 'c', 'y', 'x'), ((1,), (1,), (4, 4), (4, 4, 1)), ['y'])
>>> y.isel(y=0).values.tolist()
[[[6.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 6.0]]]

Axes of which the layer changes the size are excluded too, and lose their coordinates: there ``{"c", "y", "x"}``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from konvlib.scale.chains import chain
    from konvlib.scale.links import AvgPool, ConvTranspose, Konv, MaxPool, PaddedLayer
    from konvlib.scale.sharding import register
    from konvlib.scale.spatial import strips
    from konvlib.scale.stored import from_store

_HOMES = {
    "AvgPool": "links", "ConvTranspose": "links", "Konv": "links", "MaxPool": "links", "PaddedLayer": "links",
    "chain": "chains", "from_store": "stored", "register": "sharding", "strips": "spatial",
}  # fmt: skip

__all__ = [
    "AvgPool", "ConvTranspose", "Konv", "MaxPool", "PaddedLayer", "chain", "from_store", "register", "strips",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
