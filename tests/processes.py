"""Programs in processes of their own, where every warning is an error."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from .servers import RawServer

LONGEST_SECONDS = 20
"""Far more than any of these programs takes; one that exceeds it hangs."""


def start(code: str, url: str, *flags: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", *flags, "-c", code, url]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def run(code: str, url: str) -> tuple[str, str, int]:
    with start(code, url) as process:
        try:
            out, err = process.communicate(timeout=LONGEST_SECONDS)
        finally:
            process.kill()
    return out.strip(), err.strip(), process.returncode


HEAD = "import sys; from jina_rerank import *; url = sys.argv[1]\n"


def wait_for_requests(server: RawServer, count: int) -> None:
    tick = threading.Event()
    for _ in range(LONGEST_SECONDS * 100):
        if len(server.requests) >= count:
            return
        tick.wait(0.01)
    pytest.fail(f"only {len(server.requests)} of {count} requests came")
