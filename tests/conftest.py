"""Fixtures for all tests: the event loops, and an environment without keys and proxies."""

import gc
import inspect
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .servers import RawServer

# For runs without make, which does the same: programs that tests start should not compile all that they import anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", {}), id="trio"),
]


QUICK = {
    "benchmarks",
    "bulk",
    "captures",
    "contract",
    "emulator_wire",
    "errors",
    "fallback",
    "hedging",
    "limits",
    "local",
    "options",
    "parts",
    "rate_limit_cancellation",
    "rate_limiter",
    "rate_limits",
    "refusals",
    "retry",
    "tokens",
    "wire",
}
"""The files whose tests `make quick` runs: they use virtual time, `MockTransport` or `ASGITransport`."""

NOT_QUICK = {"raw_server", "RawServer", "serve", "subprocess", "ProcessPoolExecutor"}
"""What a single test in such a file uses if it needs a socket or a process."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the quick tests, so that a new one needs no mark."""
    if config.option.markexpr == "quick":
        missing = [name for name in QUICK if not Path(__file__).with_name(f"test_{name}.py").exists()]
        if missing:
            raise pytest.UsageError(f"QUICK in tests/conftest.py names files that are gone: {', '.join(missing)}")
    for item in items:
        if isinstance(item, pytest.Function) and item.path.stem.removeprefix("test_") in QUICK:
            code = getattr(inspect.unwrap(item.function), "__code__", None)
            if NOT_QUICK.isdisjoint([*item.fixturenames, *(code.co_names if code else ())]):
                item.add_marker(pytest.mark.quick)


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Every test marked `anyio` runs on each of these."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def interruptible_programs() -> Iterator[None]:
    """Programs that tests start heed SIGINT: a background job ignores it, and they would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def frozen_imports() -> Iterator[None]:
    """Garbage collections need not look at the half a million objects of what is imported again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()  # Hypothesis asks, when the session ends, who refers to an object, and is not told of frozen ones


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine reaches a client."""
    names = ["JINA_API_KEY", "JINA_RERANK_BASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY", "no_proxy"]
    for scheme in ("HTTP", "HTTPS", "ALL"):
        names += [f"{scheme}_PROXY", f"{scheme.lower()}_proxy"]
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """A server on raw sockets that plays whatever bytes a test scripts."""
    with RawServer() as server:
        yield server


@pytest.fixture
def no_coverage_in_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs that fork or are interrupted: coverage.py has a lock, which may be left taken for ever then."""
    for name in [name for name in os.environ if name.startswith("COV")]:
        monkeypatch.delenv(name)
