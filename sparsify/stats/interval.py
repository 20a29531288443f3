"""An estimate with the interval around it, and how both were found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        estimate: The point estimate.
        low: Lower bound; None where the data allow none (one value has no spread).
        high: Upper bound; None where the data allow none.
        level: Confidence level in (0, 1), two-sided.
        n: Number of independent units: replicates, tickets, pairs or trials.
        method: How the bounds were found, in words.
    """

    estimate: float
    low: float | None
    high: float | None
    level: float
    n: int
    method: str

    @property
    def width(self) -> float | None:
        """`high - low`, or None without bounds."""
        return None if self.low is None or self.high is None else self.high - self.low

    def to_json(self) -> dict[str, float | int | str | None]:
        """The interval as JSON values; the bounds are named `ci_low` and `ci_high`."""
        return {
            "estimate": self.estimate,
            "ci_low": self.low,
            "ci_high": self.high,
            "level": self.level,
            "n": self.n,
            "method": self.method,
        }
