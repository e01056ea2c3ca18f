"""One contender in a process of its own: reads a job from each line of standard input, and answers with a sample.

A process for each keeps the libraries from each other: what one imports would slow the garbage collector of all. The
collector stays on.
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
    """Counts calls, and takes the clocks from when it is made until it is read."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        gc.collect()  # what came before is not this sample's to clear
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
    """The most memory that this process has had so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage begins with what the parent had
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
    """Tasks that call again as soon as they have their answer. The time in which they open connections is left out."""
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
    """The same with threads."""
    ends = threading.Event()
    done: list[None] = []  # adding to a list is atomic, adding to a number is not

    def repeat() -> None:
        while not ends.is_set():
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
    ends.set()
    for thread in threads:
        thread.join()
    return sample


async def counted(call: AsyncCall, job: Job) -> Sample:
    """A number of calls by some tasks, after a hundredth as many: what memory grows by then is the calls' own."""

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
        raise SystemExit(f"{job.contender}: its ranking is not the server's")


def main() -> None:
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            print(json.dumps(asdict(perform(Job(**json.loads(line)), runner))), flush=True)


if __name__ == "__main__":
    main()
