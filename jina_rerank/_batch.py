"""One batch of requests on one event loop: bounded workers between what is read and what is taken."""

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
"""Requests whose outcomes are not yet taken, at the most, for each worker: enough for the workers to go on while one
slow request holds up the order, or while the consumer is busy."""


class Batch(Generic[R]):
    """Requests are read, or `put`; workers carry them out, and last as long as there is work; outcomes are taken.

    Args:
        core: What carries the requests out.
        requests: What to read, in one task and no faster than outcomes are taken; None if requests are `put`.
        key: Gives the document of each object in a request's `documents`; None if they are documents themselves.
        workers: How many requests are carried out at once.
        ordered: Whether outcomes are handed over in the order of their requests, or as they come.
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
        self._most_workers = workers
        self._ordered = ordered
        self._workers = 0
        self._queue: deque[tuple[int, R]] = deque()
        # By their places in the order of delivery. None is a place without an outcome: its worker failed.
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
        return not self._ended and self._read - self._taken < READ_AHEAD * self._most_workers

    def put(self, request: R) -> None:
        """Takes a request in, for which there is room."""
        self._queue.append((self._read, request))
        self._read += 1
        if self._workers < self._most_workers:
            self._workers += 1
            self.tasks.spawn(self._work)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the reading. What was read goes on; then `error` is raised. Of several errors the first one counts."""
        if not self._ended:
            self._ended = True
            self._arrived.set()
            if self._reading is not None:
                self._reading.cancel()
        elif self._taken == self._read:
            return  # it has been raised
        if self._error is None:
            self._error = error

    def take_ready(self) -> RerankOutcome[R, Any] | None:
        """The next outcome, if it is there."""
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
        """The next outcome, waited for; None when all are taken, or the batch is closed.

        Raises:
            BaseException: What ended the reading, after all that was read before.
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
        """Refuses, with ConfigurationError, another event loop or process: nobody works there."""
        if not self.tasks.here:
            raise ConfigurationError(
                "a stream belongs to the event loop, and the process, that has begun it; call rerank_many again here"
            )

    async def aclose(self) -> None:
        """Cancels what goes on, and waits until it has unwound. Outcomes that are not taken are gone."""
        self._closed = True
        self._arrived.set()
        await self.tasks.aclose()

    async def _read_all(self, requests: AsyncIterable[R] | Iterable[R]) -> None:
        try:
            # The scope is older than any that an async generator has entered, so that closing it may be shielded.
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
        except BaseException as error:  # noqa: BLE001  # it is raised again where outcomes are taken
            self.end(error)

    async def _wait_for_room(self) -> None:
        await anyio.lowlevel.checkpoint()  # an iterable that never waits does not hold the loop
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
            # Without the traceback, whose frames hold the request's bytes: outcomes may be kept by the million.
            return RerankOutcome(index, request, error=error.with_traceback(None))
        except anyio.get_cancelled_exc_class():
            self._give_up(index, request)
            raise
        except BaseException as error:  # noqa: BLE001  # of a hook; it is raised again where outcomes are taken
            self.end(error)
            return None

    def _finish(self, index: int, outcome: RerankOutcome[R, Any] | None) -> None:
        self._finished[index if self._ordered else self._completed] = outcome
        self._completed += 1
        self._arrived.set()

    def _give_up(self, index: int, request: R) -> None:
        """Leaves no request without an outcome, and no consumer waiting, when a worker is cancelled: all are."""
        self.end(_cut_short())
        for number, unfinished in ((index, request), *self._queue):
            self._finish(number, RerankOutcome(number, unfinished, error=_cut_short()))
        self._queue.clear()


def _cut_short() -> ClientClosedError:
    return ClientClosedError("the client was closed, or the event loop ended, before the request was ranked")


async def _each(requests: Iterable[R]) -> AsyncGenerator[R]:
    for request in requests:
        yield request
