"""A soak of a few seconds, so that `make soak` does not rot; and that it finds what it is there to find."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .soak.load import TASKS, THREADS, Account
from .soak.report import Report
from .soak.samples import Sample

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")
def test_threads_and_tasks_soak_for_a_few_seconds(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.soak", "4s", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=ROOT)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    report = json.loads((tmp_path / "soak.json").read_text())
    assert report["broken"] == []
    account, met = report["account"], report["met"]
    assert min(account["succeeded"], account["cancelled"], account["failed"]["DeadlineExceededError"]) > 0
    assert sum(count for kind, count in met.items() if kind.startswith("fault ")) > 0.1 * report["sent"]
    assert (tmp_path / "soak.svg").read_text().startswith("<?xml")


REST = Sample(seconds=0.0, calls=0, memory=60 * 2**20, descriptors=14, threads=2, tasks=1, objects=50_000)
ACCOUNT = Account(
    started=100,
    succeeded=90,
    cancelled=4,
    failed=Counter(DeadlineExceededError=4, ServerError=2),
    attempts=Counter(steady=110, hasty=3),
    interrupted=Counter(hasty=8),
)
SOUND = Report(
    seconds=8.0,
    account=ACCOUNT,
    asked=100,
    sent=118,
    met={"steady": 110, "hasty": 7},
    before=REST,
    unused=REST,
    after=REST,
    samples=[replace(REST, seconds=float(second), descriptors=80) for second in range(8)],
    complaints=[],
)
LEAK = [replace(sample, memory=sample.memory + 2**21 * int(sample.seconds)) for sample in SOUND.samples]


def booked(**changes: Any) -> dict[str, Account]:
    return {"account": replace(ACCOUNT, **changes)}


def test_report_without_faults_is_empty() -> None:
    assert SOUND.broken == []


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        (booked(succeeded=89), "every call has one end"),
        ({"asked": 99}, "the clients have counted every call"),
        (booked(wrong=1), "no answer is that of another question"),
        (booked(interrupted=Counter(steady=1, hasty=8)), "calls of the steady group run to their end"),
        ({"met": {"steady": 109, "hasty": 7}}, "the server has seen each attempt of the steady group"),
        ({"met": {"steady": 110, "hasty": 9}}, "of an interrupted call at most the last attempt was not seen"),
        ({"sent": 126}, "of an interrupted call at most the last attempt was not seen"),
        ({"complaints": ["Task exception was never retrieved"]}, "nothing was complained of"),
        ({"unused": replace(REST, descriptors=15)}, "a client that rests holds no connection"),
        ({"samples": [replace(REST, descriptors=THREADS + TASKS + 50)]}, "no call in flight has two connections"),
        ({"after": replace(REST, descriptors=15)}, "descriptors are where they were"),
        ({"after": replace(REST, threads=3)}, "threads are where they were"),
        ({"after": replace(REST, tasks=2)}, "tasks are where they were"),
        ({"after": replace(REST, objects=52_000)}, "no call leaves an object behind"),
        ({"unused": replace(REST, objects=54_000)}, "a client that rests holds no call"),
        ({"samples": LEAK}, "memory does not grow"),
    ],
)
def test_report_finds_broken_guarantee(changes: dict[str, Any], broken: str) -> None:
    report = replace(SOUND, **changes)
    assert report.broken == [broken]
    assert f"BROKEN: {broken}" in str(report)
