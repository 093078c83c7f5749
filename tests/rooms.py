"""One face for all rooms: each takes NumPy arrays and gives NumPy arrays, so that one test serves every room.

``of("sequences")`` lists a package's rooms. The GPU room appears twice: ``gpu-aten`` is the operator's CPU
implementation, ``gpu-kernel`` its Triton kernels, on a CUDA device where there is one and in Triton's interpreter
elsewhere.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from konvlib import tiles

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class TensorRoom:
    """A GPU room that takes arrays. Integers become float64, in which the tests' integers are exact."""

    def __init__(self, module: ModuleType, *, kernels: bool):
        self.module = module
        self.kernels = kernels
        self.device = DEVICE if kernels else "cpu"

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.module, name)

        @functools.wraps(function)
        def on_arrays(*args: Any, **kwargs: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tiles, "INTERPRET", self.kernels and self.device == "cpu")
                return self._array(function(*map(self._tensor, args), **kwargs))

        return on_arrays

    def _tensor(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        floats = value.astype(np.float64) if value.dtype.kind in "biu" else value.copy()
        return torch.from_numpy(floats).to(self.device)

    def _array(self, value: Any) -> Any:
        return value.cpu().resolve_conj().numpy() if isinstance(value, torch.Tensor) else value


def of(package: str) -> list[Any]:
    """The rooms of a package, its public face first, as parameters for pytest."""
    face, naive, fast = (importlib.import_module(f"konvlib.{package}{room}") for room in ("", ".naive", ".fast"))
    faces = [pytest.param(face, id="konvlib"), pytest.param(naive, id="naive"), pytest.param(fast, id="fast")]
    if importlib.util.find_spec(f"konvlib.{package}.gpu") is None:
        return faces
    gpu = importlib.import_module(f"konvlib.{package}.gpu")
    kernels, aten = TensorRoom(gpu, kernels=True), TensorRoom(gpu, kernels=False)
    return [*faces, pytest.param(aten, id="gpu-aten"), pytest.param(kernels, id="gpu-kernel")]
