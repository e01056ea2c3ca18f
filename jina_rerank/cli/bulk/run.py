"""The work of `jina-rerank bulk`: ranks rows with `rerank_many` and records each result in row order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ...errors import (
    APIConnectionError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InsufficientBalanceError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RerankError,
)
from ...models import RerankRequest, RerankResponse, error_fields
from ...sync import SyncRerankClient
from ..failures import in_shell_words
from ..local import scorer_of
from .rows import Row

Settle = Callable[[Mapping[str, Any]], None]

_FATAL_ERRORS: Final = (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InsufficientBalanceError,
    NotFoundError,
    PermissionDeniedError,
)
"""Errors that would fail every other row too, as would a connection that can never be established."""


def rank_rows(
    client: SyncRerankClient,
    rows: Iterable[Row],
    settle: Settle,
    *,
    max_concurrency: int | None,
    with_documents: bool,
) -> str | None:
    """Rank rows concurrently and call `settle` with the result of each, in row order.

    Returns:
        The scorer of the emulator that answered; None for any other server.

    Raises:
        RerankError: An error that would fail all rows. The rows before it are settled.
    """
    scorer: str | None = None
    waiting: deque[tuple[Row, InvalidRequestError | None]] = deque()

    def settle_invalid() -> None:
        while waiting and (error := waiting[0][1]) is not None:
            settle(failure(waiting.popleft()[0], error))

    def requests() -> Iterator[RerankRequest]:
        for row in rows:
            try:
                request = row.request()
            except InvalidRequestError as error:
                waiting.append((row, error))
                settle_invalid()  # if no row is ahead of it
                continue
            waiting.append((row, None))
            yield request

    with client.rerank_many(requests(), max_concurrency=max_concurrency) as outcomes:
        for outcome in outcomes:
            settle_invalid()
            if outcome.error is not None and _is_fatal(outcome.error):
                raise outcome.error  # the row stays unsettled, for the next run
            row, _ = waiting.popleft()
            if outcome.response is None:
                settle(failure(row, outcome.error))
            else:
                scorer = scorer_of(outcome.response) or scorer
                settle(success(row, outcome.response, with_documents=with_documents))
    settle_invalid()
    return scorer


def _is_fatal(error: RerankError) -> bool:
    if isinstance(error, APIConnectionError):
        return error.should_retry is False  # unknown host, invalid certificate, proxy that denies access
    return isinstance(error, _FATAL_ERRORS)


def success(row: Row, response: RerankResponse[Any], *, with_documents: bool) -> dict[str, Any]:
    """Return the line of a ranked row."""
    return {
        "row": row.number,
        "id": row.id,
        "indices": [result.index for result in response.results],
        "scores": [result.relevance_score for result in response.results],
        **({"documents": response.documents} if with_documents else {}),
        "tokens": None if response.usage is None else response.usage.total_tokens,
        "request": row.digest,
    }


def failure(row: Row, error: RerankError | None) -> dict[str, Any]:
    """Return the line of a failed row, with the known fields of the error."""
    fields = error_fields(error) or {}
    if isinstance(error, InvalidRequestError):
        fields["message"] = in_shell_words(error)
    return {
        "row": row.number,
        "id": row.id,
        "error": {name: value for name, value in fields.items() if value is not None},
        "request": row.digest,
    }
