"""Ranked documents: one result, and all results of a response, kept as columns."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, ClassVar, Final, Generic, TypeVar, overload

from ._typeguards import is_sequence

T_co = TypeVar("T_co", covariant=True)

_BATCH: Final = 256
"""Results made at once while they are iterated: few enough that the garbage collector, which looks in after 700 new
objects, is seldom called."""


@dataclass(frozen=True, slots=True)
class RerankResult(Generic[T_co]):
    """One ranked document."""

    index: int
    """The document's position in the list that was given."""
    relevance_score: float
    """The score as the server gave it: the higher the better, of any range, perhaps negative."""
    document: T_co
    """The caller's own object."""
    embedding: Sequence[float] | None = None
    """The document's vector, where `return_embeddings` asked for it and the server gave it."""


class Results(Sequence[RerankResult[T_co]]):
    """A sequence of results that makes each when it is looked at.

    A thousand results that live at once cost a few scans by the garbage collector; a thousand rows of columns cost it
    nothing.
    """

    __slots__ = ("documents", "embeddings", "indices", "scores")

    def __init__(
        self,
        indices: Sequence[int],
        scores: Sequence[float],
        documents: Sequence[T_co],
        embeddings: Sequence[Sequence[float] | None] | None = None,
    ) -> None:
        self.indices: Sequence[int] = indices
        self.scores: Sequence[float] = scores
        self.documents: Sequence[T_co] = documents
        self.embeddings: Sequence[Sequence[float] | None] | None = embeddings

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, position: int) -> RerankResult[T_co]: ...

    @overload
    def __getitem__(self, position: slice) -> "Results[T_co]": ...

    def __getitem__(self, position: int | slice) -> "RerankResult[T_co] | Results[T_co]":
        vectors = self.embeddings
        if isinstance(position, slice):
            return Results(
                self.indices[position],
                self.scores[position],
                self.documents[position],
                None if vectors is None else vectors[position],
            )
        return RerankResult(
            self.indices[position],
            self.scores[position],
            self.documents[position],
            None if vectors is None else vectors[position],
        )

    def __iter__(self) -> Iterator[RerankResult[T_co]]:
        return chain.from_iterable(map(self._made, range(0, len(self), _BATCH)))

    def __eq__(self, other: object) -> bool:
        """Whether it holds the same results as another sequence, be it a tuple or a list."""
        return tuple(self) == tuple(other) if is_sequence(other) else NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as that of a list: documents may be anything

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _made(self, start: int) -> list[RerankResult[T_co]]:
        """A batch of results, in less than half the time of as many calls of the class."""
        end = start + _BATCH
        columns: tuple[Iterable[Any], ...] = (
            self.indices[start:end],
            self.scores[start:end],
            self.documents[start:end],
            repeat(None) if self.embeddings is None else self.embeddings[start:end],
        )
        batch = list(map(_new, repeat(RerankResult, min(_BATCH, len(self) - start))))
        for set_slot, column in zip(_SET_SLOTS, columns, strict=True):
            deque(map(set_slot, batch, column), maxlen=0)
        return batch


_new: Final[Callable[..., Any]] = object.__new__
# The slots' own setters, for whole columns: a frozen dataclass has no other way that is quick.
_SET_SLOTS: Final[tuple[Callable[[Any, Any], None], ...]] = tuple(
    getattr(RerankResult, name).__set__ for name in ("index", "relevance_score", "document", "embedding")
)
