"""`Step`: one amount of training time, in epochs (`10ep`) or iterations (`2000it`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Step:
    """An amount of training time; `str(step)` is how a recipe writes it."""

    PATTERN: ClassVar[str] = r"^(0|[1-9][0-9]*)(ep|it)$"

    count: int
    unit: Literal["ep", "it"]

    @classmethod
    def parse(cls, text: str) -> Step:
        """Read `10ep` or `2000it`; ValueError names what was expected."""
        match = re.match(cls.PATTERN, text)
        if match is None:
            raise ValueError(f"expected a whole number of epochs or iterations such as 10ep or 2000it, got {text!r}")
        return cls(int(match[1]), "ep" if match[2] == "ep" else "it")

    def iterations(self, per_epoch: int) -> int:
        """Optimiser steps this is, where one epoch takes `per_epoch` of them."""
        return self.count * per_epoch if self.unit == "ep" else self.count

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value) if isinstance(value, str) else value,
            core_schema.is_instance_schema(cls),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": cls.PATTERN, "examples": ["10ep", "2000it"]}
