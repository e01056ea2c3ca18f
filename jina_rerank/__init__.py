"""An async-first, fully typed client for the Jina Rerank API and for every server that speaks its wire.

Await `RerankClient`, or call `SyncRerankClient`; everything raised is a `RerankError`.
"""

from ._version import __version__
from .client import RerankClient
from .documents import ImageDocument, TextDocument
from .errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InsufficientBalanceError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    RerankError,
    ResponseFormatError,
    ServerError,
    UnprocessableEntityError,
)
from .limits import RateLimit
from .models import RerankRequest, RerankResponse, Usage
from .results import RerankResult
from .retry import RetryPolicy
from .sync import SyncRerankClient

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConfigurationError",
    "DeadlineExceededError",
    "ImageDocument",
    "InsufficientBalanceError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimit",
    "RateLimitError",
    "RequestTooLargeError",
    "RerankClient",
    "RerankError",
    "RerankRequest",
    "RerankResponse",
    "RerankResult",
    "ResponseFormatError",
    "RetryPolicy",
    "ServerError",
    "SyncRerankClient",
    "TextDocument",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
]
