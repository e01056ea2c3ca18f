"""What `jina-rerank demo` has found out: the measures before and after, and what it took."""

from collections.abc import Mapping
from dataclasses import dataclass

from .demo_run import Run
from .local import scorer_of
from .quality import Quality, quality


@dataclass(frozen=True, slots=True)
class Report:
    """A run, judged."""

    run: Run
    before: Quality
    after: Quality

    @property
    def gains(self) -> Mapping[str, float]:
        """How much nDCG@10 each claim gained, or lost, by the claim's id."""
        return {id_: after - self.before.ndcg_of[id_] for id_, after in self.after.ndcg_of.items()}

    @property
    def model(self) -> str | None:
        """The model that was asked for, as the answers name it."""
        return self.run.rankings[0].model

    @property
    def scorer(self) -> str | None:
        """What scored in its place, if an emulator answered."""
        return scorer_of(self.run.rankings[0])

    @property
    def calls(self) -> int:
        return sum(ranking.calls for ranking in self.run.rankings)

    @property
    def tokens(self) -> int:
        """As the server counts them; 0 if it does not."""
        return sum(ranking.usage.total_tokens for ranking in self.run.rankings if ranking.usage)

    def totals(self) -> dict[str, object]:
        """The numbers for programs."""
        return {
            "url": self.run.target.url,
            "model": self.model,
            "scorer": self.scorer,
            "claims": len(self.run.claims),
            "before": {"ndcg_at_10": self.before.ndcg_at_10, "mrr_at_10": self.before.mrr_at_10},
            "after": {"ndcg_at_10": self.after.ndcg_at_10, "mrr_at_10": self.after.mrr_at_10},
            "calls": self.calls,
            "attempts": sum(ranking.attempts for ranking in self.run.rankings),
            "tokens": self.tokens,
            "seconds": self.run.seconds,
        }


def report(run: Run) -> Report:
    """Judges a run. Before it, each claim's abstracts stood in BM25's order."""
    judgments = {claim.id: claim.relevance for claim in run.claims}
    before = {claim.id: [abstract.id for abstract in claim.candidates] for claim in run.claims}
    after = {
        claim.id: [abstract.id for abstract in ranking.documents]
        for claim, ranking in zip(run.claims, run.rankings, strict=True)
    }
    return Report(run, quality(judgments, before), quality(judgments, after))
