"""The two ends of a call: from the caller's arguments to the wire request, and from the ranking to the response."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack

from ._codec import Ranking, WireRequest
from ._config import CLIENT_DEFAULT, ClientConfig, ClientDefault, check_seconds
from ._results import Results
from ._typeguards import is_mapping, is_sequence
from ._warnings import CallerLine, warn_deprecated
from .catalog import Model, find_model
from .documents import Document, Query, WireDocument, is_image, listed, not_blank, wire_documents, wire_query
from .errors import InvalidRequestError
from .models import RequestFields, RerankRequest, RerankResponse, build_request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A validated call: the caller's documents, and the request to send."""

    documents: Sequence[T]
    """The caller's own objects."""
    sent_positions: Sequence[int]
    """The positions of the documents that are sent: all except blank ones."""
    top_n: int | None
    deadline: float | None
    """Seconds for the whole call; None for no limit."""
    wire: WireRequest


@dataclass(frozen=True, slots=True)
class Destination:
    """The client's config and server, as far as a call depends on them."""

    config: ClientConfig
    hosted: bool = False
    """Whether the server is Jina's own API."""
    only_model: str | None = None
    """The name of a local client's scorer, which replaces the model that a call names; the catalogue does not apply."""


def open_call(
    query: Query,
    documents: Iterable[T],
    *,
    key: Callable[[T], Document] | None,
    deadline: float | ClientDefault | None,
    to: Destination,
    **fields: Unpack[RequestFields],
) -> Call[T]:
    """Return the call for the arguments of `rerank`.

    Raises:
        InvalidRequestError: An argument is invalid.
    """
    _check_order(query, documents)
    check_key(key)
    items: tuple[T, ...] = listed(documents)
    request = build_request(query=query, documents=(), **fields)  # `_call` validates the documents
    if deadline is CLIENT_DEFAULT:
        deadline = to.config.deadline
    else:
        check_seconds("deadline", deadline, InvalidRequestError)
    given = items if key is None else [key(item) for item in items]
    return _call(request, items, given, deadline=deadline, to=to)


def _check_order(query: object, documents: object) -> None:
    """Raise an error that names the mistake if query and documents are swapped."""
    if isinstance(documents, str) and is_sequence(query) and not isinstance(query, str):
        kind = type(query).__name__
        raise InvalidRequestError(f"query, documents: they look swapped: the query is a {kind}, the documents a str")


def check_key(key: object) -> None:
    """Check that `key` is a function or None, and not, for example, the name of a field.

    Raises:
        InvalidRequestError: It is neither a function nor None.
    """
    if key is not None and not callable(key):
        way_out = f"; pass key=lambda d: d[{key!r}]" if isinstance(key, str) else ""
        kind = type(key).__name__
        raise InvalidRequestError(f"key: expected a function that gives the document of an object, got {kind}{way_out}")


def open_request(
    request: object,
    position: int,
    *,
    key: Callable[[Any], Document] | None,
    to: Destination,
    caller: CallerLine | None = None,
) -> Call[Any]:
    """Return the call for a request of `rerank_many`, a RerankRequest or a mapping with its fields.

    Raises:
        InvalidRequestError: The request is invalid, or `key` raised an exception.
    """
    checked, items = _checked(request, position)
    try:
        given = items if key is None else tuple(map(key, items))
    except Exception as error:  # noqa: BLE001  # an error of the caller's function concerns one request of many
        reason = f"{type(error).__name__}: {error}"
    else:
        return _call(
            checked,
            items,
            given,
            deadline=to.config.deadline,
            to=to,
            caller=caller,
            decode_images=key is not None or checked is not request,
        )
    raise InvalidRequestError(f"documents: key= raised {reason}")


def _checked(request: object, position: int) -> tuple[RerankRequest, tuple[Any, ...]]:
    """Return a request that is validated except for its documents, and the documents."""
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
            raise InvalidRequestError(f"{name}: not a field of RerankRequest; subclass RerankRequest to add fields")
    items = listed(fields["documents"]) if "documents" in fields else ()
    return build_request(**(fields | {"documents": ()} if items else fields)), items


