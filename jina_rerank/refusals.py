"""An answer that is not success, to the error it means. Pure, as wire.py is.

Every envelope in use is read: Jina's flat and nested ones, its 422 with `errors`, FastAPI's list, OpenAI's
`{"error": {...}}`, a bare string, a gateway's page of HTML, and nothing at all.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from html import unescape
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic_core import from_json

from ._narrow import is_array, is_object
from .errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsufficientBalanceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    RerankError,
    ServerError,
    UnprocessableEntityError,
)

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
_EMPTY_BALANCE: Final = "AUTHZ_INSUFFICIENT_BALANCE"
# A server's text may repeat what was sent; an error is no place for whole documents.
_LONGEST_MESSAGE: Final = 500
# Above it a number is no code; and Python refuses to print integers of more than 4,300 digits.
_LARGEST_CODE: Final = 10**9
# Strict on purpose: float() would also take "inf", "1_000" and digits of other scripts.
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")


class _Envelope(NamedTuple):
    message: str | None = None
    code: str | None = None
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None


def refusal(status: int, headers: Mapping[str, str], body: bytes, *, url: str, now: float) -> APIStatusError:
    """The error that this answer means.

    Args:
        status: The HTTP status, outside 200 to 299.
        headers: The answer's headers, names in lower case.
        body: The answer's body.
        url: The endpoint, for the error.
        now: Seconds since the epoch, to read a Retry-After that is a date.
    """
    envelope = _read_envelope(body)
    cls = _CLASSES.get(status, ServerError if status >= 500 else APIStatusError)
    if status == 403 and envelope.code == _EMPTY_BALANCE:
        cls = InsufficientBalanceError
    message = envelope.message or _page_title(body) or _reason(status)
    if 300 <= status < 400:
        message = _redirection(headers)
    return cls(
        message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…",
        status=status,
        code=envelope.code,
        request_id=envelope.request_id or headers.get("x-request-id"),
        errors=envelope.errors,
        retry_after=retry_after(headers, now),
        url=url,
        should_retry={"true": True, "false": False}.get(headers.get("x-should-retry", "")),
    )


def explain_keyless(error: RerankError, reason: str) -> None:
    """Say in an error that asks for a key why none was sent, in place of the hint to look at the key."""
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        error.message = f"{error.message.rstrip('.')}; {reason}"
        error.__notes__ = []


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, as `retry-after-ms` or `retry-after` (seconds or an HTTP date) say; None if neither does."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def _read_envelope(body: bytes) -> _Envelope:
    try:
        content = from_json(body)
    except ValueError:
        return _Envelope()
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
        request_id=_text(inner.get("request_id"), content.get("request_id")),
        errors=_field_errors(content.get("errors")),
    )


def _text(*candidates: object) -> str | None:
    """The first that is text, or a number that stands for a code of the server's own and not for an HTTP status."""
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            return candidate.strip()
        if type(candidate) is int and 600 <= candidate < _LARGEST_CODE:
            return str(candidate)
    return None


def _field_errors(items: object) -> list[dict[str, str]] | None:
    """Field, message and type of each. The input that a server quotes is left out: it may be a whole document."""
    if not is_array(items):
        return None
    found = [item for item in items if is_object(item)]
    return [{"field": _field(item), "message": _message(item), "type": _string(item.get("type"))} for item in found]


def _joined(items: list[Any]) -> str:
    return "; ".join(f"{_field(item)}: {_message(item)}" for item in items if is_object(item))


def _field(item: Mapping[str, Any]) -> str:
    location = item.get("loc")
    if is_array(location):
        return " -> ".join(_string(part) for part in location)
    return _string(item.get("field"))


def _message(item: Mapping[str, Any]) -> str:
    return _string(item.get("message", item.get("msg")))[:_LONGEST_MESSAGE]


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int and 0 <= value < _LARGEST_CODE else ""


def _page_title(body: bytes) -> str | None:
    title = re.search(r"<title[^>]*>([^<]+)</title>", body[:4096].decode("utf-8", "replace"), re.IGNORECASE)
    return " ".join(unescape(title[1]).split()) or None if title else None


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "the server refused without saying why"


def _redirection(headers: Mapping[str, str]) -> str:
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    target = host or "another path of the same host"
    return f"the server redirects to {target}; redirects are not followed: set base_url to the final URL"
