"""One contender in a separate process: reads a job from each line of stdin, and writes a sample to stdout.

Separate processes isolate the libraries, since the imports of one would slow the garbage collector of all. The
collector stays enabled.
"""

import asyncio
import gc
import json
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path

from .answers import Pairs, ranking
from .contenders import CONTENDERS, AsyncCall, Call, Case
from .samples import Job, Probe, Sample

_WARM_UP_CALLS = 5


class _Meter:
    """A counter of calls, with the CPU and wall time since its start."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        gc.collect()  # earlier garbage must not count for this sample
        self.calls = 0
        self.peak = _peak()
        self.cpu = time.process_time()  # user and system, of all threads
        self.wall = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.wall

    def read(self) -> Sample:
        wall, cpu, peak = self.seconds, time.process_time() - self.cpu, _peak()
        return Sample(calls=self.calls, wall=wall, cpu=cpu, peak=peak, growth=peak - self.peak)


def _peak() -> float:
    """Return the peak memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where the peak of getrusage includes the parent's memory at the fork
        _, _, high_water = status.read_text().partition("VmHWM:")
        return int(high_water.split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


async def one_by_one(call: AsyncCall, job: Job) -> Sample:
    for _ in range(_WARM_UP_CALLS):
        await call()
    meter = _Meter()
    while meter.seconds < job.seconds:
        await call()
        meter.calls += 1
    return meter.read()


def one_by_one_blocking(call: Call, job: Job) -> Sample:
    for _ in range(_WARM_UP_CALLS):
        call()
    meter = _Meter()
    while meter.seconds < job.seconds:
        call()
        meter.calls += 1
    return meter.read()


async def in_flight(call: AsyncCall, job: Job) -> Sample:
    """Run tasks that call again as soon as they have a response. The time in which they connect does not count."""
    meter = _Meter()

    async def repeat() -> None:
        while True:
            await call()
            meter.calls += 1

    async with asyncio.TaskGroup() as tasks:
        repeating = [tasks.create_task(repeat()) for _ in range(job.in_flight)]
        await asyncio.sleep(job.warm_up)
        meter.restart()
        await asyncio.sleep(job.seconds)
        sample = meter.read()
        for task in repeating:
            task.cancel()
    return sample


def in_threads(call: Call, job: Job) -> Sample:
    """Run threads that call again as soon as they have a response. The time in which they connect does not count."""
    stop = threading.Event()
    done: list[None] = []  # appending to a list is atomic, incrementing a number is not

    def repeat() -> None:
        while not stop.is_set():
            call()
            done.append(None)

    threads = [threading.Thread(target=repeat) for _ in range(job.in_flight)]
    for thread in threads:
        thread.start()
    time.sleep(job.warm_up)
    done.clear()
    meter = _Meter()
    time.sleep(job.seconds)
    meter.calls = len(done)
    sample = meter.read()
    stop.set()
    for thread in threads:
        thread.join()
    return sample


async def counted(call: AsyncCall, job: Job) -> Sample:
    """Make a number of calls in tasks, after a warm-up of a hundredth as many, so that growth is due to the calls."""

    async def share(calls: int) -> None:
        for _ in range(calls):
            await call()
            meter.calls += 1

    async def run(calls: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(job.in_flight):
                tasks.create_task(share(calls // job.in_flight))

    meter = _Meter()
    await run(max(job.calls // 100, 4 * job.in_flight))
    meter.restart()
    await run(job.calls)
    return meter.read()


ASYNC: dict[Probe, Callable[[AsyncCall, Job], Awaitable[Sample]]] = {
    "one by one": one_by_one,
    "in flight": in_flight,
    "counted": counted,
}
BLOCKING: dict[Probe, Callable[[Call, Job], Sample]] = {"one by one": one_by_one_blocking, "in flight": in_threads}


def perform(job: Job, runner: asyncio.Runner) -> Sample:
    opened = CONTENDERS[job.contender].open(Case(job.url, job.documents, job.in_flight))
    if isinstance(opened, AbstractAsyncContextManager):
        return runner.run(_perform(opened, job))
    with opened as call:
        _check(call(), job)
        return BLOCKING[job.probe](call, job)


async def _perform(opened: AbstractAsyncContextManager[AsyncCall], job: Job) -> Sample:
    async with opened as call:
        _check(await call(), job)
        return await ASYNC[job.probe](call, job)


def _check(pairs: Pairs, job: Job) -> None:
    if pairs != ranking(job.documents):
        raise SystemExit(f"{job.contender}: its ranking differs from the server's")


def main() -> None:
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            print(json.dumps(asdict(perform(Job(**json.loads(line)), runner))), flush=True)


if __name__ == "__main__":
    main()
