"""The API's error responses: statuses, codes, texts and the structures of the bodies.

Texts and codes are those of Jina's API description (version 2026.04.02.1816). The structures were measured: bodies from
the layers in front of the application are flat, those of the application nested, and validation lists its errors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypedDict
from uuid import uuid4

_KEY_MANAGER_URL: Final = "https://jina.ai/api-dashboard/key-manager"


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, body: Mapping[str, object] | str, code: str | None = None, *, message: str = ""
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.code = code
        self.body = body
        """JSON, or an HTML page."""
        self.headers: Mapping[str, str] = {}
        self.message = message
        """The text of the body, to build a body of another structure."""


class FieldError(TypedDict):
    """One entry of `errors` in a 422; `field` is the path to the value, joined with ` -> `."""

    field: str
    message: str
    type: str
    input: object


def flat(status: int, detail: str, code: str | None = None) -> RefusedError:
    """Return an error of the layers in front of the application: routing and authentication."""
    body = {"detail": detail, "request_id": request_id()}
    return RefusedError(status, body if code is None else {**body, "code": code}, code, message=detail)


def nested(status: int, message: str, code: str) -> RefusedError:
    """Return an error of the application; the request id is inside `detail` for a 400, beside it otherwise."""
    if status == 400:
        detail = {"message": message, "request_id": request_id(), "code": code}
        return RefusedError(status, {"detail": detail}, code, message=message)
    body = {"detail": {"message": message, "code": code}, "request_id": request_id()}
    return RefusedError(status, body, code, message=message)


def invalid(errors: Sequence[FieldError]) -> RefusedError:
    """Return a 422 whose `detail` names the first error, worded as by Jina's on-prem server."""
    head = f"Validation errors in {len(errors)} fields, first:" if len(errors) > 1 else "Validation error:"
    first = errors[0]
    detail = f"{head} '{first['field']}' {first['message']}"
    body = {"detail": detail, "request_id": request_id(), "errors": errors}
    return RefusedError(422, body, message=f"invalid request: {first['field']}: {first['message']}")


def unreadable() -> RefusedError:
    """Return the error for a body that cannot be decoded, worded as by FastAPI."""
    return flat(400, "There was an error parsing the body")


def missing_key() -> RefusedError:
    """Return the error for a missing Authorization header."""
    header = "Provide your API key via the Authorization header: 'Authorization: Bearer <api-key>'."
    return flat(
        401, f"Authentication required. {header} Get your API key at {_KEY_MANAGER_URL}.", "AUTH_MISSING_API_KEY"
    )


def malformed_key() -> RefusedError:
    """Return the error for an Authorization header that is not `Bearer <token>`."""
    key = "a valid Jina API key (65 characters, starts with 'jina_')"
    text = f"Invalid authorization format. Use 'Authorization: Bearer <api-key>' with {key}."
    return flat(401, text, "AUTH_INVALID_FORMAT")


def wrong_key() -> RefusedError:
    """Return the error for a token that does not have the form of a Jina key."""
    text = f"Invalid API key. Verify your API key at {_KEY_MANAGER_URL} or generate a new one."
    return flat(401, text, "AUTH_INVALID_API_KEY")


def insufficient_balance() -> RefusedError:
    """Return the error for a request with more tokens than the account has left."""
    return flat(
        403, f"Insufficient account balance. Top up your account at {_KEY_MANAGER_URL}.", "AUTHZ_INSUFFICIENT_BALANCE"
    )


def too_many_at_once(current: int, limit: int) -> RefusedError:
    """Return the error for too many concurrent requests; `current` are in flight."""
    text = f"Concurrency limit exceeded: {current}/{limit} concurrent requests."
    advice = "Wait for pending requests to complete before sending new ones."
    return flat(429, f"{text} {advice}", "RATE_CONCURRENCY_LIMIT_EXCEEDED")


def too_many_requests(current: int, limit: int) -> RefusedError:
    """Return the error for too many requests; `current` arrived in the last minute."""
    text = f"Request rate limit exceeded: {current}/{limit} requests per minute."
    advice = f"Reduce request frequency or upgrade your plan at {_KEY_MANAGER_URL}."
    return flat(429, f"{text} {advice}", "RATE_REQUEST_LIMIT_EXCEEDED")


def too_many_tokens(current: int, limit: int) -> RefusedError:
    """Return the error for too many tokens; `current` includes this request's (as observed with free keys)."""
    text = f"Token rate limit exceeded: {current:,}/{limit:,} tokens per minute."
    advice = f"Reduce batch sizes or upgrade your plan at {_KEY_MANAGER_URL}."
    return flat(429, f"{text} {advice}", "RATE_TOKEN_LIMIT_EXCEEDED")


