import pytest

from report_sample import results
from sparsify.report.metrics import build_metrics


@pytest.fixture(scope="session")
def whole():
    """Metrics of a complete run."""
    return build_metrics(results())
