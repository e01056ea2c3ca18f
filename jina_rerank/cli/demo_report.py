"""What `jina-rerank demo` has found out: the measures before and after, and what it took."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..evaluation import Run, Verdict
from .demo_run import Work
from .local import scorer_of


@dataclass(frozen=True, slots=True)
class Report:
    """The work, judged."""

    work: Work
    before: Verdict
    """Of BM25's order, in which each claim's abstracts stood."""
    after: Verdict

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


def _measures(verdict: Verdict) -> Mapping[str, float]:
    return {"ndcg_at_10": verdict.mean("nDCG"), "mrr_at_10": verdict.mean("MRR")}


def report(work: Work) -> Report:
    """Judges the work."""
    before, after = work.evaluation.verdicts
    return Report(work, before, after)
