"""`Pattern`: which sets of weights may be removed together: `unstructured`, `2:4`, `block:4x1` or `channel`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sparsify.errors import UsageError
from sparsify.recipe.misfit import Misfit, shown


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of removal; `str(pattern)` is how a recipe writes it.

    `unstructured` takes any weight. `n:m` keeps n of every m weights along the axis a runtime multiplies over.
    `block:RxC` keeps or removes blocks of R outputs by C inputs whole. `channel` removes whole channels physically.
    `n` and `m` are zero but for `nm`, `rows` and `cols` zero but for `block`.
    """

    REGEX: ClassVar[str] = (
        r"^(unstructured|channel|[1-9][0-9]{0,3}:[1-9][0-9]{0,3}|block:[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"
    )

    kind: Literal["unstructured", "nm", "block", "channel"]
    n: int = 0
    m: int = 0
    rows: int = 0
    cols: int = 0

    def __post_init__(self) -> None:
        if (self.kind == "nm") != (0 < self.n < self.m) or (self.kind == "block") != (self.rows > 0 and self.cols > 0):
            raise _misfit(str(self))

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read `unstructured`, `2:4`, `block:4x1` or `channel`; `Misfit`, a ValueError, says what was expected."""
        if re.fullmatch(cls.REGEX, text) is None or text.endswith("\n"):
            raise _misfit(text)
        if text == "unstructured" or text == "channel":
            return cls("channel" if text == "channel" else "unstructured")
        block = text.startswith("block:")
        first, second = (int(number) for number in re.findall(r"[0-9]+", text))
        if block:
            return cls("block", rows=first, cols=second)
        if first >= second:
            raise _misfit(text)
        return cls("nm", n=first, m=second)

    @classmethod
    def of(cls, pattern: str | Pattern) -> Pattern:
        """`pattern`, read where it is text.

        Raises:
            UsageError: It is no pattern; the message says what was expected.
        """
        try:
            read = cls.parse(pattern) if isinstance(pattern, str) else pattern
        except Misfit as error:
            raise UsageError(f"pattern: {error}") from None
        if not isinstance(read, cls):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"pattern: expected unstructured, n:m, block:RxC or channel, got {read!r}")
        return read

    @property
    def sparsity(self) -> float | None:
        """The sparsity that follows from the pattern: 1 - n/m for `n:m`, none for the others."""
        return 1 - self.n / self.m if self.kind == "nm" else None

    def __str__(self) -> str:
        if self.kind == "nm":
            return f"{self.n}:{self.m}"
        return f"block:{self.rows}x{self.cols}" if self.kind == "block" else self.kind

    @classmethod
    def _of(cls, value: object) -> Pattern:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise _misfit(value)
        return cls.parse(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            cls._of, core_schema.is_instance_schema(cls), serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": cls.REGEX, "examples": ["unstructured", "2:4", "block:4x1", "channel"]}


def _misfit(value: object) -> Misfit:
    number = r"[0-9]+"
    if isinstance(value, str) and (pair := re.fullmatch(rf"({number}):({number})", value)):
        n, m = (int(text) for text in pair.groups())
        mend = f"write {m}:{n} to keep {m} of every {n}" if 0 < m < n else "n of every m are kept, and 0 < n < m"
    else:
        mend = "write one of these; n:m keeps n of every m, block:RxC takes R outputs by C inputs"
    return Misfit(
        (),
        expected="a pattern: unstructured, n:m such as 2:4, block:RxC such as block:4x1, or channel",
        got=shown(value),
        mend=mend,
    )
