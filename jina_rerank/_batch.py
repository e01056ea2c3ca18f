"""A batch of requests on one event loop, with a bounded number of workers and of outcomes not yet taken."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import anyio

from ._core import Core
from ._stack.background_tasks import DetachedTasks
from ._stack.connections import CLOSING_SECONDS
from ._warnings import CallerLine
from .documents import Document
from .errors import ClientClosedError, ConfigurationError, RerankError
from .models import AnyRequest, BatchProgress, RerankOutcome

R = TypeVar("R", bound=AnyRequest)

READ_AHEAD: Final = 4
"""The most requests per worker whose outcomes are not yet taken: enough to keep the workers busy while one slow request
delays the ordered outcomes, or while the consumer is busy."""


class Batch(Generic[R]):
    """A queue of requests, workers that process them while there are any, and their outcomes.

    Args:
        core: The core that performs the requests.
        requests: The requests, read in one task and no faster than outcomes are taken; None if the caller `put`s them.
        key: A function that returns the document of an object in `documents`; None if these are documents.
        workers: How many requests to process at once.
        ordered: Whether outcomes are in the order of their requests, or of completion.
        caller: The line that warnings name.

    Raises:
        ClientClosedError: The client is closed.
    """

    def __init__(
        self,
        core: Core,
        requests: AsyncIterable[R] | Iterable[R] | None,
        *,
        key: Callable[[Any], Document] | None,
        workers: int,
        ordered: bool,
        caller: CallerLine | None = None,
    ) -> None:
        self.progress: BatchProgress = BatchProgress(0, 0, 0, 0.0)
        self.tasks: DetachedTasks = DetachedTasks(core.here())
        self._core = core
        self._key = key
        self._caller = caller
        self._max_workers = workers
        self._ordered = ordered
        self._workers = 0
        self._queue: deque[tuple[int, R]] = deque()
        # By position in the order of delivery. None if the worker failed, and there is no outcome.
        self._finished: dict[int, RerankOutcome[R, Any] | None] = {}
        self._completed = 0
        self._taken = 0
        self._read = 0
        self._failed = 0
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        self._arrived = anyio.Event()
        self._room = anyio.Event()
        self._began = anyio.current_time()
        self._reading = None if requests is None else self.tasks.spawn(lambda: self._read_all(requests))

    @property
    def has_room(self) -> bool:
        """Whether another request may be read."""
        return not self._ended and self._read - self._taken < READ_AHEAD * self._max_workers

    def put(self, request: R) -> None:
        """Add a request; the caller has checked `has_room`."""
        self._queue.append((self._read, request))
        self._read += 1
        if self._workers < self._max_workers:
            self._workers += 1
            self.tasks.spawn(self._work)

    def end(self, error: BaseException | None = None) -> None:
        """Stop reading; `take` raises the first `error` after the outcomes of all requests read."""
        if not self._ended:
            self._ended = True
            self._arrived.set()
            if self._reading is not None:
                self._reading.cancel()
        elif self._taken == self._read:
            return  # `take` has raised it already
        if self._error is None:
            self._error = error

    def take_ready(self) -> RerankOutcome[R, Any] | None:
        """Return the next outcome if it is ready, else None."""
        while self._taken in self._finished:
            outcome = self._finished.pop(self._taken)
            self._taken += 1
            self._room.set()
            if outcome is not None:
                self._failed += outcome.error is not None
                elapsed = anyio.current_time() - self._began
                self.progress = BatchProgress(self._read, self.progress.done + 1, self._failed, elapsed)
                return outcome
        return None

    async def take(self) -> RerankOutcome[R, Any] | None:
        """Wait for the next outcome and return it; return None when all are taken, or the batch is closed.

        Raises:
            BaseException: The error that ended the reading, after the outcomes of all requests read before.
        """
        while not self._closed:
            outcome = self.take_ready()
            if outcome is not None:
                return outcome
            if self._ended and self._taken == self._read:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                return None
            if self._arrived.is_set():
                self._arrived = anyio.Event()
            await self._arrived.wait()
        return None

    def check_here(self) -> None:
        """Raise a ConfigurationError on another event loop or in another process than that of the workers."""
        if not self.tasks.here:
            raise ConfigurationError(
                "a stream belongs to the event loop, and the process, that has begun it; call rerank_many again here"
            )

    async def aclose(self) -> None:
        """Cancel all tasks and wait until they have unwound. Outcomes that were not taken are discarded."""
        self._closed = True
        self._arrived.set()
        await self.tasks.aclose()

    async def _read_all(self, requests: AsyncIterable[R] | Iterable[R]) -> None:
        try:
            # This scope is entered before any of the async generator's, so that closing the generator can be shielded.
            with anyio.CancelScope() as closing:
                iterator = aiter(requests if isinstance(requests, AsyncIterable) else _each(requests))
                try:
                    while True:
                        await self._wait_for_room()
                        self.put(await anext(iterator))
                finally:
                    if isinstance(iterator, AsyncGenerator):
                        closing.shield, closing.deadline = True, anyio.current_time() + CLOSING_SECONDS
                        await iterator.aclose()
        except StopAsyncIteration:
            self.end()
        except anyio.get_cancelled_exc_class():
            self.end(_cut_short())
            raise
        except BaseException as error:  # noqa: BLE001  # `take` raises it again
            self.end(error)

    async def _wait_for_room(self) -> None:
        await anyio.lowlevel.checkpoint()  # yields to the event loop even if the iterable never waits
        while not self.has_room:
            self._room = anyio.Event()
            await self._room.wait()

    async def _work(self) -> None:
        try:
            while self._queue:
                index, request = self._queue.popleft()
                self._finish(index, await self._outcome(index, request))
        finally:
            self._workers -= 1

    async def _outcome(self, index: int, request: R) -> RerankOutcome[R, Any] | None:
        try:
            call = self._core.open_request(request, index, self._key, self._caller)
            return RerankOutcome(index, request, response=await self._core.perform(call, is_batched=True))
        except RerankError as error:
            if isinstance(error, ClientClosedError):
                self.end(error)
            # Without the traceback, whose frames hold the request body: a caller may keep millions of outcomes.
            return RerankOutcome(index, request, error=error.with_traceback(None))
        except anyio.get_cancelled_exc_class():
            self._finish_all(index, request)
            raise
        except BaseException as error:  # noqa: BLE001  # an error of a hook; `take` raises it again
            self.end(error)
            return None

    def _finish(self, index: int, outcome: RerankOutcome[R, Any] | None) -> None:
        self._finished[index if self._ordered else self._completed] = outcome
        self._completed += 1
        self._arrived.set()

    def _finish_all(self, index: int, request: R) -> None:
        """Give every request an outcome, so that no consumer waits, when the workers are cancelled."""
        self.end(_cut_short())
        for number, unfinished in ((index, request), *self._queue):
            self._finish(number, RerankOutcome(number, unfinished, error=_cut_short()))
        self._queue.clear()


def _cut_short() -> ClientClosedError:
    return ClientClosedError("the client was closed, or the event loop ended, before the request was ranked")


async def _each(requests: Iterable[R]) -> AsyncGenerator[R]:
    for request in requests:
        yield request
