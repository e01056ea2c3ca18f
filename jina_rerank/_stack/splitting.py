"""Lists that do not go out as they are: longer than one request may be, or with a document that appears twice."""

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
    """Sends a list as the model's scoring allows.

    Pointwise, each document has its score whatever stands beside it: equal documents are sent once, and a list of more
    than `max_documents` in parts that are merged exactly. Listwise, a longer list goes through rounds. A list for a
    model of which neither the catalogue nor `scoring` knows anything is one request, however long.
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
    """Sends each document once, and gives its score to all that equal it."""
    keys = _identities(request.documents)
    if len(set(keys)) == len(keys):
        return await _send_split(send, request, context, cap)
    places: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        places.setdefault(key, []).append(position)
    twins = list(places.values())
    # The best top_n of the caller's documents are among the best top_n distinct ones, by their first places.
    ranking = await _send_split(send, _narrowed(request, [positions[0] for positions in twins]), context, cap)
    rows = [(row, position) for row, index in enumerate(ranking.indices) for position in twins[index]]
    vectors = ranking.embeddings
    expanded = replace(
        ranking,
        indices=[position for _, position in rows],
        scores=[ranking.scores[row] for row, _ in rows],
        embeddings=None if vectors is None else [vectors[row] for row, _ in rows],
    )
    return _best(expanded, request.top_n)


def _identities(documents: Sequence[WireDocument]) -> Sequence[Hashable]:
    if set(map(type, documents)) <= {str}:  # the common case, at the speed of C
        return cast(Sequence[str], documents)
    return [document if isinstance(document, str) else tuple(document.items()) for document in documents]


async def _send_split(send: Send, request: WireRequest, context: CallContext, cap: int) -> Ranking:
    """Sends a list in parts, side by side, and merges them by score."""
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
    """Lets each part keep its best `top_n`, until one request holds the rest: its scores are the result's."""
    _check_rounds(request, cap)
    heat = replace(request, return_embeddings=None)  # only the last round's vectors come out
    answers: list[Ranking] = []
    left: Sequence[int] = range(len(request.documents))
    while len(left) > cap:
        parts = _parts(left, cap)
        rankings = await _send_all(send, [_narrowed(heat, part) for part in parts], context)
        answers += rankings
        # In the order given, since the order in a request is part of what a listwise model reads.
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
    """Refuses rounds that could drop a document of the result, or that would not end.

    With `top_n` at most half of `cap`, k parts leave at most k / 2 requests full: each round has fewer parts.
    """
    most = cap // 2
    if request.top_n is not None and request.top_n <= most:
        return
    asked = "all of them are asked for" if request.top_n is None else f"top_n={request.top_n} is above half of that"
    way_out = f"pass a top_n of at most {most}, or raise" if most else "raise"
    raise InvalidRequestError(
        f"documents: {len(request.documents)} are more than one request holds (max_documents={cap}), and {asked}. "
        f"{request.model} is listwise: scores depend on the other documents, so those of parts cannot be merged, and "
        f"rounds find only the best few; {way_out} max_documents as far as the server allows"
    )


def _parts(positions: Sequence[int], cap: int) -> list[Sequence[int]]:
    """As few parts as can be, dealt out like cards.

    So they are of one size, because the largest one decides how long all take. And candidates that a retriever has
    sorted are strong at the beginning: dealt out, few of the best are in one part, where they would compete for places.
    """
    count = -(-len(positions) // cap)
    return [positions[first::count] for first in range(count)]


async def _send_all(send: Send, requests: Sequence[WireRequest], context: CallContext) -> list[Ranking]:
    """The rankings of all requests, sent side by side; the first that fails cancels the others and fails them all."""

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
    """The tokens of all; None where one answer does not tell its own."""
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
