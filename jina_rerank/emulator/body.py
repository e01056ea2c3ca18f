"""The body of `POST /v1/rerank`: reading and validation, with the API's error texts.

Measured on Jina's on-prem server, which uses FastAPI: numbers may be strings or `true`, unknown fields are ignored,
the last of duplicate keys counts, and the fields have aliases from other vendors' APIs.
"""

import json
from contextlib import aclosing
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, ValidationError
from pydantic_core import PydanticKnownError
from starlette.requests import Request

from .envelopes import REFUSALS, FieldError, invalid, unreadable

MAX_BODY_BYTES: Final = 64 * 2**20
"""The maximum that the client sends; the hosted API's own limit is not known."""


def _check_part(part: str | dict[Any, Any]) -> str | dict[Any, Any]:
    # The hosted API's description requires strings here. The on-prem server does not check, and fails with 500 later.
    if isinstance(part, dict) and any(not isinstance(part.get(key, ""), str) for key in ("text", "image")):
        raise PydanticKnownError("string_type")
    return part


Part = Annotated[str | dict[Any, Any], AfterValidator(_check_part)]
"""A query or a document: a string, `{"text": ...}` or `{"image": ...}`."""


class RerankBody(BaseModel, frozen=True):
    """A request to the on-prem container: each image serves one model, so `model` is optional."""

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
    """A request to the hosted API, which requires a model."""

    model: str = Field()


BodyT = TypeVar("BodyT", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """Return the body of `request`.

    Raises:
        RefusedError: 413, the body is too large.
        ClientDisconnect: The client disconnected before the end of the body.
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
    """Return the request in `content`.

    Raises:
        RefusedError: 422 if it violates the schema or is not JSON, 400 if it cannot be decoded at all.
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
    except (ValueError, RecursionError):  # not UTF-8, an integer with too many digits, or nested too deeply
        raise unreadable() from None


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return not media_type or media_type == "application/json" or media_type.endswith("+json")
