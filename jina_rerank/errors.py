"""The errors that this package raises, and the data that each carries.

    RerankError (RuntimeError)
    ├── ConfigurationError (ValueError)       the client's arguments or environment
    ├── InvalidRequestError (ValueError)      the call's arguments; nothing was sent
    ├── ClientClosedError                     the client is closed
    ├── DeadlineExceededError (TimeoutError)  the call's `deadline` passed
    ├── APIConnectionError                    no complete response: DNS, connect, TLS, proxy, reset
    │   └── APITimeoutError (TimeoutError)    one attempt's `timeout` passed
    ├── ResponseFormatError                   the response is malformed, too large, or not a valid ranking
    └── APIStatusError                        the server returned an error, by HTTP status:
        ├── BadRequestError           400
        ├── AuthenticationError       401
        ├── InsufficientBalanceError  402, or the code of an empty balance
        ├── PermissionDeniedError     403
        ├── NotFoundError             404
        ├── RequestTooLargeError      413
        ├── UnprocessableEntityError  422
        ├── RateLimitError            429
        └── ServerError               500 and above

A code of Jina's API determines the class, whatever the status, because gateways change statuses. Errors hold only plain
data: no HTTP objects, no key, no documents. They are safe to pickle, copy and print.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self


class RerankError(RuntimeError):
    """The base class of all errors of this package. Attributes that do not apply are None."""

    hint: str | None = None
    """What to do about the error; None if the message says it. It is also added as a note, which tracebacks show."""
    message: str
    """What went wrong, in one sentence."""
    status: int | None
    """The HTTP status of the response."""
    code: str | None
    """The server's code for the error, such as `RATE_TOKEN_LIMIT_EXCEEDED`. An open set."""
    request_id: str | None
    """The server's id of the request: quote it when you contact support."""
    errors: tuple[dict[str, str], ...] | None
    """The fields that the server found invalid, each with `field`, `message` and `type`."""
    retry_after: float | None
    """The seconds to wait before the next attempt, as requested by the server."""
    attempts: int | None
    """How many HTTP requests the call sent."""
    url: str | None
    """The URL of the endpoint."""
    should_retry: bool | None
    """Whether to retry, if the server (`x-should-retry`) or the kind of failure decides it; None leaves the decision to
    the RetryPolicy."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        errors: Sequence[dict[str, str]] | None = None,
        retry_after: float | None = None,
        attempts: int | None = None,
        url: str | None = None,
        should_retry: bool | None = None,
        advised: bool = False,
    ) -> None:
        """Initialize an error; `advised` omits the class's hint, since the message already says what to do."""
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.errors = None if errors is None else tuple(errors)
        self.retry_after = retry_after
        self.attempts = attempts
        self.url = url
        self.should_retry = should_retry
        if advised:
            self.hint = None
        if self.hint is not None:
            self.add_note(self.hint)

    def __str__(self) -> str:
        facts = {
            "code": self.code,
            "request_id": self.request_id,
            "retry_after": self.retry_after,
            "attempts": self.attempts,
            "url": self.url,
        }
        known = ", ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
        status = f"HTTP {self.status}: " if self.status is not None else ""
        return f"{status}{self.message}" + (f" ({known})" if known else "")

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows for an error that is displayed, not raised."""
        from ._html import error_html  # noqa: PLC0415  # only needed in notebooks

        return error_html(type(self).__name__, str(self), self.hint)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[..., "RerankError"], tuple[type[Self], str], dict[str, Any]]:
        return _rebuild, (type(self), self.message), self.__dict__


def _rebuild(cls: type[RerankError], message: str) -> RerankError:
    # It calls the class, because `cls.__new__` is not safe for one that is both RuntimeError and TimeoutError.
    error = cls(message)
    vars(error).pop("__notes__", None)  # unpickling restores those of the original with the rest of the state
    return error


class ConfigurationError(RerankError, ValueError):
    """The client cannot work as configured: key, base_url, model, timeout, proxy, TLS or headers."""


class InvalidRequestError(RerankError, ValueError):
    """An argument of the call is invalid. Nothing was sent."""


class ClientClosedError(RerankError):
    """The client was closed before the call, or while it was in flight."""


class DeadlineExceededError(RerankError, TimeoutError):
    """The call's `deadline` passed. If an attempt failed before, the message says how."""

    hint: str | None = "Allow more time with deadline=, or find out with `jina-rerank doctor` what is slow."


class APIConnectionError(RerankError):
    """The request could not be sent, or no complete response arrived."""

    hint: str | None = "`jina-rerank doctor` diagnoses the connection: DNS, proxy, certificate."


class APITimeoutError(APIConnectionError, TimeoutError):
    """One attempt took longer than the client's `timeout`."""

    hint: str | None = "Allow more time with timeout=, or send fewer or shorter documents."


class ResponseFormatError(RerankError):
    """The server's response is not a valid ranking."""

    hint: str | None = "Is there a rerank server at base_url? `jina-rerank doctor` checks."


class APIStatusError(RerankError):
    """The server returned an error status."""


class BadRequestError(APIStatusError):
    """400: the request is invalid, for example because of an unknown model or too many tokens."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, malformed or unknown."""

    hint: str | None = "Look at JINA_API_KEY, or api_key=: is the key whole, and still valid?"


class InsufficientBalanceError(APIStatusError):
    """402, or `AUTHZ_INSUFFICIENT_BALANCE` under any status: the key has no tokens left."""

    hint: str | None = "Top up the balance of the key, or use another: https://jina.ai/api-dashboard/key-manager"


class PermissionDeniedError(APIStatusError):
    """403: the key lacks a permission."""


class NotFoundError(APIStatusError):
    """404: there is no such endpoint; check base_url."""

    hint: str | None = "Look at base_url: it is a server, or the full URL of its rerank route."


class RequestTooLargeError(APIStatusError):
    """413: the request body is too large for the server."""

    hint: str | None = "Send fewer documents in one request with max_documents=, or shorter ones."


class UnprocessableEntityError(APIStatusError):
    """422: the server found fields invalid; `errors` names them."""


class RateLimitError(APIStatusError):
    """429: too many requests, tokens or concurrent requests."""

    hint: str | None = "Let calls wait longer with deadline=, or say with rate_limit= what the key may do."


class ServerError(APIStatusError):
    """500 and above: the server, or a proxy in front of it, failed."""

    hint: str | None = "Try again later. If it lasts, ask for support, and quote the request_id."
