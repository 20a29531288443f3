"""`--set prune.levels=3` on a recipe whose controls and probes name deeper levels: those levels are left out, aloud.

In a file such a level is a fault, since its author named it. An override asks for a shorter run of the same recipe, and
would otherwise have to repeat every list of levels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sparsify.recipe.overrides import Override
from sparsify.recipe.yaml_source import Document

_log = logging.getLogger(__name__)


def leave_out_deeper_levels(document: Document, overrides: Sequence[Override]) -> None:
    """Drop from `controls` and `probes` the levels beyond an overridden `prune.levels`, and say which on the log.

    Lists that an override itself set are left as they are, and so is all that is not well formed: both are checked
    with the rest of the recipe.
    """
    deepest = next((o.value for o in reversed(overrides) if o.segments == ("prune", "levels")), None)
    if not isinstance(deepest, int):
        return
    given = {override.segments[0] for override in overrides}
    dropped: list[str] = []
    for section in ("controls", "probes"):
        entries = document.tree.get(section)
        if section not in given and isinstance(entries, list):
            document.tree[section] = [kept for entry in entries if (kept := _shortened(entry, deepest, dropped))]
    if dropped:
        _log.warning("prune.levels=%d leaves out %s", deepest, ", ".join(dropped))


def _shortened(entry: Any, deepest: int, dropped: list[str]) -> Any:
    """The entry without its deeper levels; None where no level is left."""
    levels = entry.get("levels") if isinstance(entry, dict) else None
    if not isinstance(levels, list):
        return entry
    deeper = [level for level in levels if isinstance(level, int) and level > deepest]
    dropped += [f"{entry.get('name')} at level {level}" for level in deeper]
    left = [level for level in levels if level not in deeper]
    return entry | {"levels": left} if left else None
