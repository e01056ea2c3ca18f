"""The results of an evaluation: one for each contender, and how they compare."""

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
_SIGNIFICANT: Final = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two contenders on the same topics."""

    first: str
    second: str
    difference: Estimate
    """How much more the second has."""
    p_value: float
    """Of the paired randomisation test, two-sided, corrected by Holm's method for the number of comparisons."""

    @property
    def significant(self) -> bool:
        """Whether chance alone would make such a difference in fewer than 5 % of the cases."""
        return self.p_value < _SIGNIFICANT


@dataclass(frozen=True, slots=True)
class ContenderResult:
    """What one contender has reached."""

    run: Run
    quality: Mapping[Measure, Sequence[float]]
    """Each measure's value for each topic, in order."""
    top_n: TopN
    """The recommended `top_n`."""
    threshold: Threshold | None
    """The recommended threshold of scores: that of the highest F1. None for the order given, which has no scores."""
    held_out: Threshold | None
    """What such thresholds keep of topics that did not choose them; None where there are too few to tell."""

    @property
    def name(self) -> str:
        """The contender's."""
        return self.run.name

    @property
    def label(self) -> str:
        """The contender's name for tables and plots, with the scorer of the emulator that answered, if one did."""
        return self.run.label

    def mean(self, measure: Measure) -> float:
        """The mean over all topics."""
        return float(np.mean(self.quality[measure]))

    def estimate(self, measure: Measure) -> Estimate:
        """The mean over all topics, with its interval."""
        return estimate(self.quality[measure])

    @property
    def latencies(self) -> Mapping[str, float]:
        """Seconds of a call: its percentiles `p50`, `p95` and `p99`; none for the order given."""
        if not self.run.reranked:
            return {}
        found = np.percentile(self.run.latencies, _PERCENTILES)
        return {f"p{name}": float(seconds) for name, seconds in zip(_PERCENTILES, found, strict=True)}

    @property
    def price_per_thousand(self) -> float | None:
        """US dollars for a thousand queries; None where the price is not known."""
        price = self.run.price
        return None if price is None else 1_000 * price / len(self.run.rankings)


Verdict = ContenderResult
"""The former name of `ContenderResult`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` has found out."""

    data: str
    """What was evaluated on, for people."""
    topics: Sequence[Topic]
    cutoff: int
    """How many of the first places the measures look at."""
    at_once: int
    """How many calls were made at a time."""
    results: Sequence[ContenderResult]
    """In the order of the contenders, the order given first."""

    @property
    def verdicts(self) -> Sequence[ContenderResult]:
        """The former name of `results`."""
        return self.results

    def compare(self, measure: Measure = "nDCG") -> list[Comparison]:
        """All pairs of contenders."""
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
        """The contender of the highest nDCG; of equal ones the first."""
        return max(self.results, key=lambda result: result.mean("nDCG"))

    @property
    def rivals(self) -> list[str]:
        """The contenders from which the best may be set apart by chance alone."""
        doubtful = [{one.first, one.second} for one in self.compare() if not one.significant]
        return [result.name for result in self.results if {result.name, self.best.name} in doubtful]

    def to_dict(self) -> dict[str, Any]:
        """The figures as data that `json.dumps` takes."""
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
