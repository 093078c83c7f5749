"""Beyond one machine: Dask arrays, tensors that are sharded over processes, and strips of an image too large for one.

The public functions take Dask arrays as they take arrays. Nothing here is imported before it is asked for: neither
torch nor Dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from konvlib.scale.chains import PaddedLayer, chain
    from konvlib.scale.sharding import register
    from konvlib.scale.spatial import strips
    from konvlib.scale.stored import from_store

_HOMES = {
    "PaddedLayer": "chains", "chain": "chains", "from_store": "stored", "register": "sharding", "strips": "spatial",
}  # fmt: skip

__all__ = ["PaddedLayer", "chain", "from_store", "register", "strips"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
