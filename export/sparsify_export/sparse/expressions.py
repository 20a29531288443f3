"""What a few scalar nodes compute, as a polynomial in one value and in one function of it.

Exporters write GELU in a dozen ways. Every one of them is the same polynomial in v and e, where e is erf(p(v)),
tanh(p(v)) or sigmoid(p(v)) and p a polynomial in v; so nodes are added up, not compared with a list of shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

_MOST_TERMS = 16
_HIGHEST_POWER = 4

_Key = TypeVar("_Key")
Powers = tuple[int, int]
"""Of v and of e."""


@dataclass(frozen=True)
class Function:
    """What e is: `erf`, `tanh` or `sigmoid` of a polynomial in v, which maps a power of v to its coefficient."""

    name: str
    argument: Mapping[int, float]


@dataclass(frozen=True)
class Expression:
    """A sum of coefficient * v^i * e^j; `function` says what e is where one occurs."""

    terms: Mapping[Powers, float]
    function: Function | None = field(default=None)

    @classmethod
    def variable(cls) -> Expression:
        """The value v itself."""
        return cls({(1, 0): 1.0})

    @classmethod
    def number(cls, value: float) -> Expression:
        """A constant."""
        return cls({(0, 0): value})

    @property
    def constant(self) -> float | None:
        """The number it is, where it has neither v nor e."""
        return self.terms.get((0, 0), 0.0) if set(self.terms) <= {(0, 0)} else None

    def plus(self, other: Expression, factor: float = 1.0) -> Expression | None:
        """This + factor * other; None where it would have two functions."""
        if not self._agrees(other):
            return None
        terms = dict(self.terms)
        for powers, coefficient in other.terms.items():
            terms[powers] = terms.get(powers, 0.0) + factor * coefficient
        return _simplified(terms, self.function or other.function)

    def times(self, other: Expression) -> Expression | None:
        """The product; None where it would have two functions, or is not one that activations have."""
        if not self._agrees(other):
            return None
        terms: dict[Powers, float] = {}
        for (i, j), a in self.terms.items():
            for (k, m), b in other.terms.items():
                terms[i + k, j + m] = terms.get((i + k, j + m), 0.0) + a * b
        return _simplified(terms, self.function or other.function)

    def over(self, other: Expression) -> Expression | None:
        """The quotient by a number; None for any other."""
        divisor = other.constant
        return self.times(Expression.number(1 / divisor)) if divisor else None

    def power(self, exponent: float) -> Expression | None:
        """A small whole power."""
        if exponent not in (1.0, 2.0, 3.0):
            return None
        result: Expression | None = self
        for _ in range(int(exponent) - 1):
            result = result.times(self) if result is not None else None
        return result

    def applied(self, name: str) -> Expression | None:
        """A function of it; None where it holds a function already."""
        if self.function is not None:
            return None
        return Expression({(0, 1): 1.0}, Function(name, {i: value for (i, _), value in self.terms.items()}))

    def is_close(self, other: Expression) -> bool:
        """Whether both are the same but for rounding of what was written into the file."""
        if (self.function is None) != (other.function is None) or not _close(self.terms, other.terms):
            return False
        if self.function is None or other.function is None:
            return True
        return self.function.name == other.function.name and _close(self.function.argument, other.function.argument)

    def _agrees(self, other: Expression) -> bool:
        """Whether there is at most one function in both."""
        return self.function is None or other.function is None or self.function == other.function


def _simplified(terms: Mapping[Powers, float], function: Function | None) -> Expression | None:
    kept = {powers: value for powers, value in terms.items() if value}
    if len(kept) > _MOST_TERMS or any(max(powers) > _HIGHEST_POWER for powers in kept):
        return None
    return Expression(kept, function if any(j for _, j in kept) else None)


def _close(a: Mapping[_Key, float], b: Mapping[_Key, float]) -> bool:
    return a.keys() == b.keys() and all(math.isclose(a[key], b[key], rel_tol=1e-4) for key in a)
