"""`Step`: one amount of training time, in epochs (`10ep`) or iterations (`2000it`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sparsify.recipe.misfit import Misfit, shown


@dataclass(frozen=True, slots=True)
class Step:
    """An amount of training time; `str(step)` is how a recipe writes it."""

    PATTERN: ClassVar[str] = r"^(0|[1-9][0-9]{0,8})(ep|it)$"

    count: int
    unit: Literal["ep", "it"]

    @classmethod
    def parse(cls, text: str) -> Step:
        """Read `10ep` or `2000it`; `Misfit`, a ValueError, says what was expected."""
        match = re.fullmatch(cls.PATTERN, text)
        if match is None or text.endswith("\n"):
            raise _misfit(text)
        return cls(int(match[1]), "ep" if match[2] == "ep" else "it")

    def iterations(self, per_epoch: int) -> int:
        """Optimiser steps this is, where one epoch takes `per_epoch` of them."""
        return self.count * per_epoch if self.unit == "ep" else self.count

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    @classmethod
    def _of(cls, value: object) -> Step:
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
        return {"type": "string", "pattern": cls.PATTERN, "examples": ["10ep", "2000it"]}


def _misfit(value: object) -> Misfit:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return Misfit(
        (),
        expected="epochs or iterations such as 10ep or 2000it",
        got=shown(value),
        mend=f"write {value}it or {value}ep" if whole else "write a whole number and its unit, ep or it",
    )
