from __future__ import annotations

import subprocess
import sys
from typing import get_args

from sparsify.criteria.catalogue import CRITERIA as ENTRIES
from sparsify.criteria.registry import CRITERIA, SOLVERS
from sparsify.recipe.spec import PruneSpec


def test_catalogue_and_registry_name_the_same_criteria_and_a_recipe_some_of_them():
    assert [*CRITERIA, *SOLVERS] == list(ENTRIES)
    assert [entry.name for entry in ENTRIES.values()] == list(ENTRIES)
    assert set(get_args(PruneSpec.model_fields["criterion"].annotation)) <= set(CRITERIA)


def test_what_a_recipe_takes_needs_no_data():
    named = get_args(PruneSpec.model_fields["criterion"].annotation)
    assert {ENTRIES[name].needs for name in named} == {"nothing"}


def test_the_catalogue_is_read_without_torch():
    code = "import sys, sparsify.criteria.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
