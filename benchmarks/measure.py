"""The measurements, their repetitions and durations. Contenders take turns within each round."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Final

from .contenders import CONTENDERS, available
from .samples import Figures, Job, Row, Sample
from .server import Server, serving

DOCUMENTS: Final = (10, 100, 1000)
IN_FLIGHT: Final = (1, 50, 200, 500, 1000)
IN_FLIGHT_DOCUMENTS: Final = 10
SYNC_DOCUMENTS: Final = 100
DELAY: Final = 0.1
THREADS: Final = 32
MEMORY_TASKS: Final = 500
WARM_UP_SECONDS: Final = 1.0
"""Seconds in which the calls in flight open their connections."""

CPU_CONTENDERS: Final = tuple(
    name for name in CONTENDERS if name not in ("httpx, tuned limits", "httpx.Client", "SyncRerankClient")
)
IN_FLIGHT_CONTENDERS: Final = (
    "httpx",
    "httpx, tuned limits",
    "aiohttp",
    "httpx over aiohttp",
    "jina_rerank",
    "jina_rerank[aiohttp]",
)
SYNC_CONTENDERS: Final = ("httpx.Client", "SyncRerankClient")
MEMORY_CONTENDERS: Final = ("aiohttp", "jina_rerank", "jina_rerank[aiohttp]")
HTTPX_IN_FLIGHT: Final = 200
"""The limit for bare httpx, whose pool nearly stalls above it."""

IMPORTS: Final = {
    "floor": (
        "import httpx, anyio, anyio.from_thread, tenacity\nfrom pydantic import BaseModel\n"
        "class M(BaseModel):\n    a: int\n    b: str\n"
    ),
    "jina_rerank": "import jina_rerank",
}


@dataclass(frozen=True)
class Plan:
    """The durations of a run. Times in seconds, for one contender in one round."""

    rounds: int
    seconds: float
    crowd_rounds: int
    crowd_seconds: float
    import_rounds: int
    memory_calls: int


FULL: Final = Plan(rounds=9, seconds=0.25, crowd_rounds=3, crowd_seconds=1.5, import_rounds=21, memory_calls=100_000)
QUICK: Final = Plan(rounds=3, seconds=0.1, crowd_rounds=1, crowd_seconds=1.0, import_rounds=5, memory_calls=5_000)


class Worker:
    """A process for one contender."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def perform(self, job: Job) -> Sample:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{job.contender}: its process ended in {job}")
        return Sample(**json.loads(line))


@contextmanager
def worker() -> Iterator[Worker]:
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "benchmarks.worker"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()


def measure(plan: Plan) -> Figures:
    """Run all measurements, and report the progress on stderr."""
    with serving() as server:
        run = Run(plan, server, Figures())
        for part in (run.cpu, run.sync, run.in_flight, run.threads, run.memory, run.imports):
            print(f"{time.strftime('%H:%M:%S')} {part.__doc__}", file=sys.stderr, flush=True)
            part()
    return run.figures


@dataclass(frozen=True)
class Run:
    """One run of all measurements."""

    plan: Plan
    server: Server
    figures: Figures

    def cpu(self) -> None:
        """Measure the CPU per call of all contenders, one call after the other."""
        self._take_turns([Row("cpu", documents) for documents in DOCUMENTS], CPU_CONTENDERS)

    def sync(self) -> None:
        """Measure the time of a blocking call."""
        self._take_turns([Row("sync", SYNC_DOCUMENTS)], SYNC_CONTENDERS)

    def in_flight(self) -> None:
        """Measure many calls in flight, to a server with a delay."""
        contenders = [name for name in IN_FLIGHT_CONTENDERS if available(name)]
        for _, size, name in product(range(self.plan.crowd_rounds), IN_FLIGHT, contenders):
            if name != "httpx" or size <= HTTPX_IN_FLIGHT:
                self._crowd(Row("in flight", size), name, IN_FLIGHT_DOCUMENTS, DELAY)

    def threads(self) -> None:
        """Measure blocking calls in threads, to a server without a delay."""
        for _, name in product(range(self.plan.crowd_rounds), SYNC_CONTENDERS):
            self._crowd(Row("threads", THREADS), name, SYNC_DOCUMENTS, 0.0)

    def memory(self) -> None:
        """Measure the peak memory of a process that makes very many calls."""
        calls = self.plan.memory_calls
        for name in filter(available, MEMORY_CONTENDERS):
            url = self.server.url(CONTENDERS[name].shape, IN_FLIGHT_DOCUMENTS)
            job = Job(name, "counted", url, IN_FLIGHT_DOCUMENTS, in_flight=MEMORY_TASKS, calls=calls)
            with worker() as running:
                self.figures.add(Row("memory", calls), name, running.perform(job))

    def imports(self) -> None:
        """Measure the time of a whole process that only imports."""
        for turn in range(self.plan.import_rounds + 1):
            for name, code in IMPORTS.items():
                wall, cpu = time.perf_counter(), _cpu_of_children()
                subprocess.run([sys.executable, "-c", code], check=True)
                sample = Sample(calls=1, wall=time.perf_counter() - wall, cpu=_cpu_of_children() - cpu)
                if turn:  # the first turn may have compiled bytecode
                    self.figures.add(Row("import"), name, sample)

    def _take_turns(self, rows: list[Row], contenders: tuple[str, ...]) -> None:
        """Measure contenders in turn, each in its own long-lived process. A row's size is the number of documents."""
        with ExitStack() as stack:
            workers = {name: stack.enter_context(worker()) for name in filter(available, contenders)}
            for row, _, name in product(rows, range(self.plan.rounds), workers):
                url = self.server.url(CONTENDERS[name].shape, row.size)
                job = Job(name, "one by one", url, row.size, seconds=self.plan.seconds)
                self.figures.add(row, name, workers[name].perform(job))

    def _crowd(self, row: Row, name: str, documents: int, delay: float) -> None:
        """Measure calls in flight in a new process, free of leftovers. The row's size is the number of tasks."""
        url = self.server.url(CONTENDERS[name].shape, documents, delay=delay)
        seconds = self.plan.crowd_seconds
        job = Job(name, "in flight", url, documents, seconds=seconds, warm_up=WARM_UP_SECONDS, in_flight=row.size)
        with worker() as running:
            before = self.server.cpu()
            sample = running.perform(job)
            share = (self.server.cpu() - before) / (WARM_UP_SECONDS + sample.wall)
        self.figures.add(row, name, sample)
        self.figures.server_share = max(self.figures.server_share, share)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
