"""The polynomial bases that there are, by name: each is its three-term recurrence. What is done with them: `bases`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from math import inf, lcm
from numbers import Rational

from konvlib import geometry

Recurrence = Callable[[int], tuple[Rational, Rational, Rational]]


@dataclass(frozen=True, eq=False)
class Basis:
    """A polynomial basis; two of them are never equal, so that what is remembered of one is never another's.

    Attributes
    ----------
    name : str
        What it is looked up by.
    recurrence : function
        Gives ``(a_n, b_n, c_n)`` for each ``n``, as integers or fractions.
    domain : (float, float)
        Where to keep the samples.
    integral : bool
        Whether the recurrence has integers only, so that samples of an integer dtype keep it.
    number : int
        Another for each basis ever made, by which compiled graphs know theirs.
    """

    name: str
    recurrence: Recurrence
    domain: tuple[float, float]
    integral: bool = False
    number: int = field(default_factory=count().__next__, init=False, repr=False)

    def step(self, n: int) -> tuple[Fraction, Fraction, Fraction]:
        """``(a_n, b_n, c_n)`` as fractions."""
        return geometry.recurrence_step(self.name, n, self.recurrence(n))


def _legendre(n: int) -> tuple[Rational, Rational, Rational]:
    return Fraction(2 * n + 1, n + 1), 0, Fraction(n, n + 1)


_LINE, _INTERVAL = (-inf, inf), (-1.0, 1.0)
BASES = {
    basis.name: basis
    for basis in (
        Basis("monomial", lambda n: (1, 0, 0), _LINE, integral=True),
        Basis("chebyshev", lambda n: (2 if n else 1, 0, 1), _INTERVAL, integral=True),
        Basis("chebyshev2", lambda n: (2, 0, 1), _INTERVAL, integral=True),
        Basis("legendre", _legendre, _INTERVAL),
        Basis("hermite", lambda n: (1, 0, n), _LINE, integral=True),
    )
}


def get_basis(name: str) -> Basis:
    """Look up a basis.

    Raises
    ------
    TypeError
        If ``name`` is no string.
    ValueError
        If there is none of this name; it lists the known.

    Examples
    --------
    >>> get_basis("hermite").domain
    (-inf, inf)
    """
    return BASES[geometry.one_of(name, "basis", tuple(BASES))]


def add_basis(name: str, recurrence: Recurrence, domain: tuple[float, float]) -> Basis:
    r"""Add a basis by its three-term recurrence, so that every function here knows its name.

    .. math:: p_0 = 1, \qquad p_{n+1}(x) = (a_n x + b_n)\,p_n(x) - c_n\,p_{n-1}(x)

    Parameters
    ----------
    name : str
        What it is to be looked up by.
    recurrence : function
        Takes ``n`` and gives ``(a_n, b_n, c_n)``, three integers or fractions. ``a_n`` is never 0, and ``c_0`` is not
        used.
    domain : (float, float)
        Where its samples are to be kept.

    Returns
    -------
    Basis
        Samples of an integer dtype become float64 in it.

    Raises
    ------
    TypeError
        If an argument has the wrong kind, or if the recurrence gives no fractions.
    ValueError
        If the name is taken, if the domain is empty, or if ``a_n`` is 0.

    Examples
    --------
    >>> from konvlib.konvolution.bases import values
    >>> physicists = add_basis("physicists", lambda n: (2, 0, 2 * n), domain=(-inf, inf))
    >>> values("physicists", 1.0, 3)
    array([ 1.,  2.,  2., -4.])
    >>> BASES.pop("physicists") is physicists
    True
    """
    basis = Basis(name, recurrence, geometry.check_new_basis(name, recurrence, domain, tuple(BASES)))
    try:
        first = recurrence(0)
    except Exception as error:
        raise TypeError(
            f"recurrence must give (a_n, b_n, c_n) for n = 0, got {type(error).__name__}: {error}"
        ) from error
    geometry.recurrence_step(name, 0, first)
    BASES[name] = basis
    return basis


def whole_step(basis: Basis, n: int) -> tuple[int, int, int, int]:
    """``(a_n, b_n, c_n)`` as whole numbers over one denominator, which comes last.

    Examples
    --------
    >>> whole_step(get_basis("legendre"), 2)
    (5, 0, 2, 3)
    """
    step = basis.step(n)
    divisor = lcm(*(number.denominator for number in step))
    return *(int(number * divisor) for number in step), divisor
