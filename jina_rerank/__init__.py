"""An async-first, fully typed client for the Jina Rerank API and for every API-compatible server.

Await `RerankClient`, or call `SyncRerankClient`; everything raised is a `RerankError`.
"""

from ._results import RerankResult
from ._streams import RerankStream, SyncRerankStream
from ._totals import Totals
from ._version import __version__
from .client import RerankClient
from .documents import Document, ImageDocument, TextDocument
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
from .models import BatchProgress, RerankOutcome, RerankRequest, RerankResponse, Usage
from .retry import RetryPolicy
from .sync import SyncRerankClient

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BatchProgress",
    "ClientClosedError",
    "ConfigurationError",
    "DeadlineExceededError",
    "Document",
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
    "RerankOutcome",
    "RerankRequest",
    "RerankResponse",
    "RerankResult",
    "RerankStream",
    "ResponseFormatError",
    "RetryPolicy",
    "ServerError",
    "SyncRerankClient",
    "SyncRerankStream",
    "TextDocument",
    "Totals",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
]
