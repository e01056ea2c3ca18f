"""The streams that `rerank_many` returns: an async and a sync iterator over outcomes."""

import weakref
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

import anyio.lowlevel

from ._background import background
from ._batch import Batch
from ._call import check_key
from ._config import ClientConfig, as_count, check_flag
from ._core import Core
from ._stack.connections import CLOSING_SECONDS
from ._totals import Totals
from ._warnings import caller_line
from .documents import SINGLE, Document
from .errors import InvalidRequestError
from .models import AnyRequest, BatchProgress, RerankOutcome, T

R = TypeVar("R", bound=AnyRequest)

DEFAULT_WORKERS: Final = 100
"""Requests of a batch processed at once if no limit is configured: the most that slow start allows."""

OnProgress: TypeAlias = Callable[[BatchProgress], object]
"""A function called just before each outcome is yielded, in the task or thread that iterates."""


class _Stream(Generic[R, T]):
    """The base class of both streams."""

    def __init__(
        self,
        core: Core,
        *,
        key: Callable[[Any], Document] | None,
        max_concurrency: int | None,
        ordered: bool,
        progress: OnProgress | None,
    ) -> None:
        check_key(key)
        check_flag("ordered", ordered, InvalidRequestError)
        _check_progress(progress)
        self._core = core.with_own_totals()
        self._key = key
        self._caller = caller_line()
        self._workers = _workers(max_concurrency, core.config)
        self._ordered = ordered
        self._progress = progress
        self._batch: Batch[R] | None = None
        self._closed = False

    @property
    def totals(self) -> Totals:
        """The total cost of the requests of this stream so far."""
        return self._core.totals

    def _begin(self, requests: AsyncIterable[R] | Iterable[R] | None) -> Batch[R]:
        """Start the batch on the running event loop, and return it."""
        batch = self._batch = Batch(
            self._core,
            requests,
            key=self._key,
            workers=self._workers,
            ordered=self._ordered,
            caller=self._caller,
        )
        # The batch has no reference to its stream, so that dropping the stream cancels it.
        weakref.finalize(self, batch.tasks.cancel_soon).atexit = False
        return batch

    def _report(self, batch: Batch[R]) -> None:
        if self._progress is not None:
            self._progress(batch.progress)

    def __repr__(self) -> str:
        done = self._batch.progress.done if self._batch else 0
        return f"<{type(self).__name__}: {done} outcomes taken{', closed' if self._closed else ''}>"


