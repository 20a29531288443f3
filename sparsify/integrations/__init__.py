"""Callbacks that prune while somebody else's trainer trains; each imports its trainer, and nothing else does."""
