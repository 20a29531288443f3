import subprocess
import sys

import sparsify.stats


def test_every_public_name_is_documented():
    names = [
        name for name in vars(sparsify.stats) if not name.startswith("_") and callable(getattr(sparsify.stats, name))
    ]
    assert {"Interval", "decide_levels", "paired_log_ratio", "survival_verdict"} <= set(names)
    assert all(getattr(sparsify.stats, name).__doc__ for name in names)


def test_importing_the_statistics_loads_neither_scipy_nor_torch():
    code = "import sys, sparsify.stats; sys.exit(any(m.split('.')[0] in ('scipy', 'torch') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_statistic_loads_scipy_stats():
    code = (
        "import sys, sparsify.stats as s; s.mean_interval([1, 2]); s.superior([1, 2], [0, .5]);"
        "s.clopper_pearson(1, 2); s.clustered_bootstrap([1, 2], lambda c: sum(c), n_boot=9);"
        "s.paired_log_ratio([1, 2], [2, 1], n_boot=9);"
        "sys.exit('scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
