"""Map a response with an error status to an error. Sans-I/O, and without a clock.

All error formats in use are parsed: Jina's flat and nested ones, its 422 with `errors`, FastAPI's list, OpenAI's
`{"error": {...}}`, Jina's inside a gateway's message, a bare string, a gateway's HTML page, and an empty body.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from html import unescape
from http import HTTPStatus
from json import JSONDecoder
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic_core import from_json

from ._typeguards import is_array, is_object
from .errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsufficientBalanceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    UnprocessableEntityError,
)
from .retry import RETRIED_STATUSES

_CLASSES: Final[Mapping[int, type[APIStatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientBalanceError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}
# The status that Jina's API sends with each of its codes. If a gateway forwards a code with another status, the code
# decides.
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "INPUT_MODEL_NOT_FOUND": 400,
    "INPUT_TOKEN_LIMIT_EXCEEDED": 400,
    "AUTH_MISSING_API_KEY": 401,
    "AUTH_INVALID_API_KEY": 401,
    "AUTH_INVALID_FORMAT": 401,
    "AUTHZ_INSUFFICIENT_BALANCE": 402,  # the API sends 403; here it is InsufficientBalanceError
    "AUTHZ_RESOURCE_LIMIT_EXCEEDED": 403,
    "RESOURCE_NOT_FOUND": 404,
    "CONFLICT_RESOURCE_BUSY": 409,
    "RATE_REQUEST_LIMIT_EXCEEDED": 429,
    "RATE_TOKEN_LIMIT_EXCEEDED": 429,
    "RATE_CONCURRENCY_LIMIT_EXCEEDED": 429,
    "RATE_IP_LIMIT_EXCEEDED": 429,
    "INTERNAL_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
    "SERVICE_TIMEOUT": 504,
}
# A server's text may quote the request; an error must not contain whole documents.
_MAX_MESSAGE_LENGTH: Final = 500
# Larger numbers are not codes; and Python does not print integers of more than 4,300 digits.
_MAX_CODE: Final = 10**9
_STATUS_PATTERN: Final = re.compile("None|[1-5][0-9][0-9]")
# Strict on purpose: float() would also accept "inf", "1_000" and digits of other scripts.
_SECONDS_PATTERN: Final = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")


class _Envelope(NamedTuple):
    message: str | None = None
    code: str | None = None
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, url: str, now: float, keyless: str | None = None
) -> APIStatusError:
    """Return the error for a response.

    Args:
        status: The HTTP status, outside 200 to 299.
        headers: The response headers, with names in lower case.
        body: The response body.
        url: The endpoint, for the error.
        now: Seconds since the epoch, for a Retry-After that is a date in a response without a Date header.
        keyless: Why no key was sent, and how to send one; None if one was sent.
    """
    envelope = _read_envelope(body)
    meant = _STATUS_OF_CODE.get(envelope.code or "", status)
    message = envelope.message or _page_title(body) or _reason(status)
    if 300 <= status < 400:
        message = _redirection(headers)
    message = message if len(message) <= _MAX_MESSAGE_LENGTH else message[:_MAX_MESSAGE_LENGTH] + "…"
    advice = _advice(status, message) if url.endswith("/rerank") else None
    verdict = False if advice else None if meant == status else meant in RETRIED_STATUSES
    if meant in (401, 403):
        advice = advice or keyless
    return _CLASSES.get(meant, ServerError if meant >= 500 else APIStatusError)(
        f"{message.rstrip('.')}; {advice}" if advice else message,
        status=status,
        code=envelope.code and envelope.code[:_MAX_MESSAGE_LENGTH],
        request_id=(envelope.request_id or headers.get("x-request-id", ""))[:_MAX_MESSAGE_LENGTH] or None,
        errors=envelope.errors,
        retry_after=retry_after(headers, now),
        url=url,
        should_retry={"true": True, "false": False}.get(headers.get("x-should-retry", ""), verdict),
        advised=advice is not None,
    )


def _advice(status: int, message: str) -> str | None:
    """Return the remedy if the status alone would mislead, but the server's message says what is wrong."""
    if status == 500 and _TOO_LONG.search(message):
        return (
            "shorten documents with max_doc_length= if the server honours it, split them into chunks, or raise the "
            "server's physical batch size"
        )
    if status == 404 and _NO_SUCH_MODEL.search(message):
        return "pass model= as the server names it; GET /v1/models lists what it serves"
    if status == 405:
        return "there is something else at base_url, which takes no POST: give a server, or the URL of its rerank route"
    return None


