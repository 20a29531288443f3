"""Without the compiled package only test_build.py is collected, where one skipped test says why."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("sparsify_kernels") else ["test_[!b]*.py"]
