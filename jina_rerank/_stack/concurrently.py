"""Concurrent requests of one call, until enough of them have an outcome."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def run_until(
    is_enough: Callable[[T | BaseException, int], bool], *jobs: Callable[[], Awaitable[T]]
) -> dict[int, T | BaseException]:
    """Run jobs concurrently; cancel the rest when there are enough outcomes, or when the caller is cancelled.

    Args:
        is_enough: A function of each new outcome and the number of outcomes so far.
        jobs: Async functions.

    Returns:
        The result or exception of each job, by its number, in the order of completion. A cancelled job has none.
    """
    outcomes: dict[int, T | BaseException] = {}
    scopes = [anyio.CancelScope() for _ in jobs]
    enough, idle, running = anyio.Event(), anyio.Event(), 0

    def cancel_all() -> None:
        for scope in scopes:
            scope.cancel()

    async def run(number: int) -> None:
        nonlocal running
        running += 1
        try:
            with scopes[number] as scope:
                if not scope.cancel_called:
                    outcomes[number] = await jobs[number]()
        except BaseException as error:  # noqa: BLE001  # a task group would raise it in a group
            outcomes[number] = error
        running -= 1
        if not running:
            idle.set()
        if number in outcomes and (len(outcomes) == len(jobs) or is_enough(outcomes[number], len(outcomes))):
            cancel_all()  # immediately: the rate limiter may have just admitted another job
            enough.set()

    async with anyio.create_task_group() as tasks:
        for number in range(len(jobs)):
            tasks.start_soon(run, number)
        try:
            await enough.wait()
        finally:
            cancel_all()
            # The task group must not wait for the jobs: it would cancel its own scope, and anyio's asyncio backend
            # would mistake the cancellations of the jobs' scopes for its own, and lose a cancellation from outside.
            with anyio.CancelScope(shield=True):
                while running:
                    idle = anyio.Event()
                    await idle.wait()
    return outcomes
