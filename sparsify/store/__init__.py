"""Run folders: stages, digests, atomic writes, one lock. Everything but `weights` and `checkpoint` is torch-free."""
