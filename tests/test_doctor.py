"""`jina-rerank models` and `jina-rerank doctor`: against the emulator, scripted servers, and no server at all."""

import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme

pytest.importorskip("typer")
pytest.importorskip("uvicorn")

from jina_rerank import RateLimit
from jina_rerank.emulator import serve

from .servers import RawServer, http, send, send_and_close
from .test_cli import LONGEST_SECONDS, Ended, call, command, environment, on_terminal, refused, without_styles

KEY = "jina_" + "k" * 60


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", KEY)


def asking(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_RERANK_BASE_URL", url)


def checks(result: Ended) -> dict[str, tuple[str, str]]:
    """Result and finding of each check by name, when nothing else was said and the key was not shown."""
    assert result.stderr == ""
    assert "kkkk" not in result.stdout
    header, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert header == ["result", "check", "finding"]
    failed = any(row[0] == "failure" for row in rows)
    assert result.exit_code == int(failed)
    return {name: (found, text) for found, name, text in rows}


# doctor


def test_healthy_setup_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(limits=RateLimit.FREE) as server:
        asking(server.url, monkeypatch)
        found = checks(call("doctor"))
    assert {result for result, _ in found.values()} == {"ok"}
    assert list(found) == ["version", "server", "key", "proxy", "connection", "TLS", "clock", "access", "limits"]
    assert found["server"][1] == f"{server.url}/v1/rerank (of JINA_RERANK_BASE_URL)"
    assert found["key"][1] == "65 characters, from JINA_API_KEY"
    assert found["proxy"][1] == "none"
    assert found["connection"][1].startswith(f"{server.url}/v1/models answered 200 in 0.")
    assert found["TLS"][1] == "none: plain http"
    assert found["clock"][1] == "it agrees with the server's"
    assert found["access"][1] == "the server accepts the key"
    assert found["limits"][1] == "100 requests and 100000 tokens left in this minute"


def test_key_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "sk-kkkk")
    with serve() as server:
        asking(server.url, monkeypatch)
        result, finding = checks(call("doctor"))["access"]
    assert result == "failure"
    assert finding.startswith("HTTP 401: Invalid API key.")


def test_container_skips_key_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JINA_API_KEY")
    with serve(serving="jina-reranker-v3") as server:
        asking(server.url, monkeypatch)
        found = checks(call("doctor"))
    assert found["key"] == ("ok", "none is set, and this server may not need one; JINA_API_KEY sets it")
    assert found["access"] == ("ok", "this server has no route to test a key with; only a ranking tests it")


