"""Pruning criteria: `Context -> scores`, one a file. A criterion says nothing of how many or where."""
