"""The ticket search: iterative pruning, rewinding, and the controls beside it."""
