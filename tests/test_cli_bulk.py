"""`jina-rerank bulk` end to end: file formats, kills, Ctrl-C, and the files that remain."""

import csv
import gzip
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("typer")
pytest.importorskip("uvicorn")

from jina_rerank.emulator import serve

from .servers import RawServer, answer_body, http, send, silence
from .test_cli import LONGEST_SECONDS, call, command, environment, reads, refused, until

ROWS = 150
LINES = [
    json.dumps({"id": f"q{i}", "query": f"tyre {i}", "documents": [f"onion soup {i}", f"change tyre {i}", "a tyre"]})
    for i in range(ROWS)
]


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with serve() as server:
        yield server.url


@pytest.fixture
def asked(emulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment names the emulator, with a key that it takes."""
    ask(emulator, monkeypatch)
    return emulator


def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_RERANK_BASE_URL", url)
    monkeypatch.setenv("JINA_API_KEY", "jina_test")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file of rows."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", LINES)
    return tmp_path


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("asked")
class TestFormats:
    def test_line_for_each_row_in_their_order(self, folder: Path) -> None:
        result = call("bulk", "in.jsonl", "out.jsonl", "--top-n", "2")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.splitlines()[0] == "jina-rerank: scored by the emulator (lexical), not by Jina's model"
        assert re.fullmatch(
            r"jina-rerank: rows: 150, failed: 0; [1-9],\d{3} tokens, \$0.000\d", result.stderr.splitlines()[1]
        )
        rows = read(folder / "out.jsonl")
        assert [(row["row"], row["id"], row["indices"]) for row in rows] == [(i, f"q{i}", [1, 2]) for i in range(ROWS)]
        assert all(row["scores"] == sorted(row["scores"], reverse=True) and row["tokens"] > 0 for row in rows)
        assert files(folder) == {"in.jsonl", "out.jsonl"}

    def test_csv(self, folder: Path) -> None:
        with (folder / "in.csv").open("w", newline="", encoding="utf-8-sig") as file:
            rows = map(json.loads, LINES[:20])
            csv.writer(file).writerows(
                [("documents", "id", "note", "query")]
                + [(json.dumps(row["documents"]), f'{row["id"]}\n"x"', "-", row["query"]) for row in rows]
            )
        assert call("bulk", "in.csv", "out.csv").exit_code == 0
        with (folder / "out.csv").open(newline="") as file:
            written = list(csv.DictReader(file))
        assert [row["id"] for row in written] == [f'q{i}\n"x"' for i in range(20)]
        assert {row["indices"] for row in written} == {"[1, 2, 0]"}
        assert len(json.loads(written[0]["scores"])) == 3
        assert files(folder) == {"in.jsonl", "in.csv", "out.csv"}

    @pytest.mark.parametrize("ids", [[7, 8], ["7", "b"], [7, "b"]], ids=["numbers", "texts", "mixed"])
    def test_parquet(self, folder: Path, ids: list[Any]) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        write(folder / "two.jsonl", [json.dumps({**json.loads(LINES[i]), "id": ids[i]}) for i in range(2)])
        assert call("bulk", "two.jsonl", "out.parquet").exit_code == 0
        rows = parquet.read_table("out.parquet").to_pylist()
        assert [row["id"] for row in rows] == (ids if len({*map(type, ids)}) == 1 else [str(id_) for id_ in ids])
        assert [row["indices"] for row in rows] == [[1, 2, 0]] * 2

    def test_parquet_to_jsonl(self, folder: Path) -> None:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist([json.loads(line) for line in LINES]), "in.parquet")
        assert call("bulk", "in.parquet", "out.jsonl").exit_code == 0
        assert call("bulk", "in.jsonl", "same.jsonl").exit_code == 0
        assert read(folder / "out.jsonl") == read(folder / "same.jsonl")

    def test_ids_of_parquet_that_no_other_format_can_hold(self, folder: Path) -> None:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        ids = pyarrow.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2)
        texts = {"query": ["tyre"] * 2, "documents": [["tyre"]] * 2}
        parquet.write_table(pyarrow.table({"id": ids, **texts}), "in.parquet")
        assert call("bulk", "in.parquet", "out.parquet").exit_code == 1
        for row in read(folder / "out.parquet.failed.jsonl"):
            assert row["error"]["message"].startswith("id: expected a text or an integer")

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_rerun_recognizes_complete_output(self, folder: Path, ending: str) -> None:
        pytest.importorskip("pyarrow")
        out = folder / f"out.{ending}"
        assert call("bulk", "in.jsonl", out.name).exit_code == 0
        before = out.read_bytes()
        result = call("bulk", "in.jsonl", out.name)
        assert result.exit_code == 0
        assert result.stderr == (
            "jina-rerank: already ranked: 150\njina-rerank: rows: 150, failed: 0; 0 tokens, $0.0000\n"
        )
        assert out.read_bytes() == before
        refused(call("bulk", "in.jsonl", out.name, "-n", "1"), 2, "does not match, at row 0", "--top-n")
        assert (out.read_bytes(), files(folder)) == (before, {"in.jsonl", out.name})


@pytest.mark.usefixtures("asked")
class TestColumns:
    def test_columns_of_other_names_are_ranked(self, folder: Path) -> None:
        rows = [json.loads(line) for line in LINES[:3]]
        write(folder / "other.jsonl", [json.dumps({"q": row["query"], "texts": row["documents"]}) for row in rows])
        with (folder / "other.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [("texts", "q")] + [(json.dumps(row["documents"]), row["query"]) for row in rows]
            )
        options = ("--query-column", "q", "--documents-column", "texts")
        for name in ("other.jsonl", "other.csv"):
            result = call("bulk", name, f"{name}.out.jsonl", *options)
            assert result.exit_code == 0, result.stderr
            ranked = read(folder / f"{name}.out.jsonl")
            assert [(row["id"], row["indices"]) for row in ranked] == [(None, [1, 2, 0])] * 3
        refused(call("bulk", "other.csv", "out.csv", "--query-column", "q"), 2, "no column 'documents', but texts, q")
        write(folder / "lacks.jsonl", ['{"texts": ["a"]}'])
        assert call("bulk", "lacks.jsonl", "out.jsonl", *options).exit_code == 1
        assert read(folder / "out.jsonl.failed.jsonl")[0]["error"]["message"] == "q: it is missing"

    @pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "jsonl.gz"])
    def test_with_documents_output_has_them_best_first(self, folder: Path, ending: str) -> None:
        if ending == "parquet":
            pytest.importorskip("pyarrow")
        documents = ["zwiebel", {"text": "größe der Reifen \u202e"}, "reifen"]
        write(folder / "in.jsonl", [json.dumps({"query": "reifen", "documents": documents})])
        out = f"out.{ending}"
        assert call("bulk", "in.jsonl", out, "--with-documents", "-n", "2").exit_code == 0
        data = (folder / out).read_bytes()
        found = loaded(folder / out)[0]["documents"]
        expected = ["reifen", documents[1] if ending != "parquet" else '{"text": "größe der Reifen \\u202e"}']
        assert found == expected
        if ending in ("jsonl", "csv"):
            assert "größe der Reifen \\u202e".encode() in data
        assert call("bulk", "in.jsonl", out, "--with-documents", "-n", "2").stderr.startswith(
            "jina-rerank: already ranked: 1\n"
        )
        assert (folder / out).read_bytes() == data
        refused(call("bulk", "in.jsonl", out, "-n", "2"), 2, "does not match, at row 0")
        assert call("bulk", "in.jsonl", f"plain.{ending}").exit_code == 0
        refused(call("bulk", "in.jsonl", f"plain.{ending}", "--with-documents"), 2, f"plain.{ending}")

    @pytest.mark.parametrize(
        "option", [("--max-doc-length", "2"), ("--scoring", "pointwise"), ("--max-documents", "9")]
    )
    def test_options_that_change_rankings_are_part_of_the_match(self, folder: Path, option: tuple[str, str]) -> None:
        assert call("bulk", "in.jsonl", "out.jsonl", *option).exit_code == 0
        assert call("bulk", "in.jsonl", "out.jsonl", *option).exit_code == 0
        refused(call("bulk", "in.jsonl", "out.jsonl"), 2, "does not match, at row 0")


def loaded(path: Path) -> list[dict[str, Any]]:
    """The rows of an output of any format."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
        return rows
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [{**row, "documents": json.loads(row["documents"])} for row in csv.DictReader(file)]
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.usefixtures("asked")
class TestSources:
    @pytest.mark.parametrize("ending", ["jsonl.gz", "csv.gz"])
    def test_compressed_files_are_read_and_written(self, folder: Path, ending: str) -> None:
        (folder / "in.jsonl.gz").write_bytes(gzip.compress((folder / "in.jsonl").read_bytes()))
        assert call("bulk", "in.jsonl", f"plain.{ending.removesuffix('.gz')}").exit_code == 0
        for _ in range(2):  # the second time it is known again
            assert call("bulk", "in.jsonl.gz", f"out.{ending}").exit_code == 0
            plain = (folder / f"plain.{ending}").with_suffix("").read_bytes()
            assert gzip.decompress((folder / f"out.{ending}").read_bytes()) == plain
        assert files(folder) == {"in.jsonl", "in.jsonl.gz", f"out.{ending}", f"plain.{ending.removesuffix('.gz')}"}

    @pytest.mark.parametrize(
        "data",
        [b"no gzip", gzip.compress(b"{}" * 9999)[:20], gzip.compress(b"{}")[:12] + b"xx"],
        ids=["no gzip", "cut short", "damaged"],  # the data holds the time
    )
    def test_compressed_files_that_are_broken_are_refused(self, folder: Path, data: bytes) -> None:
        (folder / "bad.jsonl.gz").write_bytes(data)
        refused(call("bulk", "bad.jsonl.gz", "out.jsonl"), 2, "bad.jsonl.gz cannot be read: ")
        assert files(folder) == {"in.jsonl", "bad.jsonl.gz"}

    @pytest.mark.parametrize("kind", ["jsonl", "csv", "gzip"])
    def test_stdin_is_read_and_resumed(self, folder: Path, kind: str) -> None:
        rows = [json.loads(line) for line in LINES[:3]]
        data = "\n".join(LINES[:3]).encode()
        if kind == "csv":
            table = io.StringIO()
            csv.writer(table).writerows(
                [("query", "documents")] + [(r["query"], json.dumps(r["documents"])) for r in rows]
            )
            data = table.getvalue().encode()
        if kind == "gzip":
            data = gzip.compress(data)
        assert call("bulk", "-", "out.jsonl", stdin=data).exit_code == 0
        assert [row["indices"] for row in read(folder / "out.jsonl")] == [[1, 2, 0]] * 3
        assert call("bulk", "-", "out.jsonl", stdin=data).stderr.startswith("jina-rerank: already ranked: 3\n")

    def test_stdin_that_is_the_output_is_refused(self, folder: Path) -> None:
        with (folder / "in.jsonl").open("rb") as file:
            done = subprocess.run(
                command("bulk", "-", "in.jsonl"), stdin=file, capture_output=True, env=environment(), text=True
            )
        assert (done.returncode, "IN and OUT are the same file" in done.stderr) == (2, True)


BROKEN = {
    "no JSON": ("{", "the line is not JSON"),
    "no object": ("[1]", "the line is not a JSON object"),
    "no query": ('{"documents": ["a"]}', "query: it is missing"),
    "blank query": ('{"query": " ", "documents": ["a"]}', "query"),
    "one document": ('{"query": "a", "documents": "a"}', "documents: expected a sequence of documents, got one str"),
    "a mapping": ('{"query": "a", "documents": [{}]}', "documents[0]: expected a text, or an object with one under"),
    "an id": ('{"id": [1], "query": "a", "documents": ["a"]}', "id: expected a text or an integer"),
    "NaN": ('{"id": NaN, "query": "a", "documents": ["a"]}', "id: expected a text or an integer"),
    "no UTF-8": (r'{"id": "\ud800", "query": "a", "documents": ["a"]}', "lone surrogates are not allowed"),
}


@pytest.mark.usefixtures("asked")
class TestFailures:
    def test_invalid_rows_do_not_stop_others(self, folder: Path) -> None:
        broken = [line for line, _ in BROKEN.values()]
        write(folder / "in.jsonl", [*broken[:3], *LINES[:2], *broken[3:]])
        result = call("bulk", "in.jsonl", "out.jsonl")
        assert result.exit_code == 1
        assert "rows: 11, failed: 9" in result.stderr
        assert "the failed rows are in out.jsonl.failed.jsonl; run the same command to retry them" in result.stderr
        assert [(row["row"], row["id"]) for row in read(folder / "out.jsonl")] == [(3, "q0"), (4, "q1")]
        failed = read(folder / "out.jsonl.failed.jsonl")
        assert [row["row"] for row in failed] == [0, 1, 2, 5, 6, 7, 8, 9, 10]
        assert {row["id"] for row in failed} == {None}
        for row, (_, message) in zip(failed, BROKEN.values(), strict=True):
            assert row["error"]["type"] == "InvalidRequestError"
            assert message in row["error"]["message"]

    def test_repaired_row_is_inserted_in_order(self, folder: Path) -> None:
        write(folder / "in.jsonl", ["{", *LINES[1:5]])
        assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 1
        write(folder / "in.jsonl", LINES[:6])
        result = call("bulk", "in.jsonl", "out.jsonl")
        assert result.exit_code == 0
        assert "already ranked: 4, failed and retried: 1\n" in result.stderr
        assert [row["id"] for row in read(folder / "out.jsonl")] == [f"q{i}" for i in range(6)]
        assert files(folder) == {"in.jsonl", "out.jsonl"}

    def test_error_common_to_all_rows_ends_run(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serve(balance=200) as server:
            ask(server.url, monkeypatch)
            result = call("bulk", "in.jsonl", "out.jsonl")
        assert result.exit_code == 1
        assert "AUTHZ_INSUFFICIENT_BALANCE" in result.stderr
        assert 0 < len(read(folder / "out.jsonl")) < ROWS
        assert not (folder / "out.jsonl.failed.jsonl").exists()

    def test_host_that_does_not_exist_ends_the_run(self, folder: Path) -> None:
        nowhere = f"http://{'a' * 64}.test"  # longer than a host name may be, so no resolver is queried
        refused(call("bulk", "in.jsonl", "out.jsonl", "--base-url", nowhere), 1, "the host was not found")
        assert files(folder) == {"in.jsonl"}

    def test_errors_of_the_api_are_kept_as_data(
        self, folder: Path, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask(raw_server.url, monkeypatch)
        raw_server.plays = [send(http(b'{"detail": "too long"}', 400))]
        write(folder / "in.jsonl", LINES[:1])
        assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 1
        (row,) = read(folder / "out.jsonl.failed.jsonl")
        assert row["error"] == {
            "type": "BadRequestError",
            "message": "too long",
            "status": 400,
            "attempts": 1,
            "url": f"{raw_server.url}/v1/rerank",
        }


@pytest.mark.usefixtures("asked")
class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (("none.jsonl", "out.jsonl"), ("none.jsonl cannot be read: No such file",)),
            (("in.jsonl", "in.jsonl"), ("same file",)),
            (("mine.csv.failed.jsonl", "mine.csv"), ("or IN is a side file of OUT",)),
            (("pipe.jsonl", "out.jsonl"), ("pipe.jsonl is not a regular file", "bulk reads IN more than once")),
            (("in.jsonl", "folder.jsonl"), ("folder.jsonl cannot be written: Is a directory",)),
            (("empty.csv", "out.jsonl"), ("has no column 'query', since it is empty; it needs query, documents",)),
            (("open.csv", "out.jsonl"), ("open.csv is not CSV in UTF-8, near line 2: unexpected end of data",)),
            (("in.txt", "out.jsonl"), ("in.txt: the format is unknown; name a file that ends in .jsonl",)),
            (("in.jsonl", "pipe.jsonl"), ("pipe.jsonl cannot be written: Is a pipe or a device",)),
            (("in.jsonl", "null.jsonl"), ("/dev/null cannot be written: Is a pipe or a device",)),
            (("in.jsonl", "piped.csv"), ("piped.csv.failed.jsonl cannot be written: Is a pipe or a device",)),
            (("in.jsonl", "circle.jsonl"), ("circle.jsonl cannot be written: ",)),
            (("in.jsonl", "linked.jsonl"), ("same file",)),
            (("in.jsonl", f"{'n' * 247}.jsonl"), ("cannot be written: File name too long",)),
            (("in.jsonl", "out.json"), ("out.json: the format is unknown; name a file that ends in .jsonl",)),
            (("in.jsonl", "no/out.jsonl"), ("no is not a directory",)),
            (("columns.csv", "out.jsonl"), ("has no column 'documents', but id, query, text",)),
            (("latin.csv", "out.jsonl"), ("latin.csv is not CSV in UTF-8",)),
            (("in.jsonl", "mine.jsonl"), ("mine.jsonl exists, and is not an output of this command",)),
            (("in.jsonl", "torn.jsonl"), ("torn.jsonl exists, and is not an output of this command",)),
            (("in.jsonl", "columns.csv"), ("columns.csv has no column 'row'",)),
            (("none.parquet", "out.jsonl"), ("none.parquet is not a Parquet file",)),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) and value[0].endswith("l") else None,
    )
    def test_refused_run_changes_no_file(
        self, folder: Path, arguments: tuple[str, str], parts: tuple[str, ...]
    ) -> None:
        if "none.parquet" in arguments:
            pytest.importorskip("pyarrow")
        (folder / "columns.csv").write_text("id,query,text\n1,a,b\n")
        (folder / "latin.csv").write_bytes(b"id,query,documents\n1,\xe9,[]\n")
        (folder / "mine.jsonl").write_text('{"id": 1}\n')
        (folder / "torn.jsonl").write_text("my notes")
        (folder / "none.parquet").write_text("nothing of the kind")
        (folder / "empty.csv").touch()
        (folder / "open.csv").write_text('id,query,documents\n1,"a,[]\n2,b,[]\n')
        (folder / "mine.csv.failed.jsonl").write_text("{}\n")
        (folder / "folder.jsonl").mkdir()
        if {"pipe.jsonl", "piped.csv", "null.jsonl", "circle.jsonl"} & {*arguments}:
            mkfifo = getattr(os, "mkfifo", None) or pytest.skip("only POSIX has named pipes")
            mkfifo(folder / "pipe.jsonl")
            mkfifo(folder / "piped.csv.failed.jsonl")
            (folder / "null.jsonl").symlink_to(os.devnull)
            (folder / "circle.jsonl").symlink_to("circle.jsonl")
        os.link(folder / "in.jsonl", folder / "linked.jsonl")
        before = contents(folder)
        refused(call("bulk", *arguments), 2, *parts)
        assert contents(folder) == before

    @pytest.mark.parametrize("change", ["text", "fewer", "model", "local"])
    def test_foreign_output_file_is_refused(self, folder: Path, change: str) -> None:
        assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
        before = (folder / "out.jsonl").read_bytes()
        if change == "text":
            write(folder / "in.jsonl", [LINES[0], LINES[1].replace("soup", "stew"), *LINES[2:]])
        if change == "fewer":
            write(folder / "in.jsonl", LINES[:100])
        options = {"model": ["-m", "jina-reranker-m0"], "local": ["--local"]}.get(change, [])
        result = call("bulk", "in.jsonl", "out.jsonl", *options)
        row = {"text": 1, "fewer": 100, "model": 0, "local": 0}[change]
        refused(result, 2, f"out.jsonl does not match, at row {row}", "name another output, or delete this one")
        assert (folder / "out.jsonl").read_bytes() == before

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of a file's size")
    def test_full_disk(self, folder: Path) -> None:
        limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
        run = "from jina_rerank.cli import main; sys.argv[1:] = ['bulk', 'in.jsonl', 'out.jsonl']; main()"
        # Coverage would have to write a separate file.
        variables = {name: value for name, value in environment().items() if not name.startswith("COVERAGE")}
        process = subprocess.run(
            [sys.executable, "-c", limited + run], env=variables, capture_output=True, text=True, timeout=60
        )
        assert (process.returncode, process.stdout) == (2, "")
        assert process.stderr == "jina-rerank: out.jsonl cannot be written: File too large\n"
        assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
        assert [row["row"] for row in read(folder / "out.jsonl")] == list(range(ROWS))

    def test_parquet_without_pyarrow(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
        refused(call("bulk", "in.jsonl", "out.parquet"), 2, 'pip install "jina-rerank[parquet]"')


@pytest.mark.usefixtures("asked")
def test_terminal_gets_a_bar(folder: Path) -> None:
    pty = pytest.importorskip("pty", reason="only POSIX has pseudo-terminals")
    write(folder / "in.jsonl", ["{", *LINES])
    ours, theirs = pty.openpty()
    variables = environment(TERM="xterm-256color", COLUMNS="100")
    with subprocess.Popen(
        command("bulk", "in.jsonl", "out.jsonl"), stdout=subprocess.PIPE, stderr=theirs, env=variables
    ) as process:
        os.close(theirs)
        shown = b"".join(reads(ours)).decode()
        os.close(ours)
        assert process.communicate(timeout=LONGEST_SECONDS)[0] == b""
    assert process.returncode == 1
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).rpartition("151/151")[2]
    assert re.match(r" [0-9,.]+/s [1-9],\d{3} tokens, \$0\.000\d, 1 failed 0:00:00 left", last)


# Kills


def asked_for(url: str) -> int:
    # Asked all the time, so not by httpx, which reads the machine's certificates each time.
    with urlopen(f"{url}/_emulator/requests") as response:
        return int(json.load(response)["requests"])


def started(*arguments: str) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(command("bulk", *arguments), stdout=pipe, stderr=pipe, env=environment())


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_run_killed_at_random_moments_resumes_to_same_output(
    folder: Path, asked: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    write(folder / "in.jsonl", LINES[:100])
    assert call("bulk", "in.jsonl", f"whole.{ending}").exit_code == 0
    moments = random.Random(ending)
    codes: list[int] = []
    kills = {"jsonl": 4, "parquet": 2}[ending]
    # One row in ten fails at first, so that the tries of later runs are killed too.
    with serve(latency=0.02, faults=["422:0.1"]) as server:
        ask(server.url, monkeypatch)
        while 0 not in codes:
            assert len(codes) < 40
            target = asked_for(server.url) + moments.randrange(50)
            with started("in.jsonl", f"out.{ending}", "--max-concurrency", "4") as process:
                if codes.count(-signal.SIGKILL) < kills:
                    until(lambda: process.poll() is not None or asked_for(server.url) >= target)  # noqa: B023  # at once
                    process.kill()
                process.communicate(timeout=LONGEST_SECONDS)
            codes.append(process.returncode)
            assert process.returncode in {0, 1, -signal.SIGKILL}
    assert codes.count(-signal.SIGKILL) >= kills // 2
    assert (folder / f"out.{ending}").read_bytes() == (folder / f"whole.{ending}").read_bytes()
    assert files(folder) == {"in.jsonl", f"out.{ending}", f"whole.{ending}"}


@pytest.mark.usefixtures("asked")
def test_output_truncated_anywhere_is_resumed(folder: Path) -> None:
    write(folder / "in.jsonl", [*LINES[:4], "{", *LINES[4:6]])
    assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 1
    out, side = folder / "out.jsonl", folder / "out.jsonl.failed.jsonl"
    whole, failed = out.read_bytes(), side.read_bytes()
    ends = [match.end() for match in re.finditer(b"\n", whole)]
    cuts = {0, 1, 7, 30, *ends[:-1], *(end - 1 for end in ends), *(end + 9 for end in ends[:-1])}
    for cut in sorted(cuts):
        out.write_bytes(whole[:cut])
        # The side file is as far as the output, or behind, torn or not.
        side.write_bytes(failed if cut % 2 else failed[: cut % len(failed)])
        assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 1
        assert (out.read_bytes(), side.read_bytes()) == (whole, failed)


def test_run_killed_between_files_of_merge_is_resumed(folder: Path, asked: str) -> None:
    write(folder / "in.jsonl", ["{", *LINES[1:4]])
    assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 1
    stale = (folder / "out.jsonl.failed.jsonl").read_bytes()
    write(folder / "in.jsonl", LINES[:4])
    assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
    whole = (folder / "out.jsonl").read_bytes()
    # The output was replaced already, the side file and the journal were not.
    (folder / "out.jsonl.failed.jsonl").write_bytes(stale)
    (folder / "out.jsonl.retried.jsonl").write_bytes(whole.splitlines(keepends=True)[0])
    before = asked_for(asked)
    assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
    assert ((folder / "out.jsonl").read_bytes(), asked_for(asked)) == (whole, before)
    assert files(folder) == {"in.jsonl", "out.jsonl"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_whole_lines(folder: Path, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(latency=0.05) as server:
        ask(server.url, monkeypatch)
        with started("in.jsonl", "out.jsonl", "--max-concurrency", "4") as process:
            until(lambda: asked_for(server.url) >= 20)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LONGEST_SECONDS)
    assert (process.returncode, out, err) == (130, b"", b"jina-rerank: interrupted\n")
    done = read(folder / "out.jsonl")
    assert [row["row"] for row in done] == list(range(len(done)))
    assert 10 <= len(done) < ROWS
    ask(asked, monkeypatch)
    assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
    assert call("bulk", "in.jsonl", "whole.jsonl").exit_code == 0
    assert (folder / "out.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()


# Two runs at once


class TestTwoRuns:
    @pytest.fixture
    def first(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
        """A run on out.jsonl that waits for an answer, with some rows behind it."""
        with RawServer(*[send(http(answer_body(3)))] * 20, silence) as server:
            ask(server.url, monkeypatch)
            # One at a time: of two, the one that is written later may be answered first, and the other not at all.
            with started("in.jsonl", "out.jsonl", "--max-concurrency", "1") as process:
                try:
                    until(lambda: len(server.requests) > 20 and len(read(folder / "out.jsonl")) == 20)
                    yield process
                finally:
                    process.kill()

    @pytest.mark.parametrize("name", ["out.jsonl", "link.jsonl", "here/out.jsonl"])
    def test_second_run_on_an_output_is_refused_with_the_first_named(
        self, folder: Path, first: "subprocess.Popen[bytes]", name: str
    ) -> None:
        (folder / "link.jsonl").symlink_to("out.jsonl")
        (folder / "here").symlink_to(folder)
        before = contents(folder)
        who = f"process {first.pid} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-}"
        refused(call("bulk", "in.jsonl", name), 2, "another run is writing this output: " + who, "name another output")
        assert contents(folder) == before

    def test_killed_run_frees_its_output(self, folder: Path, first: "subprocess.Popen[bytes]", emulator: str) -> None:
        first.kill()
        first.wait()
        with pytest.MonkeyPatch.context() as patch:
            ask(emulator, patch)
            result = call("bulk", "in.jsonl", "out.jsonl")
        assert (result.exit_code, len(read(folder / "out.jsonl"))) == (0, ROWS)
        assert files(folder) == {"in.jsonl", "out.jsonl"}

    @pytest.mark.parametrize("ending", ["jsonl", "csv"])
    def test_runs_that_begin_together_rank_each_row_once(self, folder: Path, asked: str, ending: str) -> None:
        before = asked_for(asked)
        runs = [started("in.jsonl", f"out.{ending}") for _ in range(2)]
        codes = sorted(run.wait(LONGEST_SECONDS) for run in runs)
        for run in runs:
            run.communicate()
        # Unless the second begins when the first has ended: then it finds all done.
        assert codes in ([0, 2], [0, 0])
        assert asked_for(asked) - before == ROWS
        assert call("bulk", "in.jsonl", f"out.{ending}").stderr.startswith("jina-rerank: already ranked: 150\n")
        assert files(folder) == {"in.jsonl", f"out.{ending}"}


def test_linked_output_is_followed(folder: Path, asked: str) -> None:
    (folder / "runs").mkdir()
    (folder / "latest.jsonl").symlink_to(folder / "runs" / "first.jsonl")
    write(folder / "in.jsonl", ["{", *LINES[1:3]])
    assert call("bulk", "in.jsonl", "latest.jsonl").exit_code == 1
    write(folder / "in.jsonl", LINES[:3])
    assert call("bulk", "in.jsonl", "latest.jsonl").exit_code == 0
    assert [row["id"] for row in read(folder / "runs" / "first.jsonl")] == ["q0", "q1", "q2"]
    assert (files(folder / "runs"), (folder / "latest.jsonl").is_symlink()) == ({"first.jsonl"}, True)


def test_backup_by_hard_link_keeps_what_it_has(folder: Path, asked: str) -> None:
    write(folder / "in.jsonl", LINES[:2])
    assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
    os.link(folder / "out.jsonl", folder / "backup.jsonl")
    write(folder / "in.jsonl", LINES[:4])
    assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
    assert (len(read(folder / "out.jsonl")), len(read(folder / "backup.jsonl"))) == (4, 2)


# Screens that are closed


def goes_on(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    """All rows are ranked even if stderr has no reader."""
    assert process.wait(LONGEST_SECONDS) == 0
    assert [row["row"] for row in read(folder / "out.jsonl")] == list(range(ROWS))


@pytest.mark.usefixtures("asked")
class TestClosedScreens:
    def test_closed_stderr_when_resuming_ranks_the_rest(self, folder: Path) -> None:
        write(folder / "in.jsonl", LINES[:50])
        assert call("bulk", "in.jsonl", "out.jsonl").exit_code == 0
        write(folder / "in.jsonl", LINES)
        ours, theirs = os.pipe()
        os.close(ours)
        with subprocess.Popen(command("bulk", "in.jsonl", "out.jsonl"), stderr=theirs, env=environment()) as process:
            os.close(theirs)
            goes_on(folder, process)

    def test_closed_stderr_with_failed_rows_exits_with_1(self, folder: Path) -> None:
        write(folder / "in.jsonl", ["{", *LINES[1:]])
        ours, theirs = os.pipe()
        os.close(ours)
        with subprocess.Popen(command("bulk", "in.jsonl", "out.jsonl"), stderr=theirs, env=environment()) as process:
            os.close(theirs)
            assert process.wait(LONGEST_SECONDS) == 1
        assert len(read(folder / "out.jsonl")) == ROWS - 1

    @pytest.mark.parametrize("kind", ["terminal", "pipe"])
    def test_terminal_closed_during_run_stops_no_row(
        self, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if kind == "pipe":
            # As some CI systems do: bars although stderr is a pipe.
            monkeypatch.setenv("FORCE_COLOR", "1")
            ours, theirs = os.pipe()
        else:
            pty = pytest.importorskip("pty", reason="only POSIX has pseudo-terminals")
            ours, theirs = pty.openpty()
        with serve(latency=0.02) as server:
            ask(server.url, monkeypatch)
            arguments = command("bulk", "in.jsonl", "out.jsonl", "--max-concurrency", "8")
            with subprocess.Popen(arguments, stderr=theirs, env=environment(TERM="xterm-256color")) as process:
                os.close(theirs)
                until(lambda: asked_for(server.url) >= 20)
                assert b"bulk" in os.read(ours, 65_536)
                os.close(ours)
                goes_on(folder, process)

    @pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes streams")
    def test_streams_that_the_shell_has_closed_stop_no_row(self, folder: Path) -> None:
        line = '"$@" <&- >&- 2>&-'
        arguments = ["sh", "-c", line, "sh", *command("bulk", "in.jsonl", "out.jsonl")]
        with subprocess.Popen(arguments, env=environment()) as process:
            goes_on(folder, process)
