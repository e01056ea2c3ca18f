"""The pytest plugin of jina_rerank: docs/testing.md tells how it is used.

It is a package of its own because pytest imports it at every start, for everybody who has jina_rerank installed. So it
imports nothing but pytest until a test asks for a fixture: it costs no time, needs no extra before that, and coverage
sees jina_rerank being imported.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jina_rerank import RerankClient, SyncRerankClient
    from jina_rerank.emulator import AppOptions
    from jina_rerank.testing import EmulatorServer, JinaEmulator

_MARKER = "rerank_recorded"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --rerank-record."""
    parser.getgroup("jina_rerank").addoption(
        "--rerank-record",
        action="store_true",
        help=f"ask the real API (JINA_API_KEY, JINA_RERANK_BASE_URL) in tests marked {_MARKER}, and keep its answers",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line(
        "markers", f"{_MARKER}: jina_emulator gives the recorded answers of the real API (--rerank-record records them)"
    )


@pytest.fixture(scope="session")
def jina_emulator_options() -> "AppOptions":
    """What the emulator plays: the options of `jina_rerank.emulator.create_app`. Override it to change them."""
    return {}


@pytest.fixture(scope="session")
def jina_emulator_server(
    request: pytest.FixtureRequest, jina_emulator_options: "AppOptions"
) -> "Iterator[EmulatorServer]":
    """The server behind `jina_emulator`: its `url` stays the same for the whole session."""
    try:
        from jina_rerank.testing import EmulatorServer  # noqa: PLC0415  # of the extra [testing], and slow to import
    except ImportError:
        pytest.fail('these fixtures need an extra: pip install "jina-rerank[testing]"', pytrace=False)
    from jina_rerank import ConfigurationError  # noqa: PLC0415  # slow to import

    recording = bool(request.config.getoption("--rerank-record"))
    try:
        server = EmulatorServer(jina_emulator_options, variable=os.getenv if recording else None)
    except ConfigurationError as error:
        pytest.fail(f"--rerank-record: {error}", pytrace=False)
    with server:
        yield server


@pytest.fixture
def jina_emulator(request: pytest.FixtureRequest, jina_emulator_server: "EmulatorServer") -> "Iterator[JinaEmulator]":
    """The Jina Rerank API on this machine, over real HTTP, new for each test: with `url`, `api_key` and `requests`."""
    node: pytest.Item = request.node
    recorded = (node.path, node.nodeid) if node.get_closest_marker(_MARKER) else None
    emulator = jina_emulator_server.begin(recorded)
    yield emulator
    problem = jina_emulator_server.end()
    if problem is not None:
        pytest.fail(problem, pytrace=False)


@pytest.fixture
def rerank_client(jina_emulator: "JinaEmulator") -> "RerankClient":
    """A RerankClient of the emulator, for any event loop; it needs no closing, for it ends with the loop."""
    from jina_rerank import RerankClient  # noqa: PLC0415  # slow to import

    return RerankClient(jina_emulator.api_key, base_url=jina_emulator.url)


@pytest.fixture
def sync_rerank_client(jina_emulator: "JinaEmulator") -> "Iterator[SyncRerankClient]":
    """A SyncRerankClient of the emulator."""
    from jina_rerank import SyncRerankClient  # noqa: PLC0415  # slow to import

    with SyncRerankClient(jina_emulator.api_key, base_url=jina_emulator.url) as client:
        yield client
