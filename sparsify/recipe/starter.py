"""The starter recipes that `sparsify init` writes."""

from __future__ import annotations

import re
from pathlib import Path

from sparsify.recipe.schema import Kind

_STARTERS: dict[Kind, str] = {"tickets": "starter.yaml", "prune": "starter-prune.yaml"}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def starter_yaml(name: str, kind: Kind = "tickets") -> str:
    """The commented starter, called `name` where a recipe may be called that, and `recipe` elsewhere."""
    text = Path(__file__).with_name(_STARTERS[kind]).read_text(encoding="utf-8")
    return text.replace("name: recipe\n", f"name: {name}\n", 1) if _NAME.fullmatch(name) else text
