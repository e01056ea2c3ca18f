"""Long computations on the event loop, in steps between which other tasks run.

A worker thread would do as well on a real clock, but trio's MockClock would jump ahead while the thread works.
"""

from collections.abc import Generator
from time import perf_counter
from typing import Final, TypeAlias, TypeVar

import anyio.lowlevel

_T = TypeVar("_T")
Steps: TypeAlias = Generator[None, None, _T]
"""A computation that yields wherever other tasks may run."""

_SLICE_SECONDS: Final = 0.005
"""How long a computation blocks the event loop at a time, if its steps are shorter than that."""


def finish(steps: Steps[_T]) -> _T:
    """Return the result of `steps`, run without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


async def finish_in_turns(steps: Steps[_T]) -> _T:
    """Return the result of `steps`, yielding to the event loop every few milliseconds."""
    start = perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result
        if perf_counter() - start > _SLICE_SECONDS:
            await anyio.lowlevel.checkpoint()
            start = perf_counter()
