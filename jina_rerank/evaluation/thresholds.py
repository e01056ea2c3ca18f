"""Cutoffs of a ranking: the number of documents to keep, and the score threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..models import RerankResponse
from .topics import Passage, Topic

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT_RECALL: Final = 0.95
"""The share of the relevant candidates that a recommended `top_n` keeps."""

_RECALL_LEVELS: Final = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class TopN:
    """The smallest `top_n` that keeps 95 % of the recall of the whole list."""

    top_n: int
    recall: float
    """The mean share of the relevant documents among the first `top_n`."""
    recall_of_all: float
    """The same share for the whole list; it lacks the documents that the first stage did not find."""
    candidates: float
    """The mean length of the whole list."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A minimum score, with its results over the candidates of all topics together."""

    score: float
    precision: float
    """The share of the kept documents that is relevant."""
    recall: float
    """The share of the relevant candidates that is kept."""
    kept: float
    """The mean number of documents kept per topic."""
    empty: float
    """The share of the topics without any document kept."""

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """All candidates of all topics in columns, by score, the best first."""

    scores: "NDArray[np.float64]"
    relevant: "NDArray[np.bool_]"
    topics: "NDArray[np.int64]"
    """The position of each candidate's topic."""
    count: int
    """The number of topics."""

    def half(self, which: int) -> "Scored":
        """Return every second topic, from the first (0) or the second (1)."""
        chosen = self.topics % 2 == which
        return Scored(self.scores[chosen], self.relevant[chosen], self.topics[chosen], (self.count + 1 - which) // 2)


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall at each threshold that separates documents, from the highest to the lowest."""

    thresholds: "NDArray[np.float64]"
    precision: "NDArray[np.float64]"
    recall: "NDArray[np.float64]"

    @property
    def f1(self) -> "NDArray[np.float64]":
        """The harmonic mean of precision and recall."""
        # Zero, not NaN, where both are zero.
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0)


def scored(topics: Sequence[Topic], rankings: Sequence[RerankResponse[Passage]]) -> Scored:
    """Return the scores of all candidates, and whether they are relevant."""
    rows = [
        (result.relevance_score, topic.is_relevant(result.document.id), position)
        for position, (topic, ranking) in enumerate(zip(topics, rankings, strict=True))
        for result in ranking.results
    ]
    scores: NDArray[Any] = np.array([row[0] for row in rows], dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    relevant = np.array([row[1] for row in rows], dtype=np.bool_)
    return Scored(
        scores[order], relevant[order], np.array([row[2] for row in rows], dtype=np.int64)[order], len(topics)
    )


def curve(columns: Scored) -> Curve:
    """Return precision and recall over thresholds, which are midpoints between adjacent scores."""
    last = np.flatnonzero(np.diff(columns.scores, append=-np.inf))  # the last document of each score
    found = np.cumsum(columns.relevant)[last]
    lower = np.append(columns.scores[last[:-1] + 1], columns.scores[-1:])
    thresholds = (columns.scores[last] + lower) / 2
    return Curve(thresholds, found / (last + 1), found / max(int(columns.relevant.sum()), 1))


def at(columns: Scored, score: float) -> Threshold:
    """Return the results of a threshold."""
    kept = columns.scores >= score
    found = int(np.count_nonzero(columns.relevant & kept))
    return Threshold(
        score,
        precision=found / max(int(kept.sum()), 1),
        recall=found / max(int(columns.relevant.sum()), 1),
        kept=float(kept.sum()) / columns.count,
        empty=1 - len(np.unique(columns.topics[kept])) / columns.count,
    )


def best_threshold(columns: Scored) -> Threshold:
    """Return the threshold with the highest F1."""
    line = curve(columns)
    return at(columns, float(line.thresholds[np.argmax(line.f1)]))


def held_out(columns: Scored) -> Threshold | None:
    """Return the results of such thresholds on held-out topics: each half is tested with the other half's threshold.

    The numbers are the means of both; None if a half has no relevant documents to choose a threshold by.
    """
    halves = [columns.half(0), columns.half(1)]
    if not all(half.relevant.any() for half in halves):
        return None
    first, second = (at(theirs, best_threshold(ours).score) for ours, theirs in (halves, reversed(halves)))
    names = ("score", "precision", "recall", "kept", "empty")
    return Threshold(**{name: (getattr(first, name) + getattr(second, name)) / 2 for name in names})


def thresholds(columns: Scored) -> dict[float, Threshold]:
    """Return the highest thresholds that keep 50, 80, 90 and 95 % of the relevant candidates, by that share."""
    line = curve(columns)
    return {level: at(columns, float(line.thresholds[np.argmax(line.recall >= level)])) for level in _RECALL_LEVELS}


def recalls(topics: Sequence[Topic], rankings: Sequence[RerankResponse[Passage]]) -> "NDArray[np.float64]":
    """Return the mean recall of the first n documents, for each n from 1 to the length of the longest list."""
    longest = max(len(ranking.results) for ranking in rankings)
    found = np.zeros((len(topics), longest))
    for row, topic, ranking in zip(found, topics, rankings, strict=True):
        for place, passage in enumerate(ranking.documents):
            row[place] = topic.is_relevant(passage.id) / topic.relevant
    means: NDArray[np.float64] = np.cumsum(found, axis=1).mean(axis=0)
    return means


def best_top_n(topics: Sequence[Topic], rankings: Sequence[RerankResponse[Passage]]) -> TopN:
    """Return the smallest `top_n` that keeps 95 % of the recall of the whole list."""
    means = recalls(topics, rankings)
    place = int(np.argmax(means >= KEPT_RECALL * means[-1] - 1e-12))  # rounding errors of the sums
    length = sum(len(ranking.results) for ranking in rankings) / len(rankings)
    return TopN(place + 1, float(means[place]), float(means[-1]), length)
