"""What goes into a call and what comes out: the request, and the response generic in the caller's documents."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeAlias, TypedDict, TypeVar, cast, overload

from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    SkipValidation,
    ValidationError,
    model_validator,
)
from pydantic_core import to_jsonable_python

from ._results import RerankResult
from ._typeguards import PositiveInteger, is_mapping
from .documents import Document, ImageDocument, Query, TextDocument, listed, wire_documents, wire_query
from .errors import InvalidRequestError, RerankError

if sys.version_info >= (3, 13):
    from typing import TypeVar as TypeVarWithDefault
else:
    from typing_extensions import TypeVar as TypeVarWithDefault  # a dependency of pydantic

T_co = TypeVar("T_co", covariant=True)

Strategy: TypeAlias = Literal["single", "split", "rounds"]
"""How a list was sent: in one request, split and merged, or in rounds."""

_OWN_FIELDS: Final = frozenset(
    ("model", "query", "documents", "top_n", "return_documents", "return_embeddings", "max_doc_length")
)


_WAYS_OUT: Final = {
    "top_n": "; leave it out to get all documents",
    "max_doc_length": "; leave it out for the model's own limit",
    "model": "; leave it out for the client's model",
}


_GIVE_KEY_TO_MANY: Final = (
    "for objects of your own give rerank_many mappings with the fields of a RerankRequest, and key=, as in sorted(key=)"
)


class RequestFields(TypedDict, total=False):
    """The fields of a RerankRequest that `rerank` takes as arguments of the same names."""

    model: str | None
    top_n: int | None
    return_embeddings: bool | None
    max_doc_length: int | None
    extra_body: Mapping[str, Any] | None


class RerankRequest(BaseModel, frozen=True, extra="forbid", strict=True, hide_input_in_errors=True):
    """One query and its candidate documents, as `rerank_many` takes them.

    Built by hand, it raises pydantic's ValidationError for what breaks a rule; the inputs are hidden in it.
    """

    query: SkipValidation[Query]
    """What to rank by. It must not be blank."""
    documents: Annotated[Sequence[Document], PlainValidator(listed)]
    """The candidates, the caller's own objects. Blank ones rank last."""
    model: Annotated[str, Field(min_length=1)] | None = None
    """The reranker; None means the client's."""
    top_n: PositiveInteger | None = None
    """How many of the best to return; None means all."""
    return_embeddings: bool | None = None
    """Whether each result carries its document's vector (listwise models)."""
    max_doc_length: PositiveInteger | None = None
    """Tokens of each document that are scored; None means the model's own limit."""
    extra_body: Mapping[str, Any] | None = None
    """Fields to send that only your server knows."""

    @model_validator(mode="after")
    def _is_sendable(self) -> Self:
        wire_query(self.query)
        wire_documents(self.documents, way_out=_GIVE_KEY_TO_MANY)
        taken = ", ".join(sorted(_OWN_FIELDS.intersection(self.extra_body or ())))
        if taken:
            raise InvalidRequestError(f"extra_body: {taken} cannot be set here; use the argument of that name")
        return self


def build_request(**fields: Any) -> RerankRequest:
    """A RerankRequest from a call's arguments, as `rerank` takes them.

    Raises:
        InvalidRequestError: The arguments break a rule. It names the field, the rule and the way out.
    """
    try:
        return RerankRequest(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidRequestError):
        raise cause
    name = ".".join(str(part) for part in first["loc"])
    raise InvalidRequestError(f"{name}: {first['msg']}{_WAYS_OUT.get(name, '')}")


class Usage(BaseModel, frozen=True):
    """The tokens a call has cost."""

    total_tokens: int
    """Tokens billed: those of the query and of all documents."""
    prompt_tokens: int | None = None
    """Tokens read, where the server tells them apart."""
    completion_tokens: int | None = None
    """Tokens written, where the server tells them apart."""


