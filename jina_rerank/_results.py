"""Ranked documents: one result, and all results of a response, stored as columns."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, ClassVar, Final, Generic, TypeVar, overload

from ._typeguards import is_sequence

T_co = TypeVar("T_co", covariant=True)

_BATCH_SIZE: Final = 256
"""Results created at once while they are iterated over: few enough that the garbage collector, which runs after 700
new objects, seldom runs."""


@dataclass(frozen=True, slots=True)
class RerankResult(Generic[T_co]):
    """One ranked document."""

    index: int
    """The document's position in the list given."""
    relevance_score: float
    """The server's score, unchanged: higher is better; the range depends on the model, and may include negative
    scores."""
    document: T_co
    """The caller's own object."""
    embedding: Sequence[float] | None = None
    """The document's vector, if `return_embeddings` requested it and the server returned it."""


class Results(Sequence[RerankResult[T_co]]):
    """A sequence of results that creates each result on access.

    A thousand live objects cost a few runs of the garbage collector; a thousand rows of columns cost none.
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
        return chain.from_iterable(map(self._make_batch, range(0, len(self), _BATCH_SIZE)))

    def __eq__(self, other: object) -> bool:
        """Return whether another sequence, such as a tuple or a list, has the same results."""
        return tuple(self) == tuple(other) if is_sequence(other) else NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as for a list: documents may be of any type

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _make_batch(self, start: int) -> list[RerankResult[T_co]]:
        """Return a batch of results, in less than half the time of calling the class for each."""
        end = start + _BATCH_SIZE
        columns: tuple[Iterable[Any], ...] = (
            self.indices[start:end],
            self.scores[start:end],
            self.documents[start:end],
            repeat(None) if self.embeddings is None else self.embeddings[start:end],
        )
        batch = list(map(_new, repeat(RerankResult, min(_BATCH_SIZE, len(self) - start))))
        for set_slot, column in zip(_SET_SLOTS, columns, strict=True):
            deque(map(set_slot, batch, column), maxlen=0)
        return batch


_new: Final[Callable[..., Any]] = object.__new__
# The slots' setters, to set whole columns: the only fast way to fill frozen dataclasses.
_SET_SLOTS: Final[tuple[Callable[[Any, Any], None], ...]] = tuple(
    getattr(RerankResult, name).__set__ for name in ("index", "relevance_score", "document", "embedding")
)
