"""What a fuzzed call is given in the place of a good argument, as expressions, so that calls can be printed and read.

They are evaluated in ``NAMESPACE``; whoever pastes a printed call writes ``from tests.engine.garbage import *`` first.
"""

from __future__ import annotations

import datetime
from array import array
from collections import OrderedDict, UserList, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from scipy import sparse

import konvlib
from konvlib import geometry


class Unprintable:
    """Not even its representation can be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no representation")


class Index:
    """An integer to `operator.index`, but no number."""

    def __index__(self) -> int:
        return 2


class Labelled:
    """An array of another library: NumPy would make an array of it, and lose the labels."""

    shape, dtype = (1, 2, 9), np.dtype(float)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.ones(self.shape)

    def to_numpy(self) -> np.ndarray:
        return np.ones(self.shape)


class Quantity(np.ndarray):
    """An array with a unit."""

    unit = "m"


def nested(depth: int) -> list:
    """A list in a list in a list."""
    inner: list = [1]
    for _ in range(depth):
        inner = [inner]
    return inner


def endless() -> list:
    """A list that holds itself."""
    itself: list = [1]
    itself.append(itself)
    return itself


NAMESPACE = {
    **{"np": np, "torch": torch, "sparse": sparse, "konvlib": konvlib, "geometry": geometry, "datetime": datetime},
    **{"array": array, "OrderedDict": OrderedDict, "UserList": UserList, "deque": deque, "Decimal": Decimal},
    **{"Fraction": Fraction, "Unprintable": Unprintable, "Index": Index, "Labelled": Labelled, "Quantity": Quantity},
    **{"nested": nested, "endless": endless, "nan": float("nan"), "inf": float("inf"), "nn": torch.nn},
}
__all__ = [*NAMESPACE]
nan, inf, nn = NAMESPACE["nan"], NAMESPACE["inf"], torch.nn


def expressions(text: str) -> tuple[str, ...]:
    """The expressions of a text, which stand on lines and between semicolons."""
    return tuple(part.strip() for line in text.splitlines() for part in line.split(" ; ") if part.strip())


NUMBERS = expressions(r"""
    0 ; 1 ; 2 ; 3 ; 4 ; 7 ; -1 ; -2**63 ; True ; False ; 0.0 ; 1.0 ; 2.5 ; -0.5 ; 1j ; nan ; inf ; -inf ; 2**31 - 1
    2**31 ; 2**32 ; 2**48 ; 2**62 ; 2**63 - 1 ; 2**63 ; 2**64 - 1 ; 10**30 ; 10**400 ; -(10**400) ; Fraction(1, 2)
    Fraction(2) ; Decimal('1.5') ; Decimal(2) ; Decimal('NaN') ; 1e300
""")
SCALARS = expressions(r"""
    np.int8(2) ; np.int8(43) ; np.uint8(2) ; np.int16(-3) ; np.uint16(3) ; np.int32(2) ; np.uint32(5)
    np.int64(2**62) ; np.uint64(2**64 - 1) ; np.uint64(1) ; np.float16(2) ; np.float32('nan') ; np.float64(1)
    np.longdouble(2) ; np.complex64(1j) ; np.complex128(2) ; np.clongdouble(1) ; np.bool_(True) ; np.str_('same')
    np.str_('auto') ; np.bytes_(b'a') ; np.datetime64('2026-01-01') ; np.timedelta64(2) ; np.timedelta64('NaT')
    np.void(b'ab') ; np.array(2) ; np.array(2.5) ; np.array(None) ; np.array('same') ; torch.tensor(2)
    torch.tensor(2.0) ; torch.tensor(True) ; torch.tensor([1, 1])
""")
TEXTS = expressions(r"""
    '' ; 'same' ; 'valid' ; 'full' ; 'SAME' ; 'zzz' ; '2' ; 'auto' ; 'fft' ; 'overlap-add' ; 'reflect' ; 'circular'
    'basis' ; 'input' ; 'tanh' ; 'legendre' ; 'cpu' ; 'meta' ; 'tensorflow' ; '\0{}%s' ; 'x' * 1000 ; b'ab'
    bytearray(b'ab') ; memoryview(b'abcd')
""")
LISTS = expressions(r"""
    [] ; () ; [1] ; (1,) ; [2, 2] ; (1, 1) ; (1, 2, 3) ; [[1, 2], [3]] ; [[1, 2]] ; [(1, 1)] ; ((0, 1),)
    ((0, 1), (1, 0)) ; ((1, 0), (0, 1), (1, 1)) ; [[0, -1]] ; [None] ; [None, 1] ; ['a'] ; [1, 'a'] ; [1.5] ; [True]
    [np.uint8(2)] ; [np.int8(43), np.uint8(2)] ; [2**63] ; [2**63, -1] ; (2**63,) ; (2**31, 1) ; [10**30]
    [10**400, 1.5] ; [[]] ; [[[]]] ; [[[1, 2, 3]]] ; [nan] ; [{}] ; [set()] ; [np.ma.masked] ; [torch.tensor(2)]
    [torch.ones(3), torch.ones(3)] ; [sparse.eye_array(3)] ; [print] ; [Labelled()] ; [np.ma.ones(3)]
    [np.ones(3), np.ones(3)] ; [np.ones(3), np.ones(2)] ; [np.datetime64('2026-01-01')] ; [np.timedelta64(2)]
    [datetime.date(2026, 1, 1)] ; [b'ab'] ; [bytearray(b'ab')] ; [Fraction(1, 2)] ; [Decimal('1.5')]
    [Decimal(1), 0.5] ; [1j] ; [deque([1])] ; [range(3)] ; [Unprintable()] ; [...] ; [1] * 10000 ; nested(20)
    nested(100) ; endless() ; torch.Size([2, 2]) ; np.array([1, 2]) ; np.array([2], 'm8[s]') ; np.array([1.5])
    np.array([True]) ; np.array([2**63], 'u8') ; np.array([1], 'u1')