def _call(
    request: RerankRequest,
    items: Sequence[T],
    given: Sequence[object],
    *,
    deadline: float | None,
    to: Destination,
    caller: CallerLine | None = None,
    decode_images: bool = True,
) -> Call[T]:
    """Return the call for a request whose documents are not validated yet: `given` for the caller's `items`.

    Raises:
        InvalidRequestError: A document is invalid, or the hosted API is known to reject the request.
    """
    wire = wire_documents(given, decode_images=decode_images)
    sent_positions = not_blank(wire)
    # RerankRequest has validated a str; an image still has to be converted.
    query = request.query if type(request.query) is str else wire_query(request.query)
    documents = wire if len(sent_positions) == len(wire) else [wire[position] for position in sent_positions]
    name = to.only_model or request.model or to.config.model_name
    known = None if to.only_model is not None else find_model(name)
    if to.hosted and known is not None:
        name = known.name  # the API takes the name without a prefix
        _check_against_catalogue(known, query, documents, caller)
    return Call(
        documents=items,
        sent_positions=sent_positions,
        top_n=request.top_n,
        deadline=deadline,
        wire=WireRequest(
            model=name,
            query=query,
            documents=documents,
            top_n=request.top_n,
            return_embeddings=request.return_embeddings,
            max_doc_length=request.max_doc_length,
            extra_body=request.extra_body,
            known=known,
        ),
    )


def _check_against_catalogue(
    model: Model, query: WireDocument, documents: Sequence[WireDocument], caller: CallerLine | None
) -> None:
    """Raise an error for what the hosted API rejects, and warn of what it has deprecated.

    Other servers may serve other models under these names, and are not checked.
    """
    if model.replaced_by is not None:
        warn_deprecated(f"{model.name} is deprecated by Jina; use {model.replaced_by}", caller)
    if not model.images:
        for field, parts in (("query", [query]), ("documents", documents)):
            if any(map(is_image, parts)):
                raise InvalidRequestError(f"{field}: {model.name} reads no images; use jina-reranker-m0, or send text")


def respond(call: Call[T], ranking: Ranking | None, attempts: int, throttled_seconds: float) -> RerankResponse[T]:
    """Return the response of a call; `ranking` is None if there was nothing to send."""
    if ranking is None:
        return RerankResponse(results=_results(call, [], [], None))
    return RerankResponse(
        results=_ranked(call, ranking) if ranking.cause is None else _as_given(call),
        model=ranking.model,
        usage=ranking.usage,
        attempts=attempts,
        throttled_seconds=throttled_seconds,
        calls=ranking.calls,
        strategy=ranking.strategy,
        degraded=ranking.cause is not None,
        cause=ranking.cause,
        headers=ranking.headers,
        extra=ranking.extra,
    )


def _ranked(call: Call[T], ranking: Ranking) -> Results[T]:
    positions = call.sent_positions
    is_complete = len(positions) == len(call.documents)
    indices = ranking.indices if is_complete else [positions[index] for index in ranking.indices]
    return _results(call, indices, ranking.scores, ranking.embeddings)


def _as_given(call: Call[T]) -> Results[T]:
    """Return the documents in the order given, including blank ones."""
    documents = list(call.documents[: call.top_n])
    return Results(list(range(len(documents))), [0.0] * len(documents), documents, None)


def _results(
    call: Call[T], indices: list[int], scores: list[float], embeddings: list[Sequence[float] | None] | None
) -> Results[T]:
    """Return the results of the ranking, followed by the blank documents in the order given, with the lowest score."""
    missing = len(call.documents) - len(call.sent_positions)
    if missing:
        indices = indices + sorted(set(range(len(call.documents))).difference(call.sent_positions))
        scores = scores + [min(scores, default=0.0)] * missing
        embeddings = embeddings and embeddings + [None] * missing
    results = Results(indices, scores, list(map(call.documents.__getitem__, indices)), embeddings)
    return results if call.top_n is None else results[: call.top_n]
