"""The results of `jina-rerank demo`: the measures before and after reranking, and the effort."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...evaluation import ContenderResult, Run
from ..local import scorer_of
from .run import Work


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The work with its measures before and after reranking."""

    work: Work
    before: ContenderResult
    """The result of BM25's order, the original order of each claim's abstracts."""
    after: ContenderResult

    @property
    def gains(self) -> list[float]:
        """The change of nDCG@10 of each claim."""
        return [b - a for a, b in zip(self.before.quality["nDCG"], self.after.quality["nDCG"], strict=True)]

    @property
    def run(self) -> Run:
        """The reranker's calls and rankings."""
        return self.after.run

    @property
    def scorer(self) -> str | None:
        """The emulator's scorer, if an emulator answered."""
        return scorer_of(self.run.rankings[0])

    def totals(self) -> dict[str, object]:
        """Return the numbers of --json."""
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
    """Return the report of the work."""
    before, after = work.evaluation.results
    return DemoReport(work, before, after)
