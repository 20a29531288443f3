"""Commands as a user has them: where no checkout is on the path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run_alone(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run in `cwd`, and show what was said if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
