"""What the tests of the corrections share: numbers to compute with, and the layer of one channel."""

from __future__ import annotations

from typing import Any

import numpy as np

import konvlib


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Integers from 1 to 99, so that no product is zero and few sums agree by chance."""
    return np.random.default_rng([*shape, seed]).integers(1, 100, shape)


def layer(x: np.ndarray, k: np.ndarray, **options: Any) -> np.ndarray:
    """`konvlib.conv2d` without batch and channels."""
    return konvlib.conv2d(x[None, None], k[None, None], **options)[0, 0]