class RerankStream(_Stream[R, T]):
    """An async iterator over the outcomes of `RerankClient.rerank_many`.

    Tasks on the event loop read and send the requests; they start when the iteration starts. They end when all requests
    are done, when the stream or its client is closed, or when the stream is garbage-collected, so `break` may leave the
    loop. One of the tasks advances an async generator of requests, and finally closes it.

    Iterating over a stream again resumes it. A stream belongs to one event loop.
    """

    def __init__(
        self,
        core: Core,
        requests: AsyncIterable[R] | Iterable[R],
        *,
        key: Callable[[Any], Document] | None,
        max_concurrency: int | None,
        ordered: bool,
        progress: OnProgress | None,
    ) -> None:
        super().__init__(core, key=key, max_concurrency=max_concurrency, ordered=ordered, progress=progress)
        _check_requests(requests, AsyncIterable, Iterable)
        self._requests = requests

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RerankOutcome[R, T]:
        await anyio.lowlevel.checkpoint()  # yields to the event loop even if outcomes are ready
        if not self._closed:
            batch = self._batch or self._begin(self._requests)
            batch.check_here()
            try:
                outcome = await batch.take()
                if outcome is not None:
                    self._report(batch)
                    return outcome
            except StopAsyncIteration as error:
                raise _no_end(error) from error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the stream: cancel the requests in flight, and discard outcomes that were not taken."""
        self._closed = True
        if self._batch is not None:
            await self._batch.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class SyncRerankStream(_Stream[R, T]):
    """An iterator over the outcomes of `SyncRerankClient.rerank_many`.

    The thread that iterates over the stream advances the iterable of requests, and only while it waits for an outcome;
    the background loop sends the requests. The work ends when all requests are done, when the stream or its client is
    closed, when the stream is garbage-collected, or when Ctrl-C interrupts the wait for an outcome, so `break` may
    leave the loop.

    Iterating over a stream again resumes it. Only one thread at a time may use it.
    """

    def __init__(
        self,
        core: Core,
        requests: Iterable[R],
        *,
        key: Callable[[Any], Document] | None,
        max_concurrency: int | None,
        ordered: bool,
        progress: OnProgress | None,
    ) -> None:
        super().__init__(core, key=key, max_concurrency=max_concurrency, ordered=ordered, progress=progress)
        _check_requests(requests, Iterable)
        self._unread: Iterator[R] | None = iter(requests)
        self._failure: Exception | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RerankOutcome[R, T]:
        try:
            outcome = self._next()
        except StopIteration as error:
            raise _no_end(error) from error
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C
                self._closed = True
                if self._batch is not None:
                    self._batch.tasks.cancel_soon()
            raise
        if outcome is None:
            raise StopIteration
        return outcome

    def close(self) -> None:
        """Close the stream: cancel the requests in flight, and discard outcomes that were not taken."""
        self._closed = True
        if self._batch is not None and background.started:
            background.run(self._batch.aclose(), deadline=CLOSING_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> RerankOutcome[R, T] | None:
        while not self._closed:
            # It reads one request for each outcome, and more only while no outcome is ready.
            read = self._read()
            outcome = background.run(self._exchange(read), deadline=None)
            if outcome is not None and self._batch is not None:
                self._report(self._batch)
                return outcome
            if not read:
                break
        return None

    def _read(self) -> list[R]:
        """Return the next request in a list; an empty list if there is none, or no room for it."""
        if self._unread is None or (self._batch is not None and not self._batch.has_room):
            return []
        try:
            return [next(self._unread)]
        except StopIteration:
            self._unread = None
        except Exception as error:  # noqa: BLE001  # raised again after the outcomes of the requests read before
            self._unread, self._failure = None, error
        return []

    async def _exchange(self, read: list[R]) -> RerankOutcome[R, T] | None:
        """Put the requests read into the batch and take an outcome, on the background loop; wait if none was read."""
        batch = self._batch or self._begin(None)
        batch.check_here()
        for request in read:
            batch.put(request)
        if self._unread is None:
            batch.end(self._failure)
        return batch.take_ready() if read else await batch.take()


def _check_progress(progress: object) -> None:
    if progress is not None and not callable(progress):
        raise InvalidRequestError(f"progress: expected a function, or None; got {type(progress).__name__}")


def _no_end(error: Exception) -> RuntimeError:
    """Return a RuntimeError, as PEP 479 does, for a StopIteration that would silently end the loop."""
    return RuntimeError(f"progress, or a hook of http_client, raised {type(error).__name__}")


def _workers(max_concurrency: object, config: ClientConfig) -> int:
    """Return the lowest of all configured limits."""
    way_out = ", or None for what the client allows"
    given = (
        None if max_concurrency is None else as_count("max_concurrency", max_concurrency, InvalidRequestError, way_out)
    )
    of_key = None if config.rate_limit is None else config.rate_limit.concurrency
    stated = [limit for limit in (given, config.max_concurrency, of_key) if limit is not None]
    return min(stated, default=DEFAULT_WORKERS)


def _check_requests(requests: object, *kinds: type) -> None:
    kind = type(requests).__name__
    if isinstance(requests, SINGLE):
        raise InvalidRequestError(f"requests: expected an iterable of RerankRequest, got one {kind}; put it in a list")
    if not isinstance(requests, kinds):
        way_out = "; RerankClient takes it" if isinstance(requests, AsyncIterable) else ""
        raise InvalidRequestError(f"requests: expected an iterable of RerankRequest, got {kind}{way_out}")
