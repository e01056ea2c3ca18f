"""What an evaluation asks about: queries, their candidates in a first stage's order, and which of them are relevant."""

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
    """In the order in which a first stage found them, best first: what an application shows without a reranker."""
    relevance: Mapping[str, int]
    """The judgment by id of the document, also of those that are no candidates; above 0 is relevant. Documents that
    are not listed are not relevant."""

    def is_relevant(self, id_: str) -> bool:
        """Whether the document of this id is relevant."""
        return self.relevance.get(id_, 0) > 0

    @property
    def relevant(self) -> int:
        """How many documents are relevant."""
        return sum(grade > 0 for grade in self.relevance.values())


def sample() -> tuple[Topic, ...]:
    """Forty scientific claims with 20 abstracts each, to try an evaluation on.

    They are a sample of SciFact, in BM25's order; sources and licences are in the emulator's data/NOTICE.md.
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
