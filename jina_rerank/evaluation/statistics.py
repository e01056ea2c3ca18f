"""Confidence intervals and paired significance tests by resampling the topics, without assumed distributions.

The random seed is fixed, so that the same data give the same figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RESAMPLES: Final = 10_000
_BATCH_SIZE: Final = 1_000  # resamples at a time, which bounds the memory for many topics
_CONFIDENCE_LEVEL: Final = 0.95
_ROUNDING_ERROR: Final = 1e-12  # sums in another order differ by less


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over topics, with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one number per topic, with its percentile bootstrap interval."""
    given = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(0)
    means = np.concatenate(
        [given[random.integers(len(given), size=(_BATCH_SIZE, len(given)))].mean(axis=1) for _ in _batches()]
    )
    low, high = np.quantile(means, [(1 - _CONFIDENCE_LEVEL) / 2, (1 + _CONFIDENCE_LEVEL) / 2])
    return Estimate(float(given.mean()), float(low), float(high))


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of a mean difference, by Fisher's randomisation test.

    The test flips the sign of each topic's difference at random, as if both contenders were interchangeable.
    """
    given = np.asarray(differences, dtype=np.float64)
    random = np.random.default_rng(0)
    reached = abs(given.mean()) - _ROUNDING_ERROR
    as_large = sum(_count(random, given, reached) for _ in _batches())
    return (1 + as_large) / (1 + _RESAMPLES)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values, corrected by Holm's method for multiple comparisons."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _batches() -> range:
    return range(_RESAMPLES // _BATCH_SIZE)


def _count(random: np.random.Generator, given: "NDArray[np.float64]", reached: float) -> int:
    signs = random.choice(np.array([-1.0, 1.0]), size=(_BATCH_SIZE, len(given)))
    return int(np.count_nonzero(np.abs((signs * given).mean(axis=1)) >= reached))
