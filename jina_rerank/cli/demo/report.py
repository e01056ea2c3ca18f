"""What `jina-rerank demo` has found out: the measures before and after, and what it took."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...evaluation import ContenderResult, Run
from ..local import scorer_of
from .run import Work


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The work, judged."""

    work: Work
    before: ContenderResult
    """Of BM25's order, in which each claim's abstracts stood."""
    after: ContenderResult

    @property
    def gains(self) -> list[float]:
        """How much nDCG@10 each claim gained, or lost."""
        return [b - a for a, b in zip(self.before.quality["nDCG"], self.after.quality["nDCG"], strict=True)]

    @property
    def run(self) -> Run:
        """What the reranker was asked, and its answers."""
        return self.after.run

    @property
    def scorer(self) -> str | None:
        """What scored in the model's place, if an emulator answered."""
        return scorer_of(self.run.rankings[0])

    def totals(self) -> dict[str, object]:
        """The numbers for programs."""
        return {
            "url": self.work.target.url,
            "model": self.run.model,
            "scorer": self.scorer,
            "claims": len(self.work.claims),
            "before": _measures(self.before),
            "after": _measures(self.after),
            "calls": self.run.calls,
            "attempts": self.run.attempts,
            "tokens": self.run.tokens,
            "seconds": self.run.seconds,
        }


def _measures(result: ContenderResult) -> Mapping[str, float]:
    return {"ndcg_at_10": result.mean("nDCG"), "mrr_at_10": result.mean("MRR")}


def report(work: Work) -> DemoReport:
    """Judges the work."""
    before, after = work.evaluation.results
    return DemoReport(work, before, after)
