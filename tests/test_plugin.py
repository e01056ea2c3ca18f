"""The pytest plugin as its users meet it: whole runs of pytest, some of them in processes of their own."""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest

from jina_rerank.emulator import serve

from .servers import RawServer, http, send

pytest_plugins = ["pytester"]

KEY = "jina_0123456789abcdef0123456789abcdef"
PLUGIN = ("-p", "no:cacheprovider", "-p", "jina_rerank")
EXAMPLE = Path(__file__).parents[1] / "examples" / "testing"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server in the place of the real API, which the environment names."""
    with serve() as server:
        monkeypatch.setenv("JINA_RERANK_BASE_URL", server.url)
        monkeypatch.setenv("JINA_API_KEY", KEY)
        yield server.url


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this environment have a part only where a test names them."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Runs the project's tests with the plugin, by the name of its entry point; any warning is an error."""
    # In this process the package is imported already, which matters for its own assertions alone: it has none.
    loaded = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    return pytester.runpytest_inprocess("-W", "error", "-W", loaded, *PLUGIN, *arguments)


def run_apart(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """The same in a process that has imported nothing yet."""
    return pytester.runpytest_subprocess("-W", "error", *PLUGIN, *arguments)


def test_fixtures_for_every_way_to_test(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile("""
        import anyio, httpx, pytest
        from jina_rerank import ServerError, RetryPolicy

        URLS, KEYS = set(), set()
        DOCUMENTS = ["onion soup", "change a tyre"]

        @pytest.fixture(autouse=True)
        def new_for_each_test(jina_emulator):
            counted = httpx.get(f"{jina_emulator.url}/_emulator/requests").json()
            assert (jina_emulator.requests, counted["requests"]) == ([], 0)
            assert jina_emulator.api_key not in KEYS
            URLS.add(jina_emulator.url)
            KEYS.add(jina_emulator.api_key)
            assert len(URLS) == 1

        def test_sync(sync_rerank_client, jina_emulator):
            assert sync_rerank_client.rerank("tyre", DOCUMENTS, top_n=1).documents == ["change a tyre"]
            (request,) = jina_emulator.requests
            assert (request.path, request.status, request.model) == ("/v1/rerank", 200, "jina-reranker-v3.5")
            assert (request.query, request.documents, request.top_n) == ("tyre", DOCUMENTS, 1)
            assert request.body["return_documents"] is False
            assert request.headers["authorization"] == f"Bearer {jina_emulator.api_key}"
            assert jina_emulator.api_key not in repr(request)

        async def test_pytest_asyncio(rerank_client):
            assert (await rerank_client.rerank("tyre", DOCUMENTS)).documents[0] == "change a tyre"

        @pytest.mark.parametrize("backend", ["asyncio", "trio"])
        def test_loops(rerank_client, backend):
            async def main():
                assert (await rerank_client.rerank("tyre", DOCUMENTS)).documents[0] == "change a tyre"
            anyio.run(main, backend=backend)

        def test_faults(sync_rerank_client, jina_emulator):
            client = sync_rerank_client.with_options(retry=RetryPolicy(base_delay=0.001))
            jina_emulator.fail_next("503", times=2)
            assert client.rerank("tyre", DOCUMENTS).attempts == 3
            assert [request.status for request in jina_emulator.requests] == [503, 503, 200]
            jina_emulator.fail_next("500", times=3)
            with pytest.raises(ServerError):
                client.rerank("tyre", DOCUMENTS)
            with pytest.raises(ValueError, match="no such kind"):
                jina_emulator.fail_next("rain")

        def test_what_is_not_json(jina_emulator):
            httpx.post(f"{jina_emulator.url}/v1/rerank", content=b"{")
            assert (jina_emulator.requests[0].body, jina_emulator.requests[0].query) == ("{", None)
    """)
    pytester.makepyfile(
        test_anyio="""
        import pytest

        @pytest.mark.anyio
        async def test_anyio(rerank_client):
            assert (await rerank_client.rerank("tyre", ["soup", "tyre"])).documents[0] == "tyre"
    """
    )
    # One plugin at a time: in its mode `auto` pytest-asyncio takes the tests of anyio's.
    run(pytester, "-p", "asyncio", "test_fixtures_for_every_way_to_test.py").assert_outcomes(passed=6)
    run(pytester, "-c", os.devnull, "--rootdir=.", "-p", "anyio", "test_anyio.py").assert_outcomes(passed=2)


def test_emulator_options_are_configurable(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        import pytest

        @pytest.fixture(scope="session")
        def jina_emulator_options():
            return {"balance": 10}

        @pytest.fixture(scope="session")
        def app(jina_emulator_server):
            return jina_emulator_server.url
    """)
    pytester.makepyfile("""
        import pytest
        from jina_rerank import InsufficientBalanceError

        @pytest.mark.parametrize("time", [1, 2])
        def test_each_test_has_the_whole_balance(time, sync_rerank_client, app, jina_emulator):
            assert app == jina_emulator.url
            sync_rerank_client.rerank("tyre", ["tyre"])
            with pytest.raises(InsufficientBalanceError):
                sync_rerank_client.rerank("tyre", ["a long text of many words"] * 9)
    """)
    run(pytester).assert_outcomes(passed=2)


def test_respx_and_pytest_httpx_work_beside_it(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_httpx")
    pytester.makepyfile("""
        import asyncio
        import httpx, respx

        ANSWER = {"model": "m", "results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0}]}

        def test_respx(sync_rerank_client, jina_emulator):
            with respx.mock:
                route = respx.post(f"{jina_emulator.url}/v1/rerank").mock(httpx.Response(200, json=ANSWER))
                assert sync_rerank_client.rerank("q", ["a", "b"]).documents == ["b", "a"]
            assert (route.call_count, jina_emulator.requests) == (1, [])
            assert sync_rerank_client.rerank("a", ["a", "b"]).documents == ["a", "b"]
            assert (route.call_count, len(jina_emulator.requests)) == (1, 1)

        def test_pytest_httpx(rerank_client, jina_emulator, httpx_mock):
            httpx_mock.add_response(json=ANSWER)
            async def main():
                return await rerank_client.rerank("q", ["a", "b"])
            assert asyncio.run(main()).documents == ["b", "a"]
            assert (len(httpx_mock.get_requests()), jina_emulator.requests) == (1, [])

        def test_neither(sync_rerank_client, jina_emulator):
            assert sync_rerank_client.rerank("a", ["a", "b"]).documents == ["a", "b"]
            assert len(jina_emulator.requests) == 1
    """)
    run(pytester, "-p", "respx", "-p", "pytest_httpx").assert_outcomes(passed=3)


RECORDED = """
    import pytest

    pytestmark = pytest.mark.rerank_recorded

    @pytest.mark.parametrize("text", ["a/b", "a:b"])
    def test_text(sync_rerank_client, text):
        assert sync_rerank_client.rerank(f"{text} KEY", [text, "c"]).documents == [text, "c"]

    class TestRefused:
        def test_it(self, sync_rerank_client, jina_emulator):
            with pytest.raises(Exception, match="HTTP 422"):
                sync_rerank_client.rerank("q", ["a"], extra_body={"truncate": "perhaps"})
            with pytest.raises(ValueError, match="leave out its marker"):
                jina_emulator.fail_next("503")
            assert len(jina_emulator.requests) == 1
"""


class TestRecordings:
    def test_api_is_called_once_when_recording(
        self, pytester: pytest.Pytester, api: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytester.makepyfile(test_it=RECORDED.replace("KEY", KEY))
        run(pytester, "--rerank-record").assert_outcomes(passed=3)
        files = sorted((pytester.path / "recordings" / "test_it").iterdir())
        assert [file.name.rpartition("-")[0] or file.name for file in files] == [
            "TestRefused.test_it.json",
            "test_text-a-b",
            "test_text-a-b",
        ]
        assert not [file for file in files if KEY in file.read_text() or "authorization" in file.read_text().lower()]
        (exchange,) = json.loads(files[1].read_text())
        assert exchange["request"]["query"] in {"a/b SCRUBBED", "a:b SCRUBBED"}
        assert exchange["answer"]["status"] == 200
        monkeypatch.setenv("JINA_RERANK_BASE_URL", "http://127.0.0.1:9")
        monkeypatch.delenv("JINA_API_KEY")
        run(pytester).assert_outcomes(passed=3)

    @pytest.mark.parametrize("key", [KEY, "sk-CANARY/0123+4567&89ab<cdef"])
    def test_key_that_the_api_quotes_is_in_no_part_of_a_recording(
        self, pytester: pytest.Pytester, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        echoes = [key, quote(key, safe=""), escape(key), b64encode(f"Bearer {key}".encode()).decode()]
        escaped = [json.dumps({"detail": echo, key: [echo]}).replace("/", "\\/") for echo in echoes]
        pages = [f"<html>{echo}" for echo in echoes]
        said = [http(text.encode(), 400, x_request_id=echo) for text in escaped + pages for echo in echoes[:2]]
        raw_server.plays = [send(answer) for answer in said]
        monkeypatch.setenv("JINA_RERANK_BASE_URL", raw_server.url)
        monkeypatch.setenv("JINA_API_KEY", key)
        pytester.makepyfile(
            test_it=f"""
            import pytest

            @pytest.mark.rerank_recorded
            def test_it(sync_rerank_client):
                for number in range({len(said)}):
                    with pytest.raises(Exception, match="HTTP 400"):
                        sync_rerank_client.rerank(f"q {{number}}", ["a"])
            """
        )
        run(pytester, "--rerank-record").assert_outcomes(passed=1)
        recorded = (pytester.path / "recordings" / "test_it" / "test_it.json").read_text()
        assert recorded.count("SCRUBBED") >= 2 * len(said)
        shown = recorded + str(json.loads(recorded))
        assert [form for echo in echoes for form in (echo, json.dumps(echo)[1:-1]) if form in shown] == []
        run(pytester).assert_outcomes(passed=1)

    def test_placeholder_key_is_not_masked(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        pytester.makepyfile(test_it=RECORDED.replace("KEY", "EMPTY"))
        with serve(serving="jina-reranker-v3.5") as server:
            monkeypatch.setenv("JINA_RERANK_BASE_URL", server.url)
            monkeypatch.setenv("JINA_API_KEY", "EMPTY")
            run(pytester, "--rerank-record", "-k", "text").assert_outcomes(passed=2, deselected=1)
        run(pytester, "-k", "text").assert_outcomes(passed=2, deselected=1)

    def test_request_that_was_not_recorded_fails_the_test(self, pytester: pytest.Pytester, api: str) -> None:
        code = """
            import pytest

            @pytest.mark.rerank_recorded
            def test_it(sync_rerank_client):
                try:
                    sync_rerank_client.rerank("tyre", ["b", "a"], top_n=2)
                except Exception:
                    pass
        """
        pytester.makepyfile(test_it=code)
        result = run(pytester)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            ["no recording of this request: query 'tyre' with 2 documents*", "nothing was recorded, in *"]
        )
        run(pytester, "--rerank-record").assert_outcomes(passed=1)
        pytester.makepyfile(test_it=code.replace("top_n=2", "top_n=1"))
        result = run(pytester)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            ["*differs in top_n (recorded: 2), in *test_it.json", "record it with: pytest --rerank-record *"]
        )
        (pytester.path / "recordings" / "test_it" / "test_it.json").write_text("[{}]")
        result = run(pytester)
        result.stdout.fnmatch_lines(["*test_it.json: it is not a recording; delete it, and record it again*"])

    def test_failed_call_is_not_recorded(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        pytester.makepyfile(
            test_it="""
            import pytest

            @pytest.mark.rerank_recorded
            def test_it(sync_rerank_client):
                with pytest.raises(Exception, match="HTTP 502"):
                    sync_rerank_client.rerank("tyre", ["a"])
            """
        )
        result = run(pytester, "--rerank-record")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["--rerank-record: api_key: the hosted API needs a key*"])
        monkeypatch.setenv("JINA_RERANK_BASE_URL", "http://127.0.0.1:9")
        result = run(pytester, "--rerank-record")
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["http://127.0.0.1:9/v1/rerank gave no answer *; nothing is recorded of this test"])
        assert not (pytester.path / "recordings").exists()


def test_plugin_imports_nothing_when_unused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys

        def test_nothing_was_imported(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("jina_rerank")
            assert not {"jina_rerank", "httpx", "starlette", "uvicorn"} & set(sys.modules)
    """)
    run_apart(pytester).assert_outcomes(passed=1)


def test_missing_extra_names_package_to_install(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys; sys.modules['uvicorn'] = None")
    pytester.makepyfile("""
        def test_other(): pass
        def test_it(jina_emulator): pass
    """)
    result = run_apart(pytester)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(['these fixtures need an extra: pip install "jina-rerank?testing?"'])


def test_documented_steps_work(pytester: pytest.Pytester, api: str) -> None:
    page = (EXAMPLE.parents[1] / "docs" / "testing.md").read_text()
    program, *blocks = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (options,) = [block for block in blocks if "def jina_emulator_options" in block]
    blocks.remove(options)
    files = {"search.py": program, "test_search.py": "\n".join(blocks), "conftest.py": options}
    for name, code in files.items():
        (pytester.path / name).write_text(code)
    run(pytester, "-p", "anyio", "--rerank-record").assert_outcomes(passed=5)
    assert (pytester.path / "recordings" / "test_search" / "test_recorded.json").exists()


def test_example_project_in_this_repository_passes_without_its_plugins() -> None:
    """As `pytest` in that folder, where the extra [testing] is all that is installed."""
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-k", "best_two"]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout


def test_example_project_passes_offline_and_records(tmp_path: Path, api: str) -> None:
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    recording = project / "recordings" / "test_search" / "test_recorded.json"
    before = recording.read_text()

    def tests(*arguments: str, url: str) -> str:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "-p",
            "jina_rerank",
            *arguments,
        ]
        environment = {**os.environ, "JINA_RERANK_BASE_URL": url}
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True).stdout

    assert "4 passed" in tests(url="http://127.0.0.1:9")
    recording.unlink()
    assert "4 passed" in tests("--rerank-record", url=api)
    assert recording.read_text() == before
