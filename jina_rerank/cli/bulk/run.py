"""The work of `jina-rerank bulk`: rows through `rerank_many`, each outcome to the ledger in the order of the rows."""

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

_FATAL: Final = (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InsufficientBalanceError,
    NotFoundError,
    PermissionDeniedError,
)
"""What every other row would meet too, as it would a connection that cannot ever be made."""


def rank_rows(
    client: SyncRerankClient,
    rows: Iterable[Row],
    settle: Settle,
    *,
    max_concurrency: int | None,
    with_documents: bool,
) -> str | None:
    """Ranks rows, several at once, and calls `settle` with what became of each, in their order.

    Returns:
        The scorer of the emulator that has answered; None if it was another server.

    Raises:
        RerankError: Of a kind that all rows would meet. What was settled before is.
    """
    scorer: str | None = None
    waiting: deque[tuple[Row, InvalidRequestError | None]] = deque()

    def settle_refused() -> None:
        while waiting and (refusal := waiting[0][1]) is not None:
            settle(failure(waiting.popleft()[0], refusal))

    def requests() -> Iterator[RerankRequest]:
        for row in rows:
            try:
                request = row.request()
            except InvalidRequestError as error:
                waiting.append((row, error))
                settle_refused()  # if nothing is ahead of it
                continue
            waiting.append((row, None))
            yield request

    with client.rerank_many(requests(), max_concurrency=max_concurrency) as outcomes:
        for outcome in outcomes:
            settle_refused()
            if outcome.error is not None and _ends_the_work(outcome.error):
                raise outcome.error  # its row stays to be done
            row, _ = waiting.popleft()
            if outcome.response is None:
                settle(failure(row, outcome.error))
            else:
                scorer = scorer_of(outcome.response) or scorer
                settle(success(row, outcome.response, with_documents=with_documents))
    settle_refused()
    return scorer


def _ends_the_work(error: RerankError) -> bool:
    if isinstance(error, APIConnectionError):
        return error.should_retry is False  # no such host, a bad certificate, a proxy that refuses
    return isinstance(error, _FATAL)


def success(row: Row, response: RerankResponse[Any], *, with_documents: bool) -> dict[str, Any]:
    """The line of a row that was ranked."""
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
    """The line of a row that has failed, with what is known of the error."""
    fields = error_fields(error) or {}
    if isinstance(error, InvalidRequestError):
        fields["message"] = in_shell_words(error)
    return {
        "row": row.number,
        "id": row.id,
        "error": {name: value for name, value in fields.items() if value is not None},
        "request": row.digest,
    }
