"""The codec: encode a request, and decode a response to a ranking or an error. Sans-I/O, and without a clock.

A response has the format of the hosted API or of an API-compatible server (docs/servers.md lists them).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import gt, itemgetter
from typing import Any, Final, TypeAlias

from pydantic_core import PydanticSerializationError, from_json, to_json

from ._typeguards import is_array, is_object
from .catalog import Model
from .documents import WireDocument
from .errors import InvalidRequestError, RerankError, ResponseFormatError
from .models import Strategy, Usage


@dataclass(frozen=True, slots=True, eq=False)
class WireRequest:
    """The fields of one request, validated and ready to encode. Pure data."""

    model: str
    query: WireDocument
    documents: list[WireDocument]
    top_n: int | None = None
    return_embeddings: bool | None = None
    max_doc_length: int | None = None
    extra_body: Mapping[str, Any] | None = None
    known: Model | None = None
    """The model's entry in the catalogue, if there is one."""
    encoded: bytes | None = field(default=None, init=False, repr=False)
    """The result of `encode`, kept for further attempts."""


@dataclass(slots=True)
class Ranking:
    """A validated response as columns: the positions of the documents, best first, and their scores."""

    indices: list[int]
    scores: list[float]
    embeddings: list[Sequence[float] | None] | None = None
    model: str | None = None
    usage: Usage | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    calls: int = 1
    """HTTP responses that were merged."""
    strategy: Strategy = "single"
    cause: RerankError | None = None
    """The error that caused a fallback; None for a ranking of the server."""


_Vectors: TypeAlias = list[Sequence[float] | None] | None
_Columns: TypeAlias = tuple[list[int], list[float], _Vectors]


def encode(request: WireRequest) -> bytes:
    """Return the JSON body, which is encoded once for all attempts.

    Unset fields are omitted, because some servers reject null; but `top_n` is always sent.

    Raises:
        InvalidRequestError: A value cannot be written as JSON.
    """
    body = request.encoded
    if body is None:
        body = _encoded(request)
        object.__setattr__(request, "encoded", body)
    return body


def _encoded(request: WireRequest) -> bytes:
    body: dict[str, Any] = {"model": request.model, "query": request.query, "documents": request.documents}
    count = len(request.documents)
    # Without it some servers (Scaleway) respond with 400, and others return fewer results than documents.
    body["top_n"] = count if request.top_n is None else min(request.top_n, count)
    # Always sent, because its default differs between servers and has changed over time.
    body["return_documents"] = False
    if request.return_embeddings is not None:
        body["return_embeddings"] = request.return_embeddings
    if request.max_doc_length is not None:
        body["max_doc_length"] = request.max_doc_length
    if request.extra_body:
        body.update(request.extra_body)
    try:
        if request.extra_body:
            _check_json(request.extra_body)
        return to_json(body)
    except (PydanticSerializationError, UnicodeEncodeError, RecursionError, ValueError):
        pass
    raise InvalidRequestError(f"{_unwritable_field(body)}: it cannot be written as JSON (UTF-8)")


def decode(body: bytes, *, documents: int, top_n: int | None) -> Ranking:
    """Return the ranking in the body of a successful response to a request with `documents` documents.

    Raises:
        ResponseFormatError: The body is not JSON, or not a valid ranking: scores must be finite, indices unique and in
            range, and there must be as many results as requested.
    """
    answer = _parse(body)
    raw = answer if is_array(answer) else _results_field(answer)
    expected = documents if top_n is None else min(top_n, documents)
    # Some servers ignore top_n and return all documents.
    if len(raw) not in (expected, documents):
        raise _broken_rule(f"{expected} results were expected, {len(raw)} came")
    indices, scores, embeddings = _columns(raw, documents)
    if not all(map(gt, scores, islice(scores, 1, None))):  # most servers sort
        indices, scores, embeddings = best_first(indices, scores, embeddings)
    fields: dict[str, Any] = answer if is_object(answer) else {}
    model = fields.get("model")
    return Ranking(
        indices=indices[:expected],
        scores=scores[:expected],
        embeddings=embeddings and embeddings[:expected],
        model=model if isinstance(model, str) else None,
        usage=_usage(fields),
        extra={name: value for name, value in fields.items() if name not in _NAMED_FIELDS},
    )


# Mapping C functions over columns takes a fraction of the time of a comprehension.
_INDEX: Final = itemgetter("index")
_RELEVANCE_SCORE: Final = itemgetter("relevance_score")
_SCORE: Final = itemgetter("score")
_NAMED_FIELDS: Final = frozenset(("model", "results", "data", "usage"))
_MAX_TOKENS: Final = 10**15


