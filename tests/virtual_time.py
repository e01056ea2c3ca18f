"""Virtual time: trio with a clock that jumps to the next deadline as soon as all tasks are waiting."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import anyio
import pytest
import trio
from trio.testing import MockClock

T = TypeVar("T")


def _options() -> dict[str, Any]:
    return {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def backend() -> tuple[str, dict[str, Any]]:
    """Run the anyio tests of a module in virtual time: `anyio_backend = virtual_time.backend`."""
    return "trio", _options()


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` in virtual time, in a test that is not async itself."""
    return anyio.run(main, backend="trio", backend_options=_options())


def advance(seconds: float) -> None:
    """Advance the clock while tasks are busy, as computing does in real time."""
    cast(MockClock, trio.lowlevel.current_clock()).jump(seconds)