""")
OBJECTS = expressions(r"""
    None ; range(3) ; range(2**62, 2**62 + 3) ; (i for i in range(3)) ; iter([1]) ; deque([1, 2])
    array('d', [1, 2, 3]) ; array('i', [1]) ; memoryview(np.ones((2, 3))) ; UserList([1, 2]) ; {} ; {1: 2}
    OrderedDict(a=1) ; set() ; {1, 2} ; frozenset([1]) ; object() ; object ; ... ; NotImplemented ; slice(3)
    (lambda n: n) ; print ; int ; np ; ValueError('x') ; datetime.date(2026, 1, 1) ; datetime.timedelta(1)
    Unprintable() ; Index() ; Labelled() ; torch.device('cpu') ; torch.float32 ; torch.strided ; nn.ReLU()
    nn.Conv2d(2, 4, 3) ; nn.Sequential() ; nn.LazyConv2d(4, 3) ; nn.UninitializedParameter()
    sparse.csr_array(np.eye(3)) ; sparse.csr_matrix(np.eye(3)) ; sparse.coo_array(np.ones(3))
    np.ma.ones((1, 2, 9)) ; torch.ones(0) ; torch.ones(1, 2, 9) ; torch.ones(1, 2, 9).to_sparse()
    torch.ones(2, 2).to_sparse_csr() ; torch.ones(1, 2, 9, device='meta') ; torch.ones(1, 2, 9).to_mkldnn()
    torch.ones(1, 2, 9, dtype=torch.cfloat) ; torch.nested.nested_tensor([torch.ones(2, 9)]) ; torch.arange(5)
    np.ones(()) ; np.ones(0) ; np.ones(3) ; np.ones((3, 3)) ; np.ones((1, 2, 9)) ; np.ones((1, 2, 0))
    np.ones((0, 2, 9)) ; np.ones((1, 0, 9)) ; np.ones((1, 2, 9, 9)) ; np.ones((1,) * 40)
    np.broadcast_to(1.0, (2**20,) * 3) ; np.matrix([[1, 2], [3, 4]])
""")
ANYTHING = (*NUMBERS, *SCALARS, *TEXTS, *LISTS, *OBJECTS)

DTYPES = "? b h i l q B H I L Q e f d g F D G O S U M8[s] m8[s] V8 >f4 >i8 >f2 >c16 >u2"
ARRAYS = tuple(f"@.astype({dtype!r})" for dtype in DTYPES.split()) + expressions(r"""
    np.ma.array(@) ; np.ma.masked_less(@, 9) ; @.view(Quantity) ; np.asmatrix(@[..., 0]) ; [@, @]
    np.full(@.shape, None) ; np.full(@.shape, 'a', object) ; np.full(@.shape, {}, object) ; @.tolist()
    np.full(@.shape, Fraction(1, 3)) ; np.full(@.shape, Decimal('1.5')) ; np.full(@.shape, 10**400, object)
    np.full(@.shape, 1j, object) ; np.full(@.shape, np.datetime64('2026-01-01'), object) ; @.astype(int).tolist()
    np.full(@.shape, {1}, object) ; np.full(@.shape, torch.tensor(1), object) ; np.full(@.shape, print) ; @ * nan
    @ * inf ; @[..., ::-1] ; np.broadcast_to(@[..., :1], @.shape) ; @.T ; @[None] ; @[0] ; @[..., :0] ; @[:0]
    @[..., None] ; np.concatenate([@] * 2) ; np.concatenate([@] * 2, -1) ; np.zeros(@.shape, [('a', 'f4')])
    torch.from_numpy(@) ; memoryview(@) ; (2**62 * @).astype(int).tolist() ; [[[2**63] * 9] * 2]
    @.astype(object).tolist() ; np.asfortranarray(@) ; @.ravel()
""")
TENSOR_DTYPES = (
    "float16 bfloat16 float32 float64 int8 uint8 int16 int32 int64 bool complex64 complex128 float8_e4m3fn uint16"
)
TENSORS = tuple(f"@.to(torch.{dtype})" for dtype in TENSOR_DTYPES.split()) + expressions(r"""
    @.to_sparse() ; @.to_mkldnn() ; @.to('meta') ; torch.nested.nested_tensor([@[0]]) ; @.numpy()
    torch.quantize_per_tensor(@, 0.1, 0, torch.qint8) ; @.tolist() ; @.requires_grad_() ; @[None] ; @[0] ; @.mT
    @[..., :0] ; @[:0] ; @[..., None] ; nn.Parameter(@) ; @ * nan ; @ * inf ; @ * 1j ; torch.cat([@] * 2)
    torch.cat([@] * 2, -1) ; @[..., :1].expand_as(@) ; [@, @] ; @.flatten() ; nn.functional.pad(@, (1, 1))
    @.to(torch.cdouble).conj() ; np.ma.array(@.numpy())
""")
"""What an operand becomes: ``@`` is the good one."""
