"""`POST /v2/rerank` of the on-prem container: the same rankings with Cohere's request, response and error bodies."""

from uuid import uuid4

from pydantic import BaseModel, Field

from .body import RerankBody, parse_body
from .envelopes import RefusedError, request_id


class CohereBody(BaseModel, frozen=True):
    """A request in Cohere's format: texts only, and documents are never echoed."""

    model: str | None = None
    query: str
    documents: list[str] = Field(min_length=1)
    top_n: int | None = Field(None, ge=1)
    max_tokens_per_doc: int = Field(4_096, ge=1, le=8_192)


def parse(content_type: str, content: bytes) -> RerankBody:
    """Return the request in `content`, converted to Jina's format.

    Raises:
        RefusedError: As for `parse_body`.
    """
    body = parse_body(CohereBody, content_type, content)
    return RerankBody.model_construct(
        query=body.query,
        documents=body.documents,
        model=body.model,
        top_n=body.top_n,
        return_documents=False,
        max_doc_length=body.max_tokens_per_doc,
    )


def render(answer: dict[str, object], tokens: int) -> dict[str, object]:
    """Return Jina's response body in Cohere's format."""
    billed = {"input_tokens": tokens, "output_tokens": 0}
    return {
        "id": str(uuid4()),
        "results": answer["results"],
        "meta": {
            "api_version": {"version": "2", "is_deprecated": False, "is_experimental": False},
            "billed_units": {"search_units": 1, **billed},
            "tokens": billed,
            "cached_tokens": 0,
            "warnings": [],
        },
    }


def refusal(refused: RefusedError) -> RefusedError:
    """Return Jina's error in Cohere's format, which is the same for every status; HTML pages stay unchanged."""
    if isinstance(refused.body, str):
        return refused
    error = RefusedError(refused.status, {"message": refused.message, "id": request_id()}, refused.code)
    error.headers = refused.headers
    return error
