"""Bulk reranking: the types of `rerank_many`, and `BatchReranker`, for engines that map functions over tables.

An engine (Ray Data, Daft, Spark, a process pool) brings its own workers, and reads, writes and resumes. It needs a
picklable function from a batch of rows to a batch of rows: a `BatchReranker`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from ._streams import OnProgress, RerankStream, SyncRerankStream
from ._totals import Totals
from .errors import ConfigurationError, InvalidRequestError
from .models import BatchProgress, RerankOutcome, build_request
from .sync import SyncRerankClient

__all__ = [
    "BatchProgress",
    "BatchReranker",
    "OnProgress",
    "RerankOutcome",
    "RerankStream",
    "Reranker",
    "SyncRerankStream",
    "Totals",
]

ADDED: Final = ("indices", "scores", "error")
"""The columns that a BatchReranker adds."""


class BatchReranker:
    """A picklable function that ranks the rows of a table, from a batch of columns to a batch of columns.

    Each process makes one client at the first call, which all copies and threads there share. Between two batches,
    when no copy is left, a process keeps the clients of the last eight BatchRerankers.

    Args:
        make_client: A function that makes the client. It is sent to the workers, so it must pickle: the class itself, a
            module-level function, or a `functools.partial`. Let it read the key in the worker, as the class does from
            JINA_API_KEY: a key inside a `partial` is in every pickle.
        query: The column with the queries.
        documents: The column with a list of candidates for each query.
        top_n: How many of the best documents to keep; None means all.

    Raises:
        ConfigurationError: `make_client` is not callable.
        InvalidRequestError: `top_n` is not a positive integer.
    """

    def __init__(
        self,
        make_client: Callable[[], SyncRerankClient] = SyncRerankClient,
        *,
        query: str = "query",
        documents: str = "documents",
        top_n: int | None = None,
    ) -> None:
        if not callable(make_client):
            raise ConfigurationError(
                "make_client: expected a function that makes a client; a client itself cannot be pickled"
            )
        build_request(query="a", documents=[], top_n=top_n)  # raises for an invalid top_n here, and not in every row
        self._make_client = make_client
        self._query = query
        self._documents = documents
        self._top_n = top_n
        self._id = uuid4().hex
        self._client: SyncRerankClient | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None}

    def __call__(self, batch: Mapping[Any, Any]) -> dict[str, Any]:
        """Rank all rows of a batch concurrently; return it with three more columns.

        Args:
            batch: Columns of equal length by name, as lists or arrays.

        Returns:
            The columns given, and `indices` (the positions of the ranked documents in the row's list, best first),
            `scores` (one for each index), and `error` (None, or the text of the RerankError of this row, with no
            indices and scores).

        Raises:
            InvalidRequestError: A column is missing, exists already, or has another length.
        """
        for name in (self._query, self._documents):
            if name not in batch:
                raise InvalidRequestError(f"batch: it has no column {name!r}, but {', '.join(map(str, batch))}")
        if len(batch[self._query]) != len(batch[self._documents]):
            raise InvalidRequestError(f"batch: {self._query!r} and {self._documents!r} have different lengths")
        if taken := [name for name in ADDED if name in batch]:
            raise InvalidRequestError(f"batch: it has a column {taken[0]!r} already; rename it, or leave it out")
        added: dict[str, list[Any]] = {name: [] for name in ADDED}
        for row in self._rows(batch[self._query], batch[self._documents]):
            for name, value in zip(ADDED, row, strict=True):
                added[name].append(value)
        return {**batch, **added}

    @property
    def client(self) -> SyncRerankClient:
        """The client that all copies in this process share."""
        if self._client is None:
            self._client = _clients.get(self._id) or _clients.setdefault(self._id, self._make_client())
            for oldest in list(_clients)[:-_MAX_CLIENTS]:
                _clients.pop(oldest, None)
        return self._client

    def _rows(self, queries: Iterable[Any], documents: Iterable[Any]) -> Iterator[tuple[list[int], list[float], Any]]:
        requests = [
            {"query": query, "documents": candidates, "top_n": self._top_n}
            for query, candidates in zip(queries, documents, strict=True)
        ]
        with self.client.rerank_many(requests) as outcomes:
            for outcome in outcomes:
                if outcome.response is None:
                    yield [], [], str(outcome.error)
                else:
                    results = outcome.response.results
                    yield [result.index for result in results], [result.relevance_score for result in results], None


Reranker = BatchReranker
"""The former name of `BatchReranker`."""

_MAX_CLIENTS: Final = 8

_clients: Final[dict[str, SyncRerankClient]] = {}
"""The latest clients of this process, by the id of their `BatchReranker`, oldest first. Engines unpickle a function
for every batch; this cache keeps its connections open between batches. An evicted client closes its connections with
its last `BatchReranker`; a client that is never closed does not delay the exit of the interpreter."""