@dataclass(frozen=True, slots=True)
class RerankResponse(Generic[T_co]):
    """Documents in order of relevance, and how they came to be in it."""

    results: Sequence[RerankResult[T_co]]
    """The ranked documents, best first; equal scores in the order given. At most `top_n`. Each is made when it is
    looked at."""
    model: str | None = None
    """The model that ranked, as the server names it; None where it does not."""
    usage: Usage | None = None
    """The tokens billed; None where the server does not tell."""
    attempts: int = 0
    """HTTP requests sent for this call, refused ones included."""
    throttled_seconds: float = 0.0
    """Seconds that its HTTP requests have waited for the limits of the key, or for `max_concurrency`, added up."""
    calls: int = 0
    """Requests that were answered and make up this response: 0 when nothing had to be sent."""
    strategy: Strategy = "single"
    """Whether one request held the whole list."""
    degraded: bool = False
    """True when the documents were not ranked and a fallback's order was returned."""
    cause: RerankError | None = None
    """Why the response is degraded."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """The answer's headers, names in lower case. Of several answers, as `extra`: those of the first part, or of the
    last round."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the answer that this class has no name for."""

    @property
    def documents(self) -> list[T_co]:
        """The ranked documents alone, best first."""
        return [result.document for result in self.results]

    @property
    def scores(self) -> list[float]:
        """The scores alone, best first."""
        return [result.relevance_score for result in self.results]

    def __len__(self) -> int:
        return len(self.results)

    def __bool__(self) -> bool:
        """Return True, also for an empty ranking: `if outcome.response` asks whether there is a response."""
        return True

    def __iter__(self) -> Iterator[RerankResult[T_co]]:
        return iter(self.results)

    @overload
    def __getitem__(self, position: int) -> RerankResult[T_co]: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[RerankResult[T_co]]: ...

    def __getitem__(self, position: int | slice) -> RerankResult[T_co] | Sequence[RerankResult[T_co]]:
        return self.results[position]

    def _repr_html_(self) -> str:
        """The ranking as a notebook shows it."""
        from ._html import ranking_html  # noqa: PLC0415  # for notebooks alone

        rows = ((result.index, result.relevance_score, _shown(result.document)) for result in self.results)
        tokens = f"{self.usage.total_tokens:,} tokens" if self.usage else None
        degraded = f"not ranked: {type(self.cause).__name__}" if self.degraded else None
        return ranking_html(rows, len(self.results), [degraded, self.model, tokens])

    def to_dict(self) -> dict[str, Any]:
        """The response as data that `json.dumps` takes.

        Documents that are no such data are dumped as pydantic does it; what it does not know becomes its `str`.
        """
        data = {
            "results": [
                {
                    "index": result.index,
                    "relevance_score": result.relevance_score,
                    "document": result.document,
                    **({} if result.embedding is None else {"embedding": result.embedding}),
                }
                for result in self.results
            ],
            "model": self.model,
            "usage": self.usage,
            "attempts": self.attempts,
            "throttled_seconds": self.throttled_seconds,
            "calls": self.calls,
            "strategy": self.strategy,
            "degraded": self.degraded,
            "cause": error_fields(self.cause),
            "headers": self.headers,
            "extra": self.extra,
        }
        return cast(dict[str, Any], to_jsonable_python(data, fallback=str, bytes_mode="base64"))


AnyRequest: TypeAlias = RerankRequest | Mapping[str, Any]
"""What `rerank_many` takes: a request, or a mapping with its fields."""

R = TypeVar("R", bound=AnyRequest)
T = TypeVarWithDefault("T", default=Document)


@dataclass(frozen=True, slots=True)
class RerankOutcome(Generic[R, T]):
    """What became of one request of `rerank_many`: a response, or the error that it ended with."""

    index: int
    """The request's position in the order in which they were read, from 0."""
    request: R
    """The caller's own object."""
    response: RerankResponse[T] | None = None
    """The ranking; None if it failed."""
    error: RerankError | None = None
    """Why there is no ranking; None if there is one."""

    def unwrap(self) -> RerankResponse[T]:
        """Return the response.

        Raises:
            RerankError: The error that the request ended with.
        """
        if self.response is None:
            raise self.error or RerankError("the outcome has neither a response nor an error")
        return self.response

    def to_dict(self) -> dict[str, Any]:
        """The outcome as data that `json.dumps` takes, with the fields of the request and of the response."""
        return {
            "index": self.index,
            "request": to_jsonable_python(self.request, fallback=str, bytes_mode="base64"),
            "response": None if self.response is None else self.response.to_dict(),
            "error": error_fields(self.error),
        }


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far `rerank_many` is, at the moment at which an outcome is handed over."""

    read: int
    """Requests read so far."""
    done: int
    """Outcomes handed over, this one included."""
    failed: int
    """How many of these are errors."""
    elapsed: float
    """Seconds since the first outcome was asked for."""


def error_fields(error: RerankError | None) -> dict[str, Any] | None:
    """An error as data that `json.dumps` takes."""
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        **{name: value for name, value in vars(error).items() if name[0] != "_" and name != "hint"},
    }


def _shown(document: object) -> object:
    """What a person reads of a document: its text, where it is of a kind that has one."""
    if isinstance(document, TextDocument):
        return document.text
    if is_mapping(document) and "text" in document:
        return document["text"]
    if isinstance(document, ImageDocument) or (is_mapping(document) and "image" in document):
        return "(an image)"
    return document
