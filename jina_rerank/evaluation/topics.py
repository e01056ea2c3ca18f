"""Topics: queries with their candidates in a first stage's order, and relevance judgments."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..emulator.scifact import claims


@dataclass(frozen=True, slots=True)
class Passage:
    """A candidate document."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Topic:
    """One query."""

    id: str
    query: str
    candidates: tuple[Passage, ...]
    """In a first stage's order, best first, as an application shows them without a reranker."""
    relevance: Mapping[str, int]
    """Relevance judgments by document id, for candidates and other documents; above 0 is relevant. Unlisted documents
    are not relevant."""

    def is_relevant(self, id_: str) -> bool:
        """Return whether the document of this id is relevant."""
        return self.relevance.get(id_, 0) > 0

    @property
    def relevant(self) -> int:
        """The number of relevant documents."""
        return sum(grade > 0 for grade in self.relevance.values())


def sample() -> tuple[Topic, ...]:
    """Return forty scientific claims with 20 abstracts each, as data for a first evaluation.

    They are a sample of SciFact, in BM25's order; the emulator's data/NOTICE.md has sources and licences.
    """
    return tuple(
        Topic(
            claim.id,
            claim.text,
            tuple(Passage(abstract.id, abstract.passage) for abstract in claim.candidates),
            claim.relevance,
        )
        for claim in claims()
    )
