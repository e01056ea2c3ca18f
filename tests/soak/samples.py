"""Measurements of the soak's own process."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from ..bulk_soak import resident_bytes
from ..ways import descriptors

INTERVAL: Final = 1.0


@dataclass(frozen=True)
class Sample:
    """What a process holds at one moment."""

    seconds: float
    """Since the beginning of the load."""
    calls: int
    """Started so far."""
    memory: int
    """Resident bytes."""
    descriptors: int
    threads: int
    tasks: int
    """Of asyncio, on all event loops of the process."""
    objects: int
    """That the garbage collector looks after."""


def measure(seconds: float = 0.0, calls: int = 0) -> Sample:
    """What this process holds now."""
    objects = gc.get_objects()
    tasks = sum(type(thing) is asyncio.Task for thing in objects)
    threads = threading.active_count()
    return Sample(seconds, calls, resident_bytes(), descriptors(), threads, tasks, len(objects))


class Sampler:
    """Takes one sample a second, in a separate thread."""

    def __init__(self, calls: Callable[[], int]) -> None:
        self.samples: list[Sample] = []
        self._calls = calls
        self._start = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL):
            self.samples.append(measure(time.monotonic() - self._start, self._calls()))
