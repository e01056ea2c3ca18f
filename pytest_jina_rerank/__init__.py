"""The pytest plugin of jina_rerank, described in docs/testing.md.

It is a separate package because pytest imports it at every start wherever jina_rerank is installed. It imports only
pytest until a test requests a fixture: before that it costs no time and needs no extra, and coverage can measure the
import of jina_rerank.
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
    """Add the option --rerank-record."""
    parser.getgroup("jina_rerank").addoption(
        "--rerank-record",
        action="store_true",
        help=f"call the real API (JINA_API_KEY, JINA_RERANK_BASE_URL) in tests marked {_MARKER}, and record it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", f"{_MARKER}: jina_emulator gives the recorded answers of the real API (--rerank-record records them)"
    )


@pytest.fixture(scope="session")
def jina_emulator_options() -> "AppOptions":
    """Return the options of `jina_rerank.emulator.create_app`. Override this fixture to change them."""
    return {}


@pytest.fixture(scope="session")
def jina_emulator_server(
    request: pytest.FixtureRequest, jina_emulator_options: "AppOptions"
) -> "Iterator[EmulatorServer]":
    """Run the server behind `jina_emulator`, whose `url` stays the same for the whole session."""
    try:
        from jina_rerank.testing import EmulatorServer  # noqa: PLC0415  # needs the extra [testing], and is slow to import
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
    """Emulate the Jina Rerank API over real HTTP, anew for each test: with `url`, `api_key` and `requests`."""
    node: pytest.Item = request.node
    recorded = (node.path, node.nodeid) if node.get_closest_marker(_MARKER) else None
    emulator = jina_emulator_server.begin(recorded)
    yield emulator
    problem = jina_emulator_server.end()
    if problem is not None:
        pytest.fail(problem, pytrace=False)


@pytest.fixture
def rerank_client(jina_emulator: "JinaEmulator") -> "RerankClient":
    """Return a RerankClient for the emulator, on any event loop, which closes it when the loop ends."""
    from jina_rerank import RerankClient  # noqa: PLC0415  # slow to import

    return RerankClient(jina_emulator.api_key, base_url=jina_emulator.url)


@pytest.fixture
def sync_rerank_client(jina_emulator: "JinaEmulator") -> "Iterator[SyncRerankClient]":
    """Open a SyncRerankClient for the emulator."""
    from jina_rerank import SyncRerankClient  # noqa: PLC0415  # slow to import

    with SyncRerankClient(jina_emulator.api_key, base_url=jina_emulator.url) as client:
        yield client
