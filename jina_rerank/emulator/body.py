"""The body of `POST /v1/rerank`: read, validated, and refused in the words of the API.

Measured on Jina's on-prem server, which is FastAPI: numbers may come as strings and as `true`, unknown fields are
ignored, of two equal keys the last counts, and the fields have aliases from other vendors' APIs.
"""

import json
from contextlib import aclosing
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, ValidationError
from pydantic_core import PydanticKnownError
from starlette.requests import Request

from .envelopes import REFUSALS, FieldError, invalid, unreadable

MAX_BODY_BYTES: Final = 64 * 2**20
"""As much as the client sends at most; the hosted API's own limit is not known."""


def _check_part(part: str | dict[Any, Any]) -> str | dict[Any, Any]:
    # The hosted API describes strings here. The on-prem server does not look, and fails with a 500 later.
    if isinstance(part, dict) and any(not isinstance(part.get(key, ""), str) for key in ("text", "image")):
        raise PydanticKnownError("string_type")
    return part


Part = Annotated[str | dict[Any, Any], AfterValidator(_check_part)]
"""A query or a document: a string, `{"text": ...}` or `{"image": ...}`."""


class RerankBody(BaseModel, frozen=True):
    """A request as the on-prem container takes it: one image serves one model, so `model` may be left out."""

    query: Part
    documents: list[Part] = Field(min_length=1)
    model: str | None = None
    top_n: int | None = Field(None, ge=1, validation_alias=AliasChoices("top_n", "top_k"))
    return_documents: bool = True
    return_embeddings: bool = False
    max_doc_length: int | None = Field(
        None, ge=1, le=8192, validation_alias=AliasChoices("max_doc_length", "max_tokens_per_doc")
    )
    truncate: bool = Field(True, validation_alias=AliasChoices("truncate", "truncation"))


class HostedRerankBody(RerankBody, frozen=True):
    """A request as the hosted API takes it: with a model."""

    model: str = Field()


BodyT = TypeVar("BodyT", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """Return the body of `request`.

    Raises:
        RefusedError: 413, it is too large.
        ClientDisconnect: The client has gone before its end.
    """
    content, expected = bytearray(), int(request.headers.get("content-length", 0))
    async with aclosing(request.stream()) as parts:
        while max(len(content), expected) <= MAX_BODY_BYTES:
            part = await anext(parts, None)
            if part is None:
                return bytes(content)
            content += part
    raise REFUSALS["413"]()


def parse_body(schema: type[BodyT], content_type: str, content: bytes) -> BodyT:
    """The request in `content`.

    Raises:
        RefusedError: 422 when it breaks the schema or is not JSON, 400 when it cannot be decoded at all.
    """
    if not content:
        raise invalid([FieldError(field="body", message="Field required", type="missing", input=None)])
    try:
        return schema.model_validate(_decode(content_type, content), from_attributes=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
    raise invalid(
        [
            FieldError(
                field=" -> ".join(["body", *map(str, detail["loc"])]),
                message=detail["msg"],
                type=detail["type"],
                input=detail["input"],
            )
            for detail in details
        ]
    )


def _decode(content_type: str, content: bytes) -> Any:
    if not _is_json(content_type):
        return content.decode("utf-8", "replace")
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        where = f"body -> {error.pos}"
        raise invalid([FieldError(field=where, message="JSON decode error", type="json_invalid", input={})]) from None
    except (ValueError, RecursionError):  # not UTF-8, an endless integer, or nested beyond measure
        raise unreadable() from None


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return not media_type or media_type == "application/json" or media_type.endswith("+json")
