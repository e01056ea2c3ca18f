"""gunicorn with --preload, for real: its workers are forked from a process with warm clients and a background loop."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from jina_rerank.emulator import serve

pytest.importorskip("fcntl", reason="gunicorn needs Unix")

WORKERS = 3
ROUNDS = 100
"""Of 8 questions at once, until all workers have answered: far more than that takes."""


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_workers_forked_from_a_warm_app_each_get_their_own_answers(kind: str) -> None:
    with serve() as emulator, socket.create_server(("127.0.0.1", 0)) as listener:
        api = {"JINA_RERANK_BASE_URL": emulator.url, "JINA_API_KEY": "jina_0123456789abcdef0123456789abcdef"}
        environment = {**os.environ, **api, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-m", "gunicorn", "--preload"]
        command += ["--workers", str(WORKERS), "--worker-class", kind, "--threads", "1" if kind == "sync" else "4"]
        command += ["--bind", f"fd://{listener.fileno()}", "--log-level", "warning", "tests.wsgi_app:app"]
        with subprocess.Popen(
            command, env=environment, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                answers = ask(f"http://127.0.0.1:{listener.getsockname()[1]}")
                process.send_signal(signal.SIGTERM)
                _, err = process.communicate(timeout=30)
            finally:
                process.kill()
    assert [answer["best"] for answer in answers] == [[f"number {i % 50}"] * 2 for i in range(len(answers))]
    assert (len({answer["worker"] for answer in answers}), err, process.returncode) == (WORKERS, "", 0)


def ask(url: str) -> list[dict[str, Any]]:
    """What the app answers to question after question, until each worker has answered one, and then some."""
    answers: list[dict[str, Any]] = []
    # A connection for each question, over plain http; to load certificates for it would take longer than the answer.
    get = partial(httpx.get, url, timeout=30, verify=False)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(ROUNDS):
            numbers = range(len(answers), len(answers) + 8)
            answers += threads.map(
                lambda i: get(params={"q": f"number {i % 50}"}).raise_for_status().json(),
                numbers,
            )
            if len(answers) >= 80 and len({answer["worker"] for answer in answers}) == WORKERS:
                break
    return answers
