"""The two ends of a call: from the caller's arguments to what is sent, and from the ranking to the response."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ._codec import Ranking, WireRequest
from ._config import CLIENT_DEFAULT, ClientDefault, Options, check_seconds
from ._results import Results
from ._typeguards import is_mapping, is_sequence
from .catalog import find_model
from .documents import Document, Query, is_image, listed, not_blank, wire_documents, wire_query
from .errors import InvalidRequestError
from .models import RerankRequest, RerankResponse, build_request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A checked call: the caller's documents, and what is sent of them."""

    documents: Sequence[T]
    """The caller's own objects."""
    sent: Sequence[int]
    """The positions of those that are sent: all but the blank ones."""
    top_n: int | None
    wire: WireRequest


def open_call(
    query: Query,
    documents: Iterable[T],
    *,
    key: Callable[[T], Document] | None,
    model: str | None,
    top_n: int | None,
    deadline: float | ClientDefault | None,
    return_embeddings: bool | None,
    max_doc_length: int | None,
    extra_body: Mapping[str, Any] | None,
    options: Options,
    hosted: bool,
) -> Call[T]:
    """A call from the arguments of `rerank`; `hosted` says that it goes to Jina's own API.

    Raises:
        InvalidRequestError: They break a rule.
    """
    _check_order(query, documents)
    check_key(key)
    items: tuple[T, ...] = listed(documents)
    request = build_request(
        query=query,
        documents=(),  # they are checked once, where their wire form is made
        model=model,
        top_n=top_n,
        return_embeddings=return_embeddings,
        max_doc_length=max_doc_length,
        extra_body=extra_body,
    )
    if deadline is CLIENT_DEFAULT:
        deadline = options.deadline
    else:
        check_seconds("deadline", deadline, InvalidRequestError)
    given = items if key is None else [key(item) for item in items]
    return _call(request, items, given, deadline=deadline, options=options, hosted=hosted)


def _check_order(query: object, documents: object) -> None:
    """Refuse swapped arguments, in words that say so."""
    if isinstance(documents, str) and is_sequence(query) and not isinstance(query, str):
        kind = type(query).__name__
        raise InvalidRequestError(f"query, documents: they look swapped: the query is a {kind}, the documents a str")


def check_key(key: object) -> None:
    """Refuse a `key` that is no function, such as the name of a field.

    Raises:
        InvalidRequestError: It is neither a function nor None.
    """
    if key is not None and not callable(key):
        way_out = f"; pass key=lambda d: d[{key!r}]" if isinstance(key, str) else ""
        kind = type(key).__name__
        raise InvalidRequestError(f"key: expected a function that gives the document of an object, got {kind}{way_out}")


def open_request(
    request: object, position: int, *, key: Callable[[Any], Document] | None, options: Options, hosted: bool
) -> Call[Any]:
    """A call from what `rerank_many` was given at a position: a RerankRequest, or a mapping with its fields.

    Raises:
        InvalidRequestError: It breaks a rule, or `key` raised an exception.
    """
    checked, items = _checked(request, position)
    try:
        given = items if key is None else tuple(map(key, items))
    except Exception as error:  # noqa: BLE001  # of the caller's function, for one request of many
        reason = f"{type(error).__name__}: {error}"
    else:
        return _call(checked, items, given, deadline=options.deadline, options=options, hosted=hosted)
    raise InvalidRequestError(f"documents: key= raised {reason}")


def _checked(request: object, position: int) -> tuple[RerankRequest, tuple[Any, ...]]:
    """A request that is checked but for its documents, and these."""
    if isinstance(request, RerankRequest):
        return request, tuple(request.documents)
    if not is_mapping(request):
        kind = type(request).__name__
        raise InvalidRequestError(
            f"requests[{position}]: expected a RerankRequest or a mapping with its fields, got {kind}; "
            "RerankRequest(query=..., documents=...)"
        )
    fields = dict(request)
    for name in fields:
        if name not in RerankRequest.model_fields:
            raise InvalidRequestError(
                f"{name}: no field of a RerankRequest; for fields of your own make a subclass of RerankRequest"
            )
    items = listed(fields["documents"]) if "documents" in fields else ()
    return build_request(**(fields | {"documents": ()} if items else fields)), items


