"""The results of an evaluation: one for each contender, and their comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from .quality import MEASURES, Measure, quality
from .running import Run
from .statistics import Estimate, estimate, holm, p_value
from .thresholds import Threshold, TopN, best_threshold, best_top_n, held_out, scored
from .topics import Topic

_PERCENTILES: Final = (50, 95, 99)
_SIGNIFICANCE_LEVEL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two contenders on the same topics."""

    first: str
    second: str
    difference: Estimate
    """The second's mean minus the first's."""
    p_value: float
    """The p-value of the paired randomisation test, two-sided, corrected by Holm's method for multiple comparisons."""

    @property
    def significant(self) -> bool:
        """Whether the p-value is below 5 %."""
        return self.p_value < _SIGNIFICANCE_LEVEL


@dataclass(frozen=True, slots=True)
class ContenderResult:
    """The results of one contender."""

    run: Run
    quality: Mapping[Measure, Sequence[float]]
    """Each measure's value for each topic, in order."""
    top_n: TopN
    """The recommended `top_n`."""
    threshold: Threshold | None
    """The recommended score threshold, with the highest F1. None for the original order, which has no scores."""
    held_out: Threshold | None
    """The results of such thresholds on topics that were not used to choose them; None with too few topics."""

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.run.name

    @property
    def label(self) -> str:
        """The contender's name for tables and plots, with the scorer of the emulator that answered, if one did."""
        return self.run.label

    def mean(self, measure: Measure) -> float:
        """Return the mean over all topics."""
        return float(np.mean(self.quality[measure]))

    def estimate(self, measure: Measure) -> Estimate:
        """Return the mean over all topics, with its interval."""
        return estimate(self.quality[measure])

    @property
    def latencies(self) -> Mapping[str, float]:
        """The percentiles `p50`, `p95` and `p99` of the seconds of a call; empty for the original order."""
        if not self.run.reranked:
            return {}
        found = np.percentile(self.run.latencies, _PERCENTILES)
        return {f"p{name}": float(seconds) for name, seconds in zip(_PERCENTILES, found, strict=True)}

    @property
    def price_per_thousand(self) -> float | None:
        """US dollars for a thousand queries; None if the price is unknown."""
        price = self.run.price
        return None if price is None else 1_000 * price / len(self.run.rankings)


Verdict = ContenderResult
"""The former name of `ContenderResult`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of `evaluate`."""

    data: str
    """The name of the data."""
    topics: Sequence[Topic]
    cutoff: int
    """The rank cutoff of the measures."""
    at_once: int
    """The number of concurrent calls."""
    results: Sequence[ContenderResult]
    """In the order of the contenders, after the original order."""

    @property
    def verdicts(self) -> Sequence[ContenderResult]:
        """The former name of `results`."""
        return self.results

    def compare(self, measure: Measure = "nDCG") -> list[Comparison]:
        """Return the comparisons of all pairs of contenders."""
        pairs = list(combinations(self.results, 2))
        differences = [
            [b - a for a, b in zip(first.quality[measure], second.quality[measure], strict=True)]
            for first, second in pairs
        ]
        corrected = holm([p_value(difference) for difference in differences])
        return [
            Comparison(first.name, second.name, estimate(difference), p)
            for (first, second), difference, p in zip(pairs, differences, corrected, strict=True)
        ]

    @property
    def labels(self) -> Mapping[str, str]:
        """The label of each contender, by name."""
        return {result.name: result.label for result in self.results}

    @property
    def best(self) -> ContenderResult:
        """The contender with the highest nDCG; the first of equal ones."""
        return max(self.results, key=lambda result: result.mean("nDCG"))

    @property
    def rivals(self) -> list[str]:
        """The contenders whose difference from the best is not significant."""
        doubtful = [{one.first, one.second} for one in self.compare() if not one.significant]
        return [result.name for result in self.results if {result.name, self.best.name} in doubtful]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as data for `json.dumps`."""
        return {
            "data": self.data,
            "queries": len(self.topics),
            "cutoff": self.cutoff,
            "at_once": self.at_once,
            "contenders": [_as_data(result) for result in self.results],
            "comparisons": [asdict(comparison) for comparison in self.compare()],
            "best": self.best.name,
        }


def judge(topics: Sequence[Topic], run: Run, cutoff: int) -> ContenderResult:
    """Return the result of a run."""
    orders = [[passage.id for passage in ranking.documents] for ranking in run.rankings]
    columns = scored(topics, run.rankings) if run.reranked else None
    return ContenderResult(
        run,
        quality(topics, orders, cutoff),
        best_top_n(topics, run.rankings),
        None if columns is None else best_threshold(columns),
        None if columns is None else held_out(columns),
    )


def _as_data(result: ContenderResult) -> dict[str, Any]:
    run = result.run
    cuts = {"top_n": result.top_n, "threshold": result.threshold, "held_out": result.held_out}
    return {
        "name": result.name,
        "model": run.model,
        "scorer": run.scorer,
        **{measure: asdict(result.estimate(measure)) for measure in MEASURES},
        "calls": run.calls,
        "attempts": run.attempts,
        "tokens": run.tokens,
        "price": run.price,
        "seconds": run.seconds,
        "latencies": dict(result.latencies),
        **{name: cut and asdict(cut) for name, cut in cuts.items()},
    }