@pytest.mark.parametrize(
    ("variables", "check", "result", "part"),
    [
        ({"JINA_API_KEY": ""}, "key", "failure", "get one at https://jina.ai/reranker and set JINA_API_KEY"),
        (
            {"JINA_API_KEY": ""},
            "key",
            "failure",
            "`jina-rerank serve` ranks on this machine, and in Python RerankClient",
        ),
        ({"JINA_API_KEY": "jina_kkkk"}, "key", "warning", "65 characters, this one has 9: was it copied completely?"),
        ({"JINA_API_KEY": "jina kkkk"}, "settings", "failure", "white space"),
        ({"JINA_API_KEY": KEY}, "key", "ok", "it has the form of Jina's keys, 65 characters"),
        ({"JINA_RERANK_BASE_URL": "localhost:8000"}, "settings", "failure", "JINA_RERANK_BASE_URL: expected http://"),
        ({"JINA_RERANK_BASE_URL": "localhost:8000"}, "settings", "failure", "; it is 'localhost:8000': write http://l"),
        ({"HTTPS_PROXY": "ftp://u:kkkk@host"}, "settings", "failure", "proxy: expected a URL such as"),
        ({"HTTPS_PROXY": "http://u:kkkk@127.0.0.1:9"}, "proxy", "ok", "http://127.0.0.1:9, from the environment"),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, "connection", "failure", "Connection refused: check the network"),
    ],
)
def test_settings(
    variables: dict[str, str], check: str, result: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing leaves this machine: no server listens at this port.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = checks(call("doctor"))
    assert found[check][0] == result
    assert part in found[check][1]


def answered(
    server: RawServer, monkeypatch: pytest.MonkeyPatch, models: bytes, batches: bytes = b""
) -> dict[str, tuple[str, str]]:
    server.plays = [send_and_close(models), send(batches)]
    asking(server.url, monkeypatch)
    return checks(call("doctor"))


@pytest.mark.parametrize(
    ("batches", "result", "part"),
    [
        (
            http(b'{"detail": "Nothing left", "code": "AUTHZ_INSUFFICIENT_BALANCE"}', 403),
            "failure",
            "Nothing left. Top up",
        ),
        (http(b'{"detail": "Slow down"}', 429), "warning", "HTTP 429: Slow down. Let calls wait longer"),
        (http(b"{}", 500), "failure", "HTTP 500"),
        (http(b'{"detail": "' + KEY.encode() + b' is bad"}', 401), "failure", "[key] is bad"),
    ],
)
def test_probe_that_is_refused(
    batches: bytes, result: str, part: str, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answered(raw_server, monkeypatch, http(b'{"data": []}'), batches)
    assert found["access"][0] == result
    assert part in found["access"][1]
    assert "limits" not in found
    assert [headers["authorization"] for headers, _ in raw_server.requests] == [f"Bearer {KEY}"] * 2


def test_exhausted_rate_limit_is_reported(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = http(b"[]", x_ratelimit_remaining_requests="0", x_ratelimit_remaining_tokens="7")
    found = answered(raw_server, monkeypatch, http(), batches)
    assert found["limits"] == ("warning", "0 requests and 7 tokens left: wait a minute")


@pytest.mark.parametrize(
    ("models", "result", "part"),
    [
        (http(b"no", 502), "failure", "answered 502"),
        (http(b"", 301, location="https://elsewhere"), "failure", "a redirect: set JINA_RERANK_BASE_URL to its target"),
        (http(b"", 404), "ok", "answered 404"),
        (http(b"?", content_encoding="br"), "failure", "compressed as 'br'"),
        (http(b"\x1f\x8b", content_encoding="gzip"), "failure", "the compressed answer ends early"),
    ],
)
def test_unexpected_server_is_reported(
    models: bytes, result: str, part: str, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answered(raw_server, monkeypatch, models, http(b"[]"))
    assert found["connection"][0] == result
    assert part in found["connection"][1]


@pytest.mark.parametrize(("wrong", "part"), [(3600, "behind"), (-3600, "ahead of")])
def test_clock_that_is_wrong(wrong: float, part: str, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    date = formatdate(time.time() + wrong, usegmt=True)
    result, finding = answered(raw_server, monkeypatch, http(date=date), http(b"[]"))["clock"]
    assert result == "warning"
    assert f" s {part} the server's: set it" in finding
    assert 3500 < int(finding.split()[2]) < 3700


@pytest.mark.parametrize("models", [http(), http(date="yesterday")])
def test_server_without_a_clock(models: bytes, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = answered(raw_server, monkeypatch, models, http(b"[]"))
    assert found["clock"] == ("ok", "the server does not report its time")


class Quiet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not on stderr."""


@contextmanager
def secured(certificate: trustme.LeafCert) -> Iterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that disconnect need no traceback
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("days", "result"), [(30, "ok"), (3, "warning")])
def test_certificates(days: int, result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    with secured(authority.issue_cert("localhost", not_after=ends)) as url:
        asking(url, monkeypatch)
        name, finding = checks(call("doctor"))["connection"]
        assert (name, "certificate is not valid" in finding) == ("failure", True)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        found = checks(call("doctor"))["TLS"]
    assert found[0] == result
    assert f", a valid certificate for {days} more days" in found[1]


def test_doctor_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        asking(server.url, monkeypatch)
        shown, code = on_terminal(command("doctor"), 60)
        plain, _ = on_terminal(command("doctor"), 60, NO_COLOR="1")
    assert code == 0
    assert "\x1b[32mok" in shown
    assert "\x1b[3" not in plain
    assert max(map(len, without_styles(shown).splitlines())) <= 60


# models


def test_catalogue() -> None:
    result = call("models")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {name: rest for name, *rest in (line.split("\t") for line in result.stdout.splitlines())}
    assert rows["model"] == ["scoring", "tokens", "images", "price", "state"]
    assert rows["jina-reranker-v3.5"] == ["listwise", "131072", "no", "0.05", "default"]
    assert rows["jina-reranker-m0"] == ["pointwise", "10240", "yes", "0.05", ""]
    assert rows["jina-reranker-v1-base-en"][-1] == "deprecated"


def test_catalogue_on_a_terminal() -> None:
    shown, code = on_terminal(command("models"), 80)
    header, *rows = without_styles(shown).splitlines()
    assert code == 0
    assert header.split()[0] == "model"
    assert all(row.split()[0].startswith("jina-") for row in rows)  # no name is broken
    assert sum("deprecated" in row for row in rows) == 3


def test_model_list_of_server_is_shown(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_server.plays = [send(http(b'{"data": [{"id": "own"}, {"id": "jina-ai/jina-reranker-m0"}]}'))]
    asking(f"{raw_server.url}/rerank", monkeypatch)
    result = call("models", "--live", "--json")
    assert result.stderr == f"jina-rerank: asked {raw_server.url}/models\n"
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["name"], first["images"], second) == ("jina-reranker-m0", True, {"name": "own"})
    assert call("models", "--live").stdout.splitlines()[-1].split("\t")[0::5] == ["own", "unknown"]


def test_model_list_of_emulator_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        asking(server.url, monkeypatch)
        assert call("models", "--live").stdout == call("models").stdout


@pytest.mark.parametrize("body", [b"no", b"[]", b'{"data": {}}', b'{"data": [{}]}', b'{"data": [7]}', b"[" * 100_000])
def test_malformed_model_list_is_reported(body: bytes, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_server.plays = [send(http(body))]
    asking(raw_server.url, monkeypatch)
    result = call("models", "--live")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the server's list of models is invalid" in result.stderr


def test_server_that_lists_nothing(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_server.plays = [send(http(b'{"detail": "Not Found"}', 404))]
    asking(raw_server.url, monkeypatch)
    stderr = call("models", "--live").stderr
    assert "HTTP 404: Not Found" in stderr
    assert stderr.endswith("; not every server lists its models\n")


def test_unreachable_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asking("http://127.0.0.1:9", monkeypatch)
    refused(call("models", "--live"), 1, "no connection", "jina-rerank doctor")


def test_server_and_key_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        withheld = checks(call("doctor", "--base-url", server.url))
        monkeypatch.setenv("OTHER_KEY", "jina_kkkk")
        found = checks(call("doctor", "--base-url", server.url, "--api-key-variable", "OTHER_KEY"))
    assert withheld["server"][1] == f"{server.url}/v1/rerank (of --base-url)"
    assert withheld["key"][1].startswith(
        "none is sent to the server of --base-url, which may not need one; --api-key-variable"
    )
    result, finding = withheld["access"]
    assert result == "failure"
    assert "no key was sent: JINA_API_KEY goes only to the hosted API" in finding
    assert (found["key"][1], found["access"][1]) == ("9 characters, from OTHER_KEY", "the server accepts the key")
    result, finding = checks(call("doctor", "--base-url", "localhost:8000"))["settings"]
    assert (result, finding.startswith("--base-url: expected http://")) == ("failure", True)


def test_closed_stdout_hides_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina kkkk")
    ours, theirs = os.pipe()
    os.close(ours)
    with subprocess.Popen(command("doctor"), stdout=theirs, env=environment()) as process:
        os.close(theirs)
        assert process.wait(LONGEST_SECONDS) == 1
