"""Runs the soak, and fails if a promise is broken.

    python -m tests.soak [duration] [directory]

The duration is like 90s, 10m or 1h; a minute by default. What was measured goes to soak.json and, as a picture, to
soak.svg in the directory, by default build/. The picture needs matplotlib: the dependency group `plot`.
"""

import asyncio
import gc
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from jina_rerank import SyncRerankClient

from ..ways import descriptors
from .load import Callers
from .report import Report, draw
from .samples import Sample, Sampler, measure

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_LONGEST_WARM_UP: Final = 30.0
_LONGEST_REST: Final = 20.0
"""Seconds within which idle connections must close; by design they are kept for 4 s."""


async def soak(url: str, seconds: float, complaints: list[str]) -> Report:
    """Warms up with clients that are closed then, and loads new ones for so long."""
    at_first = descriptors()
    warm_up = Callers(url)
    await warm_up.run(min(_LONGEST_WARM_UP, seconds / 4))
    await warm_up.close()
    before, met_before = await rested(at_first), met_by(url)
    callers = Callers(url)
    with Sampler(lambda: callers.account.started) as sampler:
        await callers.run(seconds)
    unused = await rested(before.descriptors)
    totals = [callers.client.totals, callers.sync_client.totals]
    await callers.close()
    after, met = await rested(before.descriptors), met_by(url)
    return Report(
        seconds=seconds,
        account=callers.account,
        asked=sum(each.requests for each in totals),
        sent=sum(each.attempts for each in totals),
        met={name: count - met_before.get(name, 0) for name, count in met.items()},
        before=before,
        unused=unused,
        after=after,
        samples=sampler.samples,
        complaints=complaints,
    )


async def rested(at_most: int) -> Sample:
    """What this process holds once no more than so many descriptors are open, or will not close."""
    end = time.monotonic() + _LONGEST_REST
    while descriptors() > at_most and time.monotonic() < end:  # noqa: ASYNC110  # no event signals that sockets close
        await asyncio.sleep(0.05)
    gc.collect()
    return measure()


def met_by(url: str) -> dict[str, int]:
    """What the server has met so far: requests by group, and faults by kind."""
    with urlopen(f"{url}/_soak") as counted, urlopen(f"{url}/_emulator/requests") as logged:
        own, log = json.load(counted), json.load(logged)
    refused = log["by_code"].get("RATE_CONCURRENCY_LIMIT_EXCEEDED", 0)
    return {**own, **{f"fault {kind}": count for kind, count in log["by_fault"].items()}, "refused": refused}


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collects what would otherwise be lost: unraisable errors, and warnings in the log."""
    complaints: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(self.format(record))

    ear, hook = Ear(logging.WARNING), sys.unraisablehook
    logging.getLogger().addHandler(ear)
    sys.unraisablehook = lambda unraisable: complaints.append(f"{unraisable.err_msg}: {unraisable.exc_value!r}")
    yield complaints
    sys.unraisablehook = hook
    logging.getLogger().removeHandler(ear)


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a server in a separate process, which ends with this one."""
    command = [sys.executable, "-m", "tests.soak.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")


def seconds_of(duration: str) -> float:
    """The seconds of a text like 90s, 10m or 1h."""
    matched = re.fullmatch(r"([0-9]+)([smh])", duration)
    if not matched:
        sys.exit(f"the duration must be like 90s, 10m or 1h, not {duration!r}")
    return float(matched[1]) * _UNITS[matched[2]]


def main(duration: str = "1m", directory: str = "build") -> int:
    """Soaks, writes, and says what came of it."""
    seconds, place = seconds_of(duration), Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    with server() as url, listening() as complaints:
        SyncRerankClient(base_url=url).rerank("q", [])  # starts the background loop without sending a request
        report = asyncio.run(soak(url, seconds, complaints))
    (place / "soak.json").write_text(report.to_json())
    draw(report, place / "soak.svg")
    print(report)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