def _parse(body: bytes) -> Any:
    if not body.strip():
        raise ResponseFormatError("the answer is empty", should_retry=True)
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        reason = str(error)
    if body.lstrip()[:1] == b"<":
        raise ResponseFormatError(
            "the answer is a page of HTML, not JSON; does base_url name the API?",
            should_retry=False,
        )
    # The response may have been truncated.
    raise ResponseFormatError(f"the answer is not JSON: {reason}", should_retry=True)


def _results_field(answer: Any) -> list[Any]:
    if is_object(answer):
        for name in ("results", "data"):
            results = answer.get(name)
            if is_array(results):
                return results
    raise _broken_rule("it has no list of results")


def _columns(raw: list[Any], documents: int) -> _Columns:
    try:
        indices = list(map(_INDEX, raw))
        scores = list(map(_RELEVANCE_SCORE if raw and "relevance_score" in raw[0] else _SCORE, raw))
        embeddings = [result.get("embedding") for result in raw] if raw and "embedding" in raw[0] else None
    except (KeyError, TypeError, AttributeError):
        raise _broken_rule("each result needs an index and a relevance_score") from None
    if not set(map(type, indices)) <= {int}:
        raise _broken_rule("an index is not an integer")
    if indices and not 0 <= min(indices) <= max(indices) < documents:
        raise _broken_rule(f"an index is not between 0 and {documents - 1}")
    if len(set(indices)) != len(indices):
        raise _broken_rule("an index appears twice")
    return indices, _finite(scores, "a relevance_score"), _vectors(embeddings)


def _finite(numbers: list[Any], what: str) -> list[float]:
    kinds = set(map(type, numbers))
    if not kinds <= {float, int}:
        raise _broken_rule(f"{what} is not a number")
    try:
        floats = list(map(float, numbers)) if int in kinds else numbers
    except OverflowError:
        floats = [math.inf]
    # A finite sum proves that all parts are finite; the sum of finite parts may still overflow.
    if not math.isfinite(sum(floats)) and not all(map(math.isfinite, floats)):
        raise _broken_rule(f"{what} is not finite")
    return floats


def _vectors(embeddings: list[Any] | None) -> _Vectors:
    if embeddings is None:
        return None
    vectors: list[Sequence[float] | None] = []
    for vector in embeddings:
        if vector is not None and not is_array(vector):
            raise _broken_rule("an embedding is not a list of numbers")
        vectors.append(None if vector is None else _finite(vector, "a number of an embedding"))
    return vectors


def best_first(indices: list[int], scores: list[float], embeddings: _Vectors) -> _Columns:
    """Return the columns sorted by descending score, and equal scores by ascending index."""
    order = sorted(range(len(indices)), key=indices.__getitem__)
    order.sort(key=scores.__getitem__, reverse=True)
    return (
        [indices[i] for i in order],
        [scores[i] for i in order],
        None if embeddings is None else [embeddings[i] for i in order],
    )


def _usage(answer: Mapping[str, Any]) -> Usage | None:
    """Return the tokens, from any of the fields that servers use; None if the server does not report tokens."""
    meta = answer.get("meta")
    candidates = [answer.get("usage"), answer.get("tokens")]
    if is_object(meta):
        candidates += [meta.get("tokens"), meta.get("billed_units")]
    for counts in candidates:
        if is_object(counts):
            total = _count(counts, "total_tokens")
            prompt = _count(counts, "prompt_tokens", "input_tokens")
            completion = _count(counts, "completion_tokens", "output_tokens")
            if total is None and prompt is not None:
                total = prompt + (completion or 0)
            if total is not None:
                return Usage(total_tokens=total, prompt_tokens=prompt, completion_tokens=completion)
    return None


def _count(counts: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = counts.get(name)
        # The bound excludes infinity, and integers that overflow a float.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_TOKENS:
            return int(value)
    return None


def _broken_rule(rule: str) -> ResponseFormatError:
    return ResponseFormatError(f"the answer breaks a rule: {rule}", should_retry=False)


def _unwritable_field(body: Mapping[str, Any]) -> str:
    """Return the first field or document that is not JSON, such as a lone surrogate, or an object in extra_body."""
    parts: dict[str, Any] = {name: value for name, value in body.items() if name != "documents"}
    parts |= {f"documents[{i}]": document for i, document in enumerate(body["documents"])}
    for name, value in parts.items():
        try:
            _check_json(value)
        except (ValueError, RecursionError):
            return name
    return "the request"


def _check_json(value: Any) -> None:
    """Raise an error for a value that is not JSON. Parsing it again is needed only for NaN and infinity."""
    from_json(to_json(value), allow_inf_nan=False)
