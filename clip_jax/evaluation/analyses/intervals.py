"""Intervals of shares that are counted."""

from scipy import stats


def clopper_pearson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share, hits of total, which must be positive."""
    interval = stats.binomtest(hits, total).proportion_ci(confidence, "exact")
    return float(interval.low), float(interval.high)
