"""The recipe's JSON Schema (draft 2020-12), for editors and for whoever writes recipes by machine."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema

from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import Recipe, Spec
from sparsify.recipe.step import Step

Kind = Literal["tickets", "prune"]
KINDS: dict[Kind, type[Spec]] = {"tickets": Recipe, "prune": PruneRecipe}
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class _Generate(GenerateJsonSchema):
    """Writes a default step or pattern as a recipe does."""

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Step | Pattern) else super().encode_default(dft)


def recipe_schema(kind: Kind = "tickets") -> dict[str, Any]:
    """The schema of recipes of one kind as plain JSON values; every field has its description."""
    schema = KINDS[kind].model_json_schema(schema_generator=_Generate)
    data = schema["properties"]["data"]
    short = {"type": "string", "description": "Short for a mapping with `source` alone: `data: digits`."}
    schema["properties"]["data"] = {
        "anyOf": [{"$ref": data["$ref"]}, short],
        "description": data["description"],
        "title": "Data",
    }
    return {"$schema": DRAFT, **schema, "title": "sparsify recipe" if kind == "tickets" else f"sparsify {kind} recipe"}


def schema_text(kind: Kind = "tickets") -> str:
    """The schema as it is printed and committed: indented JSON with a newline at the end."""
    return json.dumps(recipe_schema(kind), indent=2) + "\n"
