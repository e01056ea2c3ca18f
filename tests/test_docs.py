"""README, docs and examples do what they say: their Python runs, as a user would run it, against the emulator."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jina_rerank.emulator import serve

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENGINES = {"bulk_daft": "daft", "bulk_ray": "ray"}
"""The examples that need an engine: `make engines` installs them and runs these."""
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in ENGINES)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with serve() as server:
        yield server.url


def run(arguments: list[str], url: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "JINA_API_KEY": "jina_test", "JINA_RERANK_BASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "code", [pytest.param(code, id=f"{page.stem}-{i}") for page in PAGES for i, code in enumerate(blocks(page))]
)
def test_each_block_of_python_runs_and_prints(code: str, emulator: str) -> None:
    done = run(["-c", code], emulator)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    # Of the documents of README's examples on skin care, the lipstick is the wrong one.
    first = re.search("aloe|chamomile|lipstick", done.stdout)
    assert first is None or first[0] != "lipstick"


EXPECTED = {
    "awaited": "How to change a bicycle tyre",
    "blocking": "How to change a bicycle tyre",
    "langchain_retriever": "retriever: ['How to change a bicycle tyre.'",
    "own_objects": "#23 Flat tyres (was at position 1)",
    "self_hosted": "change a bicycle tyre",
}


def test_every_example_is_tested() -> None:
    assert {example.stem for example in EXAMPLES} == set(EXPECTED)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_each_example_runs_and_is_short(example: Path, emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_SERVER_KEY", "jina_test")
    done = run([str(example), *([emulator] if example.stem == "self_hosted" else [])], emulator)
    assert (done.returncode, done.stderr) == (0, "")
    assert EXPECTED[example.stem] in done.stdout
    assert len(example.read_text().splitlines()) < 40


@pytest.mark.parametrize("example", ENGINES)
def test_each_example_for_an_engine_runs_and_is_short(example: str, emulator: str) -> None:
    pytest.importorskip(ENGINES[example])
    path = ROOT / "examples" / f"{example}.py"
    environment = {**os.environ, "JINA_API_KEY": "jina_test", "JINA_RERANK_BASE_URL": emulator}
    done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, timeout=110)
    assert "40 claims, 0 errors" in done.stdout, done.stderr
    assert len(path.read_text().splitlines()) < 40


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_error_has_its_line_in_the_docs() -> None:
    import jina_rerank  # noqa: PLC0415  # for its names alone

    table = (ROOT / "docs" / "errors.md").read_text()
    names = [name for name in jina_rerank.__all__ if name.endswith("Error") and name != "RerankError"]
    assert [name for name in names if f"\n| `{name}` |" not in table] == []
