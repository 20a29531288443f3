"""Statistics: intervals, tests and the rules that turn numbers into words. Plain numbers in, no torch."""

from sparsify.stats.bootstrap import clustered_bootstrap as clustered_bootstrap
from sparsify.stats.bootstrap import summary_bootstrap as summary_bootstrap
from sparsify.stats.holm import HolmResult as HolmResult
from sparsify.stats.holm import holm as holm
from sparsify.stats.interval import Interval as Interval
from sparsify.stats.latency import PERCENTILE_FLOOR as PERCENTILE_FLOOR
from sparsify.stats.latency import Verdict as Verdict
from sparsify.stats.latency import doubted as doubted
from sparsify.stats.latency import latency_verdict as latency_verdict
from sparsify.stats.latency import median_interval as median_interval
from sparsify.stats.latency import paired_log_ratio as paired_log_ratio
from sparsify.stats.latency import percentiles as percentiles
from sparsify.stats.latency import unresolved as unresolved
from sparsify.stats.levels import LevelDecision as LevelDecision
from sparsify.stats.levels import decide_levels as decide_levels
from sparsify.stats.means import mean_interval as mean_interval
from sparsify.stats.means import non_inferior as non_inferior
from sparsify.stats.means import paired_difference as paired_difference
from sparsify.stats.means import superior as superior
from sparsify.stats.paired_rates import paired_rate_difference as paired_rate_difference
from sparsify.stats.rates import clopper_pearson as clopper_pearson
from sparsify.stats.survival import SurvivalVerdict as SurvivalVerdict
from sparsify.stats.survival import survival_verdict as survival_verdict
