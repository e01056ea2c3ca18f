"""The request of a call, and its response, which is generic in the caller's documents."""

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
    """One query and its candidate documents, for `rerank_many`.

    The constructor raises pydantic's ValidationError for invalid fields, and hides the inputs in it.
    """

    query: SkipValidation[Query]
    """The query, which must not be blank."""
    documents: Annotated[Sequence[Document], PlainValidator(listed)]
    """The candidates, the caller's own objects. Blank ones rank last."""
    model: Annotated[str, Field(min_length=1)] | None = None
    """The reranker; None means the client's."""
    top_n: PositiveInteger | None = None
    """How many of the best documents to return; None means all."""
    return_embeddings: bool | None = None
    """Whether each result carries its document's vector (listwise models)."""
    max_doc_length: PositiveInteger | None = None
    """Tokens of each document that are scored; None means the model's own limit."""
    extra_body: Mapping[str, Any] | None = None
    """Additional fields for the request body, which only your server knows."""

    @model_validator(mode="after")
    def _is_sendable(self) -> Self:
        wire_query(self.query)
        wire_documents(self.documents, way_out=_GIVE_KEY_TO_MANY)
        taken = ", ".join(sorted(_OWN_FIELDS.intersection(self.extra_body or ())))
        if taken:
            raise InvalidRequestError(f"extra_body: {taken} cannot be set here; use the argument of that name")
        return self


def build_request(**fields: Any) -> RerankRequest:
    """Return a RerankRequest for the arguments of `rerank`.

    Raises:
        InvalidRequestError: An argument is invalid. The message names the field, the rule and the remedy.
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
    """The tokens billed for a call."""

    total_tokens: int
    """Tokens billed for the query and all documents."""
    prompt_tokens: int | None = None
    """Tokens read, if the server reports them separately."""
    completion_tokens: int | None = None
    """Tokens written, if the server reports them separately."""


@dataclass(frozen=True, slots=True)
class RerankResponse(Generic[T_co]):
    """The documents in order of relevance, with the metadata of the call."""

    results: Sequence[RerankResult[T_co]]
    """The ranked documents, at most `top_n`, best first; equal scores in the order given. Each result is created on
    access."""
    model: str | None = None
    """The model that ranked, as reported by the server; None if it does not report it."""
    usage: Usage | None = None
    """The tokens billed; None if the server does not report them."""
    attempts: int = 0
    """HTTP requests sent for this call, including failed and throttled ones."""
    throttled_seconds: float = 0.0
    """The total seconds for which its HTTP requests waited for the limits of the key or for `max_concurrency`."""
    calls: int = 0
    """HTTP responses that make up this response; 0 if nothing had to be sent."""
    strategy: Strategy = "single"
    """Whether the list was sent in one request, split, or in rounds."""
    degraded: bool = False
    """Whether the fallback's order was returned instead of a ranking."""
    cause: RerankError | None = None
    """Why the response is degraded."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """The HTTP headers, with names in lower case. If several responses were merged, `headers` and `extra` are those of
    the first part, or of the last round."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the HTTP response that have no attribute in this class."""

    @property
    def documents(self) -> list[T_co]:
        """The ranked documents, best first."""
        return [result.document for result in self.results]

    @property
    def scores(self) -> list[float]:
        """The scores, best first."""
        return [result.relevance_score for result in self.results]

    def __len__(self) -> int:
        return len(self.results)

    def __bool__(self) -> bool:
        """Return True, even for an empty ranking: `if outcome.response` tests whether there is a response."""
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
        """Return the HTML that a notebook shows."""
        from ._html import ranking_html  # noqa: PLC0415  # only needed in notebooks

        rows = ((result.index, result.relevance_score, _shown(result.document)) for result in self.results)
        tokens = f"{self.usage.total_tokens:,} tokens" if self.usage else None
        degraded = f"not ranked: {type(self.cause).__name__}" if self.degraded else None
        return ranking_html(rows, len(self.results), [degraded, self.model, tokens])

    def to_dict(self) -> dict[str, Any]:
        """Return the response as JSON-serializable data.

        Documents of other types are serialized as pydantic does; types that it does not know become their `str`.
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
"""A request of `rerank_many`: a RerankRequest, or a mapping with its fields."""

R = TypeVar("R", bound=AnyRequest)
T = TypeVarWithDefault("T", default=Document)


@dataclass(frozen=True, slots=True)
class RerankOutcome(Generic[R, T]):
    """The outcome of one request of `rerank_many`: a response or an error."""

    index: int
    """The position of the request in the order of reading, from 0."""
    request: R
    """The caller's own object."""
    response: RerankResponse[T] | None = None
    """The ranking; None if the request failed."""
    error: RerankError | None = None
    """The error; None if the request succeeded."""

    def unwrap(self) -> RerankResponse[T]:
        """Return the response.

        Raises:
            RerankError: The error that the request ended with.
        """
        if self.response is None:
            raise self.error or RerankError("the outcome has neither a response nor an error")
        return self.response

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-serializable data, with the fields of the request and of the response."""
        return {
            "index": self.index,
            "request": to_jsonable_python(self.request, fallback=str, bytes_mode="base64"),
            "response": None if self.response is None else self.response.to_dict(),
            "error": error_fields(self.error),
        }


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """The progress of `rerank_many` when it yields an outcome."""

    read: int
    """Requests read so far."""
    done: int
    """Outcomes yielded, including this one."""
    failed: int
    """How many of these outcomes are errors."""
    elapsed: float
    """Seconds since the start of the iteration."""


def error_fields(error: RerankError | None) -> dict[str, Any] | None:
    """Return an error as JSON-serializable data."""
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        **{name: value for name, value in vars(error).items() if name[0] != "_" and name != "hint"},
    }


def _shown(document: object) -> object:
    """Return the text of a document if it has one, for display."""
    if isinstance(document, TextDocument):
        return document.text
    if is_mapping(document) and "text" in document:
        return document["text"]
    if isinstance(document, ImageDocument) or (is_mapping(document) and "image" in document):
        return "(an image)"
    return document