def model_not_found(name: str, available: Sequence[str]) -> RefusedError:
    """Return the hosted API's error for a rerank request with an unknown model."""
    text = f"Model '{name}' not found. Available models: {', '.join(available)}."
    return nested(400, text, "INPUT_MODEL_NOT_FOUND")


def model_not_served(name: str, served: str, *, shipped: bool) -> RefusedError:
    """Return a container's error for another model than its own; `shipped` if that model has a container too."""
    remedy = (
        f"One model per image: run the '{name}' image instead, set 'model' to '{served}', or drop the field."
        if shipped
        else f"'{name}' is not a model this project ships. Set 'model' to '{served}', or drop the field."
    )
    return nested(400, f"This image serves '{served}', not '{name}'. {remedy}", "bad_request")


def unrouted(status: int, detail: str) -> RefusedError:
    """Return the container's error for an unknown path or method, worded as by FastAPI."""
    return RefusedError(status, {"detail": detail})


def model_not_listed(name: str) -> RefusedError:
    """Return the error of `GET /v1/models/{id}` for an unknown id."""
    text = f"Model '{name}' not found or access denied. Verify the ID and your permissions."
    return nested(404, text, "RESOURCE_NOT_FOUND")


def too_long(limit: int) -> RefusedError:
    """Return the error for a text longer than the model's context, with `truncate: false`."""
    advice = "Use 'truncate: true' to automatically truncate, or split into smaller chunks."
    text = f"Input text exceeds the model's maximum of {limit} tokens. {advice}"
    return nested(400, text, "INPUT_TOKEN_LIMIT_EXCEEDED")


def internal_error() -> RefusedError:
    """Return the error for a failed scorer."""
    advice = "If this persists, contact support with the request_id from this response."
    return nested(500, f"An unexpected error occurred. {advice}", "INTERNAL_ERROR")


def html_page(title: str) -> str:
    """Return an HTML page, as gateways send."""
    return f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


def _page(status: int, reason: str) -> RefusedError:
    return RefusedError(status, html_page(f"{status} {reason}"))


def _field_invalid() -> RefusedError:
    message = "Input should be greater than or equal to 1"
    return invalid([FieldError(field="body -> top_n", message=message, type="greater_than_equal", input=0)])


REFUSALS: Final[Mapping[str, Callable[[], RefusedError]]] = {
    "400": lambda: too_long(8192),
    "401": wrong_key,
    "402": lambda: flat(402, f"Insufficient account balance. Top up your account at {_KEY_MANAGER_URL}."),
    "403": insufficient_balance,
    "AUTHZ_RESOURCE_LIMIT_EXCEEDED": lambda: flat(
        403, f"Resource limit exceeded. Upgrade your plan at {_KEY_MANAGER_URL}.", "AUTHZ_RESOURCE_LIMIT_EXCEEDED"
    ),
    "404": lambda: flat(404, "Invalid endpoint"),
    "408": lambda: flat(408, "Request Timeout"),
    "409": lambda: nested(409, "The resource is busy. Retry later.", "CONFLICT_RESOURCE_BUSY"),
    "413": lambda: _page(413, "Request Entity Too Large"),
    "422": _field_invalid,
    # The only 429 that does not depend on the key's own usage, and whose text states no limit for a client to learn.
    "429": lambda: flat(
        429,
        "IP rate limit exceeded. Too many requests from this IP address. Reduce request frequency.",
        "RATE_IP_LIMIT_EXCEEDED",
    ),
    "500": internal_error,
    "502": lambda: _page(502, "Bad Gateway"),
    "503": lambda: nested(
        503, "Service temporarily unavailable. Please retry with exponential backoff.", "SERVICE_UNAVAILABLE"
    ),
    "504": lambda: nested(
        504, "Request timed out after 60 seconds. Try with smaller inputs or retry later.", "SERVICE_TIMEOUT"
    ),
    "520": lambda: _page(520, "Web server is returning an unknown error"),
    "521": lambda: _page(521, "Web server is down"),
    "522": lambda: _page(522, "Connection timed out"),
    "523": lambda: _page(523, "Origin is unreachable"),
    "524": lambda: _page(524, "A timeout occurred"),
    "empty": lambda: RefusedError(502, ""),
}
"""Errors to inject, by the kind of fault. Those never observed from the hosted API (402, 408, 409, 413,
AUTHZ_RESOURCE_LIMIT_EXCEEDED) have guessed structures and texts."""


def request_id() -> str:
    """Return 32 random hexadecimal digits, as in each error of the API."""
    return uuid4().hex
