"""What tests/engine/typed.py promises a type checker holds when it runs."""

from __future__ import annotations

import pytest

import konvlib
from tests.engine import typed


def test_what_a_type_checker_accepts_runs():
    typed.right()


def test_a_misspelt_argument_is_named_with_its_function():
    with pytest.raises(TypeError, match=r"^conv2d\(\) got an unexpected keyword argument 'strde'$"):
        konvlib.conv2d(typed.X, typed.W, strde=2)  # pyright: ignore[reportCallIssue]