def _call(
    request: RerankRequest,
    items: Sequence[T],
    given: Sequence[object],
    *,
    deadline: float | None,
    options: Options,
    hosted: bool,
) -> Call[T]:
    """A call from a request that is checked but for its documents: `given` for the caller's `items`.

    Raises:
        InvalidRequestError: A document is none, or the hosted API is known to refuse the request.
    """
    wire = wire_documents(given)
    sent = not_blank(wire)
    call = Call(
        documents=items,
        sent=sent,
        top_n=request.top_n,
        wire=WireRequest(
            model=request.model or options.model,
            query=wire_query(request.query),
            documents=wire if len(sent) == len(wire) else [wire[position] for position in sent],
            top_n=request.top_n,
            return_embeddings=request.return_embeddings,
            max_doc_length=request.max_doc_length,
            extra_body=request.extra_body,
            deadline=deadline,
        ),
    )
    if hosted:
        _check_against_catalogue(call.wire)
    return call


def _check_against_catalogue(wire: WireRequest) -> None:
    """What the hosted API is known to refuse, or to give up soon; other servers know best what they serve."""
    model = find_model(wire.model)
    if model is None:
        return
    wire.model = model.name  # the API takes the name without a prefix
    if model.replaced_by is not None:
        # Five frames up: this function, _call, open_call, the client's method, and its caller.
        warnings.warn(f"{model.name} is deprecated by Jina; use {model.replaced_by}", DeprecationWarning, stacklevel=5)
    if not model.images:
        for field, parts in (("query", [wire.query]), ("documents", wire.documents)):
            if any(map(is_image, parts)):
                raise InvalidRequestError(f"{field}: {model.name} reads no images; use jina-reranker-m0, or send text")


def respond(call: Call[T], ranking: Ranking | None) -> RerankResponse[T]:
    """The response for a call; `ranking` is None where nothing had to be sent."""
    if ranking is None:
        return RerankResponse(results=_results(call, [], [], None))
    return RerankResponse(
        results=_ranked(call, ranking) if ranking.cause is None else _as_given(call),
        model=ranking.model,
        usage=ranking.usage,
        attempts=call.wire.tally.attempts,
        throttled_seconds=call.wire.tally.throttled_seconds,
        calls=ranking.calls,
        strategy=ranking.strategy,
        degraded=ranking.cause is not None,
        cause=ranking.cause,
        headers=ranking.headers,
        extra=ranking.extra,
    )


def _ranked(call: Call[T], ranking: Ranking) -> Results[T]:
    sent = call.sent
    indices = ranking.indices if len(sent) == len(call.documents) else [sent[index] for index in ranking.indices]
    return _results(call, indices, ranking.scores, ranking.embeddings)


def _as_given(call: Call[T]) -> Results[T]:
    """The documents in the order given, the blank ones in their places."""
    documents = list(call.documents[: call.top_n])
    return Results(list(range(len(documents))), [0.0] * len(documents), documents, None)


def _results(
    call: Call[T], indices: list[int], scores: list[float], embeddings: list[Sequence[float] | None] | None
) -> Results[T]:
    """What was ranked, and behind it the blank documents, in the order given, with the lowest score."""
    missing = len(call.documents) - len(call.sent)
    if missing:
        indices = indices + sorted(set(range(len(call.documents))).difference(call.sent))
        scores = scores + [min(scores, default=0.0)] * missing
        embeddings = embeddings and embeddings + [None] * missing
    results = Results(indices, scores, list(map(call.documents.__getitem__, indices)), embeddings)
    return results if call.top_n is None else results[: call.top_n]
