"""The page about a run, as Markdown, from figures and facts. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import fill

from .measure import SYNC_DOCUMENTS, THREADS
from .samples import (
    BASELINE,
    Figures,
    Row,
    cpu_per_call,
    growth,
    peak,
    throughput,
    wall_per_call,
)
from .targets import TARGETS

NOT_MEASURED = "-"

INTRODUCTION = """\
# Benchmarks

`make bench` compares this client with others and writes this page. All measurements run in turn in one session on a
small shared machine, so the ratios within a run are more meaningful than the absolute times.

![CPU per call relative to bare httpx; throughput and CPU per call by the number of calls in flight](benchmarks.svg)
"""

METHOD = """\
## Method

- **Work**: a query and English documents of 200 to 400 characters, as JSON over HTTP/1.1 without TLS on the loopback.
  A call counts once index and score of every result are parsed; a first call checks the ranking against the server's.
- **Server**: fixed responses in the format that each client expects, from a bare protocol on uvloop in a separate
  process. It answers immediately, or after 100 ms in the measurements of calls in flight.
- **CPU** is user and system time of the client's process, all threads. The garbage collector stays enabled.
- **Turns**: each contender has a separate process, so that no library's objects burden another's garbage collector.
  In each round all contenders take turns, after a few warm-up calls. Figures are medians of the rounds, ratios are
  medians of the ratios within each round.
- **Contenders** are used as in their documentation, on asyncio's standard event loop, with one reused client and
  default settings, with these exceptions: the timeouts of httpx, aiohttp and jina_rerank are 60 s; aiohttp, and httpx
  over aiohttp, may open any number of connections. *httpx* has its default limits: 100 connections, 20 of them kept
  alive. *httpx, tuned limits* may open any number and keeps 20 alive, which was the fastest of the limits tried; most
  of its calls then open a new connection, which is cheap here but not over TLS. cohere uses httpx, its default unless
  httpx-aiohttp is installed.
- **langchain-community** and **llama-index** block, so they are called from plain sync code: their CPU time includes no
  event loop. `jina_rerank.langchain` is `acompress_documents` of the class that replaces langchain-community's.
- **In flight**: as many tasks as calls, each with 10 documents, which call again as soon as they have a response. The
  measurement lasts {seconds:g} s, after 1 s in which connections open.
- **Import** is the time of a whole process. The floor imports httpx, anyio, tenacity and pydantic, and defines one
  model.
- **Memory**: 500 tasks, 10 documents, a server that answers immediately. Growth is that of the peak, after the first
  calls.
"""


def report(figures: Figures, facts: Sequence[str], *, seconds: float) -> str:
    """Return the whole page."""
    parts = [
        INTRODUCTION,
        _bullets(facts, figures),
        _targets(figures),
        _cpu(figures),
        _in_flight(figures),
        _sync(figures),
        _processes(figures),
        METHOD.format(seconds=seconds),
    ]
    return "\n".join(parts)


def _bullets(facts: Sequence[str], figures: Figures) -> str:
    share = f"The server used at most {figures.server_share:.0%} of a core while calls were in flight."
    return "".join(fill(f"- {fact}", 120, subsequent_indent="  ") + "\n" for fact in (*facts, share))


def _targets(figures: Figures) -> str:
    rows = []
    for target in TARGETS:
        ratio = target.ratio(figures)
        measured, met = NOT_MEASURED, "not measured"
        if ratio is not None:
            measured, met = f"{ratio:.2f}", "yes" if target.met(ratio) else "**no**"
        rows.append([target.what, measured, f"{target.bound} {target.limit:g}", met])
    return "## Targets\n\n" + _table(["ratio", "measured", "target", "met"], rows)


def _cpu(figures: Figures) -> str:
    rows = [Row("cpu", size) for size in figures.sizes("cpu")]
    head = ["one call after the other", *(f"{row.size:,} documents" for row in rows)]

    def cell(row: Row, name: str) -> str:
        ratio = figures.ratio(cpu_per_call, (row, name), (row, BASELINE))
        return f"{_milliseconds(figures.typical(row, name, cpu_per_call))} ({ratio:.2f})"

    return "## CPU per call, in ms (and in bare httpx's)\n\n" + _table(head, _cells(figures, rows, cell))


def _in_flight(figures: Figures) -> str:
    rows = [Row("in flight", size) for size in figures.sizes("in flight")]
    head = ["in flight", *(f"{row.size:,}" for row in rows)]

    def calls(row: Row, name: str) -> str:
        return f"{figures.typical(row, name, throughput):,.0f}"

    def cpu(row: Row, name: str) -> str:
        return _milliseconds(figures.typical(row, name, cpu_per_call))

    return (
        "## Many calls in flight, to a server that answers after 100 ms\n\n"
        "Calls per second:\n\n" + _table(head, _cells(figures, rows, calls)) + "\n"
        "CPU per call, in ms:\n\n" + _table(head, _cells(figures, rows, cpu)) + "\n"
        "Bare httpx with more than 200 in flight is omitted: its pool's work per call grows with the number of waiting "
        "calls,\nuntil it nearly stalls.\n"
    )


def _sync(figures: Figures) -> str:
    rows = [Row("sync", SYNC_DOCUMENTS), Row("threads", THREADS)]
    body = []
    for name in figures.contenders(rows):
        cells = [name]
        for row in rows:
            per_second = figures.typical(row, name, throughput)
            wall = figures.typical(row, name, wall_per_call)
            cpu = figures.typical(row, name, cpu_per_call)
            cells += [_milliseconds(wall) if row.kind == "sync" else f"{per_second:,.0f}", _milliseconds(cpu)]
        body.append(cells)
    head = ["100 documents", "ms per call", "of CPU", "calls per second from 32 threads", "ms of CPU per call"]
    return "## Sync calls\n\n" + _table(head, body)


def _processes(figures: Figures) -> str:
    row = Row("import")
    imports = [[name, _milliseconds(figures.typical(row, name, wall_per_call))] for name in figures.contenders([row])]
    text = "## Import\n\n" + _table(["a process that imports", "ms"], imports)
    for calls in figures.sizes("memory"):
        row = Row("memory", calls)
        memory = [
            [name, f"{figures.typical(row, name, peak):.0f}", f"{figures.typical(row, name, growth):.1f}"]
            for name in figures.contenders([row])
        ]
        head = [f"{calls:,} calls through 500 tasks", "peak, MiB", "growth, MiB"]
        text += "\n## Memory\n\n" + _table(head, memory)
    return text


def _cells(figures: Figures, rows: Sequence[Row], cell: Callable[[Row, str], str]) -> Iterable[list[str]]:
    for name in figures.contenders(rows):
        yield [name, *(cell(row, name) if figures.has(row, name) else NOT_MEASURED for row in rows)]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f}" if seconds < 0.1 else f"{seconds * 1000:.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
