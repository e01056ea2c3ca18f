"""How sure the figures are: intervals and paired tests by resampling the topics, which assume no distribution.

The random numbers are the same each time, so that the same data give the same figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RESAMPLES: Final = 10_000
_AT_ONCE: Final = 1_000  # resamples, so that many topics need little memory
_LEVEL: Final = 0.95
_ROUNDING: Final = 1e-12  # sums in another order differ by less


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over topics, with its interval of 95 % confidence."""

    mean: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one number a topic, and the percentile bootstrap's interval for it."""
    given = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(0)
    means = np.concatenate(
        [given[random.integers(len(given), size=(_AT_ONCE, len(given)))].mean(axis=1) for _ in _batches()]
    )
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(float(given.mean()), float(low), float(high))


def p_value(differences: Sequence[float]) -> float:
    """How likely a mean difference at least as large, to either side, would be if it was chance which side won.

    Fisher's randomisation test: each topic's difference changes its sign at random.
    """
    given = np.asarray(differences, dtype=np.float64)
    random = np.random.default_rng(0)
    reached = abs(given.mean()) - _ROUNDING
    as_large = sum(_count(random, given, reached) for _ in _batches())
    return (1 + as_large) / (1 + _RESAMPLES)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value, corrected by Holm's method for how many there are."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _batches() -> range:
    return range(_RESAMPLES // _AT_ONCE)


def _count(random: np.random.Generator, given: "NDArray[np.float64]", reached: float) -> int:
    signs = random.choice(np.array([-1.0, 1.0]), size=(_AT_ONCE, len(given)))
    return int(np.count_nonzero(np.abs((signs * given).mean(axis=1)) >= reached))
