"""What a type checker must say of konvlib's public functions; `make lint` runs one over this file.

A line that ends with ``pyright: ignore`` must be refused: a comment that is not needed is an error there. What is right
runs in test_typed.py too.
"""

from __future__ import annotations

from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import konvlib

X: NDArray[np.float64] = np.ones((1, 2, 6, 6))
W: NDArray[np.float64] = np.ones((3, 2, 3, 3))


def right() -> None:
    """Arrays give arrays, tensors give tensors, and lists of numbers are arrays."""
    assert isinstance(konvlib.conv2d(X, W, stride=2), np.ndarray)
    y = konvlib.conv2d(torch.ones(1, 2, 6, 6), torch.ones(3, 2, 3, 3), padding="same")
    assert_type(y, torch.Tensor)
    assert isinstance(konvlib.convolve([1, 3, 2, 0, 4], [2, 1, -1]), np.ndarray)
    assert konvlib.max_pool2d(X, 2).shape == (1, 2, 3, 3)
    largest, indices = konvlib.max_pool2d(X, 2, return_indices=True)
    assert konvlib.max_unpool2d(largest, indices, 2).shape == X.shape
    assert_type(konvlib.max_pool2d(torch.ones(1, 2, 6, 6), 2), torch.Tensor)
    pair = konvlib.max_pool2d(torch.ones(1, 2, 6, 6), 2, return_indices=True)
    assert_type(pair, tuple[torch.Tensor, torch.Tensor])
    assert_type(konvlib.max_unpool2d(*pair, 2), torch.Tensor)
    layer = konvlib.Konv2d(2, 3, 3, degree=3, padding=1)
    assert_type(layer, konvlib.Konv2d)
    assert layer(torch.ones(1, 2, 6, 6)).shape == (1, 3, 6, 6)


def wrong() -> None:
    """A word misspelt, and a value that is none of those that an argument can have."""
    konvlib.conv2d(X, W, strde=2)  # pyright: ignore[reportCallIssue]
    konvlib.conv2d(X, W, padding_mode="mirror")  # pyright: ignore[reportArgumentType]
    konvlib.max_pool2d(X)  # pyright: ignore[reportCallIssue]
    konvlib.max_pool2d(X, 2, return_indices=True).sum()  # pyright: ignore[reportAttributeAccessIssue]
    konvlib.conv1d(X, W, 1, 2)  # pyright: ignore[reportCallIssue]
