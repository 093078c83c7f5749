"""What is sliced where it lies: Zarr arrays, memory maps, HDF5 datasets, checked and made alike."""

from __future__ import annotations

import mmap
import os
import sys
from dataclasses import dataclass
from math import prod
from typing import Any

import dask
import dask.array as da
import numpy as np

from konvlib.geometry.arguments import shown


@dataclass(frozen=True)
class Mapped:
    """A memory map that is sent by the name of its file, not by its samples."""

    filename: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    order: Any

    def __getitem__(self, at: Any) -> np.ndarray:
        return np.array(np.memmap(self.filename, self.dtype, "r", self.offset, self.shape, self.order)[at])


@dataclass(frozen=True)
class InFile:
    """A dataset of an HDF5 file, which is opened for each slice: what is open can not be sent."""

    filename: str
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None

    def __getitem__(self, at: Any) -> np.ndarray:
        import h5py

        with h5py.File(self.filename, "r") as file:
            return file[self.name][at]


@dataclass(frozen=True)
class Store:
    """A store with axes of one sample before its own, so that it has a batch and channels."""

    source: Any
    missing: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,) * self.missing + tuple(self.source.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.source.dtype)

    def blocks(self, bytes_each: int) -> tuple[tuple[int, ...], ...]:
        """How outputs are cut beside it, with all channels in one: beside whole shards or chunks of it.

        They hold half of what Dask's chunks do, or one chunk, where a place of an image takes ``bytes_each`` bytes:
        the fewer they are, the less is read twice.
        """
        batch, channels, *size = self.shape
        own = getattr(self.source, "shards", None) or getattr(self.source, "chunks", None)
        if own:
            first, _, *rest = [(1,)] * self.missing + [*da.core.normalize_chunks(tuple(own), self.source.shape)]
            own = [first, *rest]
        places = dask.utils.parse_bytes(dask.config.get("array.chunk-size")) // 2 // bytes_each
        if not own or places > prod([max(row) for row in own]):
            wish = ("auto",) * (1 + len(size))
            own = da.core.normalize_chunks(
                wish, (batch, *size), limit=max(places, 1), dtype=np.int8, previous_chunks=own or None
            )
        return own[0], (channels,), *own[1:]

    def __getitem__(self, at: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self.source[at[self.missing :]])[(None,) * self.missing]


def checked_store(store: Any, name: str) -> Any:
    """Return what is sliced where it lies; a memory map and a dataset of HDF5 by the name of their file.

    Raises
    ------
    TypeError
        If it is a Dask array or a tensor, if it has no shape, dtype or slices, or if it holds no machine numbers.

    Examples
    --------
    >>> checked_store(np.array([None]), "store")
    Traceback (most recent call last):
    ...
    TypeError: store must hold machine numbers, got dtype object
    """
    wanted = "as a Zarr array, a memory map or an HDF5 dataset"
    if isinstance(store, da.Array):
        raise TypeError(f"{name} must be sliced where it lies, {wanted}, got a Dask array; the functions of konvlib "
                        "take it as it is")  # fmt: skip
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(store, torch.Tensor):
        raise TypeError(f"{name} must be sliced where it lies, {wanted}, got a torch tensor")
    if not all([hasattr(store, part) for part in ("shape", "dtype", "__getitem__")]) or isinstance(store, type):
        raise TypeError(f"{name} must have a shape, a dtype and slices, {wanted}, got {shown(store)}")
    try:
        kind = np.dtype(store.dtype).kind
    except TypeError:
        kind = ""
    if kind not in tuple("biufc"):
        raise TypeError(f"{name} must hold machine numbers, got dtype {store.dtype}")
    # Neither a view of a map nor one whose changes are its own is what its file says.
    if isinstance(store, np.memmap) and isinstance(store.base, mmap.mmap) and store.filename and store.mode != "c":
        order = "C" if store.flags.c_contiguous else "F"
        return Mapped(str(store.filename), store.dtype, store.offset, store.shape, order)
    h5py = sys.modules.get("h5py")
    if h5py is not None and isinstance(store, h5py.Dataset) and store.file.mode == "r" and store.file.driver != "core":
        return InFile(os.path.abspath(store.file.filename), store.name, store.dtype, store.shape, store.chunks)
    return store
