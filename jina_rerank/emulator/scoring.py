"""Running a scorer without blocking the event loop: in a worker thread, in steps, or directly."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeGuard, TypeVar

import anyio.lowlevel
import anyio.to_thread

from .scorers import LexicalScorer, Scorer, SelectiveScorer
from .steps import finish_in_turns

_T = TypeVar("_T")


def suited(scorer: Scorer, query: str, documents: Sequence[str]) -> Scorer:
    """Return `scorer`, or the one to which it delegates these texts."""
    return scorer.for_texts(query, documents) if isinstance(scorer, SelectiveScorer) else scorer


async def run(scorer: Scorer, work: Callable[[], _T]) -> _T:
    """Return the result of `work`, called in a worker thread if the scorer blocks."""
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True) if scorer.blocking else work()


async def score(scorer: Scorer, query: str, documents: Sequence[str], *, listwise: bool) -> Iterable[float]:
    """Return the scores, without blocking the event loop."""
    if _scores_in_steps(scorer):
        return await finish_in_turns(scorer.scoring(query, documents, listwise=listwise))
    scores = await run(scorer, partial(scorer.score, query, documents, listwise=listwise))
    return await scores if isinstance(scores, Awaitable) else scores


async def embed(scorer: Scorer, documents: Iterable[str]) -> list[list[float]]:
    """Return the vectors, yielding to the event loop before each document."""
    vectors: list[list[float]] = []
    for document in documents:
        await anyio.lowlevel.checkpoint()
        vectors += await run(scorer, partial(scorer.embed, [document]))
    return vectors


def _scores_in_steps(scorer: Scorer) -> TypeGuard[LexicalScorer]:
    """Return whether `scoring` is equivalent to `score`, which a subclass may override."""
    return isinstance(scorer, LexicalScorer) and type(scorer).score is LexicalScorer.score
