"""Both implementations of the operators, as fixtures that run a test by each and give the device of its tensors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.backends import DEVICE
from tests.kernels.operators import running


@pytest.fixture(params=["aten", "kernel"])
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """A test runs through ATen and through the kernels: in the interpreter, or on CUDA where there is a device."""
    with running(request.param) as device:
        yield device


@pytest.fixture(params=["aten"] if DEVICE == "cpu" else ["aten", "kernel"])
def quick_implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """As `implementation`, without the interpreter: for tests that call operators hundreds of times."""
    with running(request.param) as device:
        yield device
