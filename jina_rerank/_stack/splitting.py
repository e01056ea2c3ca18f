"""Splitting of lists that exceed one request, and deduplication of documents."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from .._codec import Ranking, WireRequest, best_first
from ..catalog import Scoring
from ..documents import WireDocument
from ..errors import InvalidRequestError
from ..models import Usage
from . import Send
from .call_context import CallContext
from .concurrently import run_until


def with_parts(send: Send, max_documents: int, scoring: Scoring | None) -> Send:
    """Send a list in one or several requests, depending on the model's scoring.

    A pointwise score does not depend on the other documents: duplicates are sent once, and a list of more than
    `max_documents` is sent in parts that are merged exactly. A longer list for a listwise model is ranked in rounds. If
    the scoring is unknown, the list is sent in one request, however long.
    """

    async def send_in_parts(request: WireRequest, context: CallContext) -> Ranking:
        kind = scoring or (request.known and request.known.scoring)
        if kind == "pointwise":
            return await _send_distinct(send, request, context, max_documents)
        if kind == "listwise" and len(request.documents) > max_documents:
            return await _send_in_rounds(send, request, context, max_documents)
        return await send(request, context)

    return send_in_parts


async def _send_distinct(send: Send, request: WireRequest, context: CallContext, cap: int) -> Ranking:
    """Send each distinct document once, and give its score to all duplicates."""
    keys = _identities(request.documents)
    if len(set(keys)) == len(keys):
        return await _send_split(send, request, context, cap)
    positions_by_key: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        positions_by_key.setdefault(key, []).append(position)
    duplicates = list(positions_by_key.values())
    # The best top_n of the caller's documents are duplicates of the best top_n distinct ones.
    ranking = await _send_split(send, _narrowed(request, [positions[0] for positions in duplicates]), context, cap)
    rows = [(row, position) for row, index in enumerate(ranking.indices) for position in duplicates[index]]
    vectors = ranking.embeddings
    expanded = replace(
        ranking,
        indices=[position for _, position in rows],
        scores=[ranking.scores[row] for row, _ in rows],
        embeddings=None if vectors is None else [vectors[row] for row, _ in rows],
    )
    return _best(expanded, request.top_n)


def _identities(documents: Sequence[WireDocument]) -> Sequence[Hashable]:
    if set(map(type, documents)) <= {str}:  # fast path for the common case, in C
        return cast(Sequence[str], documents)
    return [document if isinstance(document, str) else tuple(document.items()) for document in documents]


async def _send_split(send: Send, request: WireRequest, context: CallContext, cap: int) -> Ranking:
    """Send a list in parts, concurrently, and merge them by score."""
    if len(request.documents) <= cap:
        return await send(request, context)
    parts = _parts(range(len(request.documents)), cap)
    rankings = await _send_all(send, [_narrowed(request, part) for part in parts], context)
    merged = replace(
        rankings[0],
        indices=[part[index] for part, ranking in zip(parts, rankings, strict=True) for index in ranking.indices],
        scores=[score for ranking in rankings for score in ranking.scores],
        embeddings=_all_embeddings(rankings),
        usage=_total(rankings),
        calls=len(rankings),
        strategy="split",
    )
    return _best(merged, request.top_n)


async def _send_in_rounds(send: Send, request: WireRequest, context: CallContext, cap: int) -> Ranking:
    """Rank parts and keep the best `top_n` of each, until one request holds the rest; return its ranking."""
    _check_rounds(request, cap)
    heat = replace(request, return_embeddings=None)  # only the vectors of the last round are returned
    answers: list[Ranking] = []
    left: Sequence[int] = range(len(request.documents))
    while len(left) > cap:
        parts = _parts(left, cap)
        rankings = await _send_all(send, [_narrowed(heat, part) for part in parts], context)
        answers += rankings
        # In the order given, because listwise scores depend on the order of the documents.
        left = sorted(part[i] for part, ranking in zip(parts, rankings, strict=True) for i in ranking.indices)
    last = await send(_narrowed(request, left), context)
    answers.append(last)
    return replace(
        last,
        indices=[left[index] for index in last.indices],
        usage=_total(answers),
        calls=len(answers),
        strategy="rounds",
    )


def _check_rounds(request: WireRequest, cap: int) -> None:
    """Raise an error for rounds that could drop a document of the result, or that would not end.

    If `top_n` is at most half of `cap`, the documents left by k parts fill at most k / 2 requests, so that each round
    has fewer parts.
    """
    max_top_n = cap // 2
    if request.top_n is not None and request.top_n <= max_top_n:
        return
    asked = "all of them are asked for" if request.top_n is None else f"top_n={request.top_n} is above half of that"
    way_out = f"pass a top_n of at most {max_top_n}, or raise" if max_top_n else "raise"
    raise InvalidRequestError(
        f"documents: {len(request.documents)} are more than one request holds (max_documents={cap}), and {asked}. "
        f"{request.model} is listwise: scores depend on the other documents, so those of parts cannot be merged, and "
        f"rounds find only the best few; {way_out} max_documents as far as the server allows"
    )


def _parts(positions: Sequence[int], cap: int) -> list[Sequence[int]]:
    """Return as few parts as possible, with the positions dealt round-robin.

    The parts have equal sizes, because the largest one determines the latency. And since retrievers put the best
    candidates first, dealing spreads them over the parts, so that few compete for the places of one part.
    """
    count = -(-len(positions) // cap)
    return [positions[first::count] for first in range(count)]


async def _send_all(send: Send, requests: Sequence[WireRequest], context: CallContext) -> list[Ranking]:
    """Send requests concurrently and return their rankings; the first failure cancels the others, and is raised."""

    def is_enough(outcome: Ranking | BaseException, _: int) -> bool:
        return isinstance(outcome, BaseException)

    outcomes = await run_until(is_enough, *(partial(send, request, context) for request in requests))
    for outcome in outcomes.values():
        if isinstance(outcome, BaseException):
            raise outcome
    return [cast(Ranking, outcomes[number]) for number in range(len(requests))]


def _narrowed(request: WireRequest, positions: Sequence[int]) -> WireRequest:
    return replace(request, documents=[request.documents[position] for position in positions])


def _best(ranking: Ranking, top_n: int | None) -> Ranking:
    indices, scores, embeddings = best_first(ranking.indices, ranking.scores, ranking.embeddings)
    return replace(
        ranking,
        indices=indices[:top_n],
        scores=scores[:top_n],
        embeddings=embeddings and embeddings[:top_n],
    )


def _all_embeddings(rankings: Sequence[Ranking]) -> list[Sequence[float] | None] | None:
    if all(ranking.embeddings is None for ranking in rankings):
        return None
    return [vector for ranking in rankings for vector in ranking.embeddings or [None] * len(ranking.indices)]


def _total(rankings: Sequence[Ranking]) -> Usage | None:
    """Return the total tokens; None if a response does not report them."""
    usages = [ranking.usage for ranking in rankings if ranking.usage is not None]
    if len(usages) < len(rankings):
        return None
    return Usage(
        total_tokens=sum(usage.total_tokens for usage in usages),
        prompt_tokens=_sum([usage.prompt_tokens for usage in usages]),
        completion_tokens=_sum([usage.completion_tokens for usage in usages]),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
