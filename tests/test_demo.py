"""`jina-rerank demo`: once as a whole, with the neural scorer, and its parts against other servers."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import httpx
import pytest

pytest.importorskip("typer")
pytest.importorskip("uvicorn")
pytest.importorskip("onnxruntime")
pytest.importorskip("ir_measures")

from starlette.types import ASGIApp, Receive, Scope, Send

from jina_rerank import SyncRerankClient
from jina_rerank.cli.demo.run import Target, target, work
from jina_rerank.emulator import create_app, serve

from .servers import RawServer, http, send, silence
from .test_cli import (
    LONGEST_SECONDS,
    call,
    command,
    environment,
    on_terminal,
    reads,
    refused,
    start,
    until,
    without_styles,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The environment names an emulator with the lexical scorer."""
    with serve() as server:
        monkeypatch.setenv("JINA_RERANK_BASE_URL", server.url)
        monkeypatch.setenv("JINA_API_KEY", "jina_secret")
        yield server.url


def test_demo_runs_to_the_end() -> None:
    with start("demo", HTTP_PROXY="http://127.0.0.1:9") as process:
        out, err = process.communicate(timeout=110)
    assert process.returncode == 0
    assert err == "jina-rerank: asking an emulator on this machine (minilm-192, not Jina's model)\n"
    before, after = measured(out, "nDCG@10")
    assert before == "0.666"
    assert float(after) >= 0.74
    before, after = measured(out, "MRR@10")
    assert float(after) > float(before)
    [(was, place)] = re.findall(r"^ +(\d+) +(\d+) +0\.\d{4}  \* \w", out, re.MULTILINE)
    assert int(place) < int(was)
    assert re.search(r"^40 calls, 4 at a time, \d{3},\d{3} tokens, \d+\.\d seconds\.$", out, re.MULTILINE)
    assert "Scored by the emulator (minilm-192), not by Jina's jina-reranker-v3.5." in out
    assert "SciFact, Allen Institute for AI, CC BY 4.0" in out
    assert "ODC-By 1.0" in out


def measured(screen: str, name: str) -> tuple[str, str]:
    [(before, after)] = re.findall(rf"^ *{name} +([01]\.\d{{3}}) +([01]\.\d{{3}}) *$", screen, re.MULTILINE)
    return before, after


def test_server_of_the_environment(asked: str) -> None:
    result = call("demo", "--claims", "3", "--json")
    assert result.exit_code == 0
    assert result.stderr == f"jina-rerank: asking {asked}/v1/rerank\n"
    totals = json.loads(result.stdout)
    assert (totals["claims"], totals["calls"], totals["attempts"]) == (3, 3, 3)
    assert (totals["model"], totals["scorer"]) == ("jina-reranker-v3.5", "lexical")
    assert 0 < totals["before"]["ndcg_at_10"] <= 1
    assert 0 < totals["after"]["mrr_at_10"] <= 1
    assert totals["tokens"] > 1_000
    assert 0 < totals["seconds"] < LONGEST_SECONDS


