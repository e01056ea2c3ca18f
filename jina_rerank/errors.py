"""Every error this package raises, and the data each carries.

    RerankError (RuntimeError)
    ├── ConfigurationError (ValueError)       the client's arguments or environment
    ├── InvalidRequestError (ValueError)      the call's arguments; nothing was sent
    ├── ClientClosedError                     the client is closed
    ├── DeadlineExceededError (TimeoutError)  the call's `deadline` passed
    ├── APIConnectionError                    no complete answer: DNS, connect, TLS, proxy, reset
    │   └── APITimeoutError (TimeoutError)    one attempt's `timeout` passed
    ├── ResponseFormatError                   the answer is malformed, too large, or breaks a rule
    └── APIStatusError                        the server refused, by HTTP status:
        ├── BadRequestError           400
        ├── AuthenticationError       401
        ├── InsufficientBalanceError  402, or the code of an empty balance
        ├── PermissionDeniedError     403
        ├── NotFoundError             404
        ├── RequestTooLargeError      413
        ├── UnprocessableEntityError  422
        ├── RateLimitError            429
        └── ServerError               500 and above

A code of Jina's API decides the class, whatever the status: gateways change statuses. Errors hold plain data alone: no
HTTP objects, no key, no documents. They pickle, copy and print safely.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self


class RerankError(RuntimeError):
    """The root of all errors of this package. An attribute is None where it does not apply."""

    hint: str | None = None
    """What to do about it; None where the message says it. It is also a note of the error: tracebacks show it."""
    message: str
    """What went wrong, in one sentence."""
    status: int | None
    """The HTTP status of the answer."""
    code: str | None
    """The server's code for the error, such as `RATE_TOKEN_LIMIT_EXCEEDED`. An open set."""
    request_id: str | None
    """The server's id of the request: quote it when you ask for support."""
    errors: tuple[dict[str, str], ...] | None
    """The fields that the server found invalid, each with `field`, `message` and `type`."""
    retry_after: float | None
    """Seconds the server asked to wait before the next attempt."""
    attempts: int | None
    """How many HTTP requests the call has sent."""
    url: str | None
    """The URL of the endpoint."""
    should_retry: bool | None
    """An explicit verdict, of the server (`x-should-retry`) or of what failed; None leaves it to the RetryPolicy."""

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
        """Make an error; `advised` says that its message has the way out, so that the class's hint is left out."""
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
        """The error as a notebook shows it, where it is looked at and not raised."""
        from ._html import error_html  # noqa: PLC0415  # for notebooks alone

        return error_html(type(self).__name__, str(self), self.hint)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[..., "RerankError"], tuple[type[Self], str], dict[str, Any]]:
        return _rebuild, (type(self), self.message), self.__dict__


def _rebuild(cls: type[RerankError], message: str) -> RerankError:
    # By calling the class: `cls.__new__` alone is not safe for one that is both RuntimeError and TimeoutError.
    error = cls(message)
    vars(error).pop("__notes__", None)  # the state that follows has those of the original
    return error


class ConfigurationError(RerankError, ValueError):
    """The client cannot work as configured: key, base_url, model, timeout, proxy, TLS or headers."""


class InvalidRequestError(RerankError, ValueError):
    """The call's arguments break a rule. Nothing was sent."""


class ClientClosedError(RerankError):
    """The client was closed before the call, or while it was in flight."""


class DeadlineExceededError(RerankError, TimeoutError):
    """The call's `deadline` passed. If an attempt had failed before, the message says how."""

    hint: str | None = "Allow more time with deadline=, or find out with `jina-rerank doctor` what is slow."


class APIConnectionError(RerankError):
    """The request could not be sent, or the answer did not arrive whole."""

    hint: str | None = "`jina-rerank doctor` looks for what is in the way: the name, a proxy, a certificate."


class APITimeoutError(APIConnectionError, TimeoutError):
    """One attempt took longer than the client's `timeout`."""

    hint: str | None = "Allow more time with timeout=, or send fewer or shorter documents."


class ResponseFormatError(RerankError):
    """The server answered with something that is not a valid rerank answer, and no guess was made."""

    hint: str | None = "Is there a rerank server at base_url? `jina-rerank doctor` asks it."


class APIStatusError(RerankError):
    """The server answered with a status that is not success."""


class BadRequestError(APIStatusError):
    """400: the server does not accept the request, such as an unknown model or too many tokens."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, malformed or unknown."""

    hint: str | None = "Look at JINA_API_KEY, or api_key=: is the key whole, and still valid?"


class InsufficientBalanceError(APIStatusError):
    """402, or `AUTHZ_INSUFFICIENT_BALANCE` under any status: the key has no tokens left."""

    hint: str | None = "Top up the balance of the key, or use another: https://jina.ai/api-dashboard/key-manager"


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""


class NotFoundError(APIStatusError):
    """404: no such endpoint; look at base_url."""

    hint: str | None = "Look at base_url: it is a server, or the full URL of its rerank route."


class RequestTooLargeError(APIStatusError):
    """413: the server does not take a body of this size."""

    hint: str | None = "Send fewer documents in one request with max_documents=, or shorter ones."


class UnprocessableEntityError(APIStatusError):
    """422: the server found fields invalid; `errors` names them."""


class RateLimitError(APIStatusError):
    """429: too many requests, tokens or concurrent requests."""

    hint: str | None = "Let calls wait longer with deadline=, or say with rate_limit= what the key may do."


class ServerError(APIStatusError):
    """500 and above: the server, or a proxy before it, failed."""

    hint: str | None = "Try again later. If it lasts, ask for support, and quote the request_id."
