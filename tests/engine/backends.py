"""Backends under test: each takes NumPy arrays and gives NumPy arrays, so that one test serves them all.

Every backend is reached through the public functions, so each is given checked arguments, and raises the same errors.
``of("sequences")`` lists a package's backends: ``konvlib`` is what arrays get, ``naive`` the definition put in its
place, ``tensors`` what CPU tensors get, ``kernels`` the Triton kernels, on a CUDA device where there is one and in
Triton's interpreter elsewhere.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from konvlib import runtime

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class ArrayBackend:
    """The public functions of a package with a module in the place of its backend for arrays."""

    def __init__(self, package: str, arrays: ModuleType):
        self.public, self.arrays = importlib.import_module(f"konvlib.{package}"), arrays

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.public, name)
        if not callable(function):
            return function

        @functools.wraps(function)
        def by_this_backend(*args: Any, **kwargs: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                for module in {self.public, importlib.import_module(function.__module__)}:
                    if module.__name__.startswith(self.public.__name__):
                        patch.setattr(module, "arrays", self.arrays)
                return function(*args, **kwargs)

        return by_this_backend


class TensorBackend:
    """The public functions on tensors made of arrays. Integers become float64, in which the tests' are exact."""

    def __init__(self, module: Any, *, kernels: bool):
        self.module = module
        self.kernels = kernels
        self.device = DEVICE if kernels else "cpu"

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.module, name)

        @functools.wraps(function)
        def on_arrays(*args: Any, **kwargs: Any) -> Any:
            args = [self._given(a) for a in args]
            kwargs = {name: self._given(a) if isinstance(a, np.ndarray) else a for name, a in kwargs.items()}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(runtime, "INTERPRET", self.kernels and self.device == "cpu")
                return self._array(function(*args, **kwargs))

        return on_arrays

    def _given(self, value: Any) -> Any:
        """Arrays as tensors, and so lists of numbers; also those of a list of layers."""
        if isinstance(value, list) and any(isinstance(entry, tuple) for entry in value):
            return [tuple(map(self._given, entry)) if isinstance(entry, tuple) else entry for entry in value]
        if isinstance(value, list) and value:
            value = np.array(value, dtype=object if _ragged(value) else None)
        if isinstance(value, str):
            pytest.skip("no tensor holds these values")
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.kind not in "biufc" or value.dtype.char in "gG":
            pytest.skip("no tensor holds these values")
        floats = value.astype(np.float64) if value.dtype.kind in "biu" else value.copy()
        return torch.from_numpy(floats).to(self.device)

    def _array(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.layout == torch.sparse_csr:
            parts = (value.values(), value.col_indices(), value.crow_indices())
            return csr_array(tuple(part.cpu().numpy() for part in parts), shape=tuple(value.shape))
        if isinstance(value, tuple):
            parts = [self._array(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return value.cpu().resolve_conj().numpy() if isinstance(value, torch.Tensor) else value


def _ragged(rows: list) -> bool:
    try:
        np.array(rows)
    except ValueError:
        return True
    return False


def of(package: str) -> list[Any]:
    """The backends of a package, its public functions first, as parameters for pytest."""
    public = importlib.import_module(f"konvlib.{package}")
    faces = [pytest.param(public, id="konvlib"), pytest.param(definition(package), id="naive")]
    if importlib.util.find_spec(f"konvlib.{package}.tensors") is None:
        return faces
    kernels, tensors = TensorBackend(public, kernels=True), TensorBackend(public, kernels=False)
    return [*faces, pytest.param(tensors, id="tensors"), pytest.param(kernels, id="kernels")]


def definition(package: str) -> ArrayBackend:
    """A package's definition, by its public functions."""
    return ArrayBackend(package, importlib.import_module(f"konvlib.{package}.naive"))


def exact(package: str) -> list[Any]:
    """What takes every dtype of NumPy, fractions too: the public functions and the definition."""
    return [
        pytest.param(importlib.import_module(f"konvlib.{package}"), id="konvlib"),
        pytest.param(definition(package), id="naive"),
    ]


def share(backend: Any, rows: Sequence[Any]) -> Sequence[Any]:
    """The rows that a test runs in a backend: all, but where kernels are interpreted, which is slow, one in thirteen
    or three or so."""
    return rows[:: max(1, min(13, len(rows) // 3))] if is_interpreted(backend) else rows


def is_interpreted(backend: Any) -> bool:
    """Whether a backend's kernels run in Triton's interpreter."""
    return isinstance(backend, TensorBackend) and backend.kernels and backend.device == "cpu"


def is_definition(backend: Any) -> bool:
    """Whether a backend is the definition, which is slow."""
    return isinstance(backend, ArrayBackend) and backend.arrays.__name__.endswith(".naive")


def takes_arrays(backend: Any) -> bool:
    """Whether a backend has Python's numbers and all of NumPy's dtypes, as tensors have not."""
    return not isinstance(backend, TensorBackend)


def held(backend: Any, dtype: Any) -> np.dtype:
    """The dtype in which a backend holds an array of this dtype."""
    dtype = np.dtype(dtype)
    return dtype if takes_arrays(backend) or dtype.kind not in "biu" else np.dtype(np.float64)


def needs_arrays(backend: Any) -> None:
    """Skip a test of NumPy's dtypes in a backend of tensors, where integers become floats."""
    if not takes_arrays(backend):
        pytest.skip("tensors have other dtypes")
