"""Long computations on the event loop: in steps, between which other tasks run.

A worker thread would do as well on a real clock. Under trio's MockClock time would jump ahead while it works.
"""

from collections.abc import Generator
from time import perf_counter
from typing import Final, TypeAlias, TypeVar

import anyio.lowlevel

_T = TypeVar("_T")
Steps: TypeAlias = Generator[None, None, _T]
"""A computation that yields whenever others may run."""

_SLICE: Final = 0.005
"""Seconds for which a computation holds the event loop, if its steps are shorter than that."""


def finish(steps: Steps[_T]) -> _T:
    """Return the result of `steps`, all done at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


async def finish_in_turns(steps: Steps[_T]) -> _T:
    """Return the result of `steps`; other tasks run every few milliseconds."""
    start = perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result
        if perf_counter() - start > _SLICE:
            await anyio.lowlevel.checkpoint()
            start = perf_counter()