# llama.cpp: "input (33010 tokens) is too large to process. increase the physical batch size".
_TOO_LONG: Final = re.compile(r"\binput\b.{0,30}\bis too large to process\b", re.IGNORECASE)
# vLLM: "The model `x` does not exist."; Xinference: "Model not found in the model list, uid: x".
_NO_SUCH_MODEL: Final = re.compile(r"\bmodel\b.{0,200}\b(does not exist|not found)\b", re.IGNORECASE | re.DOTALL)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds in `retry-after-ms` or `retry-after` (seconds or an HTTP date); None without these headers.

    A date is relative to the response's Date header, because this machine's clock, `now`, may be wrong.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS_PATTERN.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if _SECONDS_PATTERN.fullmatch(value):
        return float(value)
    until, sent_at = _timestamp(value), _timestamp(headers.get("date", ""))
    if until is None:
        return None
    seconds = until - (now if sent_at is None else sent_at)
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def _timestamp(http_date: str) -> float | None:
    try:
        date = parsedate_to_datetime(http_date)
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _read_envelope(body: bytes) -> _Envelope:
    try:
        content = from_json(body)
    except ValueError:
        return _Envelope()
    envelope = _envelope(content)
    # Jina's own detail may quote a document, whose content must not be parsed as an error.
    wrapped = None if is_object(content) and "detail" in content else _wrapped(envelope.message)
    if wrapped is None:
        return envelope
    inner = _envelope(wrapped)._asdict()
    return envelope._replace(**{name: value for name, value in inner.items() if value is not None})


def _wrapped(message: str | None) -> Any:
    """Return Jina's error body inside a gateway's message, such as LiteLLM's; None if there is none."""
    start = (message or "").find('{"')
    if message is None or start < 0:
        return None
    try:
        content, _ = JSONDecoder().raw_decode(message, start)
    except (ValueError, RecursionError):
        return None
    return content if is_object(content) and "detail" in content else None


def _envelope(content: Any) -> _Envelope:
    if isinstance(content, str):
        return _Envelope(message=content)
    if not is_object(content):
        return _Envelope()
    detail, error = content.get("detail"), content.get("error")
    if is_array(detail):
        return _Envelope(errors=_field_errors(detail), message=_joined(detail))
    inner: dict[str, Any] = detail if is_object(detail) else error if is_object(error) else {}
    return _Envelope(
        message=_text(inner.get("message"), detail, error, content.get("message")),
        code=_text(inner.get("code"), content.get("code"), inner.get("type"), content.get("error_type")),
        request_id=_text(inner.get("request_id"), content.get("request_id"), content.get("id")),
        errors=_field_errors(content.get("errors")),
    )


def _text(*candidates: object) -> str | None:
    """Return the first candidate that is a text or a numeric code of the server, and not an HTTP status.

    LiteLLM sends the status, and None, as text.
    """
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip() and not _STATUS_PATTERN.fullmatch(candidate.strip()):
            return candidate.strip()
        if type(candidate) is int and 600 <= candidate < _MAX_CODE:
            return str(candidate)
    return None


def _field_errors(items: object) -> list[dict[str, str]] | None:
    """Return the field, message and type of each. A quoted input is omitted: it may be a whole document."""
    if not is_array(items):
        return None
    found = [item for item in items if is_object(item)]
    facts = [{"field": _field(item), "message": _message(item), "type": _string(item.get("type"))} for item in found]
    return [{name: text[:_MAX_MESSAGE_LENGTH] for name, text in fact.items()} for fact in facts]


def _joined(items: list[Any]) -> str:
    return "; ".join(f"{_field(item)}: {_message(item)}" for item in items if is_object(item))


def _field(item: Mapping[str, Any]) -> str:
    location = item.get("loc")
    if is_array(location):
        return " -> ".join(_string(part) for part in location)
    return _string(item.get("field"))


def _message(item: Mapping[str, Any]) -> str:
    return _string(item.get("message", item.get("msg")))


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int and 0 <= value < _MAX_CODE else ""


def _page_title(body: bytes) -> str | None:
    title = re.search(r"<title[^>]*>([^<]+)</title>", body[:4096].decode("utf-8", "replace"), re.IGNORECASE)
    return " ".join(unescape(title[1]).split()) or None if title else None


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "the server gave no reason"


def _redirection(headers: Mapping[str, str]) -> str:
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    target = host or "another path of the same host"
    return f"the server redirects to {target}; redirects are not followed: set base_url to the final URL"