def test_model_unknown_to_emulator_is_explained(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [{"index": index, "relevance_score": -index} for index in range(20)]
    raw_server.plays = [send(http(json.dumps({"model": "other", "results": results}).encode()))]
    monkeypatch.setenv("JINA_RERANK_BASE_URL", raw_server.url)
    result = call("demo", "--claims", "2")
    assert result.exit_code == 0
    assert f"Ranked by other at {raw_server.url}/v1/rerank." in result.stdout
    assert "No claim gained; here is one, out of 2" in result.stdout
    assert "0 of 2 claims gained, 0 lost." in result.stdout
    before, after = measured(result.stdout, "nDCG@10")
    assert before == after


@pytest.mark.parametrize(("url", "at_once"), [("https://api.jina.ai/v1", 2), ("http://localhost:1", 4), ("", 2)])
def test_free_key_allows_two_calls_at_a_time(url: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_RERANK_BASE_URL", url)
    monkeypatch.setenv("JINA_API_KEY", "jina_secret")
    with target() as asked:
        assert asked.at_once == at_once
        assert asked.url == (f"{url}/v1/rerank" if "localhost" in url else "https://api.jina.ai/v1/rerank")


def test_hosted_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_RERANK_BASE_URL", "https://api.jina.ai/v1")
    refused(call("demo"), 2, "JINA_API_KEY")


def test_calls_that_fail_side_by_side(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_server.plays = [send(http(b'{"detail": "no such model"}', 400))]
    monkeypatch.setenv("JINA_RERANK_BASE_URL", raw_server.url)
    monkeypatch.setenv("JINA_API_KEY", "jina_secret")
    result = call("demo", "--claims", "8")
    assert (result.exit_code, result.stdout) == (1, "")
    asking, failed = result.stderr.splitlines()
    assert asking.startswith("jina-rerank: asking ")
    assert failed.startswith("jina-rerank: HTTP 400: no such model")
    assert "jina_secret" not in result.stderr


@pytest.mark.usefixtures("asked")
def test_closed_pipe_ends_quietly() -> None:
    with start("demo", "--claims", "2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(LONGEST_SECONDS) == 0
        assert process.stderr.read().count("\n") == 1  # whom it asks


def test_ctrl_c(raw_server: RawServer) -> None:
    raw_server.plays = [silence]
    with start("demo", JINA_RERANK_BASE_URL=raw_server.url) as process:
        until(lambda: raw_server.requests)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONGEST_SECONDS)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[1:] == ["jina-rerank: interrupted"]


def test_ctrl_c_while_the_neural_scorer_works() -> None:
    # On a terminal, the progress bar shows that it does.
    pty = pytest.importorskip("pty", reason="only POSIX has pseudo-terminals")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command("demo"), stdout=subprocess.DEVNULL, stderr=theirs, env=environment())
    os.close(theirs)
    with process:
        shown, interrupted = b"", False
        for data in reads(ours):
            shown += data
            if not interrupted and re.search(rb"\b[1-9]\d?/40", shown):
                process.send_signal(signal.SIGINT)
                interrupted = True
        os.close(ours)
        assert process.wait(LONGEST_SECONDS) == 130
    assert without_styles(shown.decode()).endswith("jina-rerank: interrupted\r\n")


@pytest.mark.usefixtures("asked")
class TestOnATerminal:
    def test_no_line_is_broken(self) -> None:
        shown, code = on_terminal(command("demo", "--claims", "3"), 80)
        lines = without_styles(shown).splitlines()
        assert code == 0
        assert max(map(len, lines)) <= 80
        header = next(line for line in lines if line.split()[:3] == ["before", "after", "score"])
        rows = lines[lines.index(header) + 1 :][:5]
        assert [row.split()[1] for row in rows] == ["1", "2", "3", "4", "5"]

    def test_progress(self) -> None:
        shown, code = on_terminal(["sh", "-c", 'exec "$@" 2>&1 >/dev/null', "sh", *command("demo", "--claims", "3")])
        assert code == 0
        assert re.search(r"reranking .* 3/3 ", without_styles(shown))
        assert "nDCG@10" not in shown

    def test_colours(self) -> None:
        shown, _ = on_terminal(command("demo", "--claims", "1"))
        assert re.search(COLOUR, shown)

    def test_no_color(self) -> None:
        shown, _ = on_terminal(command("demo", "--claims", "1"), NO_COLOR="1")
        assert "nDCG@10" in shown
        assert re.search(COLOUR, shown) is None


COLOUR = r"\x1b\[(?:\d+;)*[349]\d[;m]"


class Counting:
    """How many requests an app has had at the same time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._now = 0
        self.most = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        await self._app(scope, receive, send)
        self._now -= 1


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_calls_at_a_time_than_the_server_takes(at_once: int) -> None:
    app = Counting(create_app(latency=0.02))
    url = "http://emulator"
    client = SyncRerankClient(
        "jina_test",
        base_url=url,
        allow_insecure=True,
        http_client=lambda: httpx.AsyncClient(transport=httpx.ASGITransport(app)),
    )
    done = work(Target(client, url, url, at_once), 6)
    assert app.most == at_once
    assert [len(ranking.results) for ranking in done.evaluation.results[1].run.rankings] == [20] * 6
