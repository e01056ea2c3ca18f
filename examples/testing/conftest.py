"""Give the emulator of these tests some latency."""

import pytest

from jina_rerank.emulator import AppOptions


@pytest.fixture(scope="session")
def jina_emulator_options() -> AppOptions:
    """Return options for jina_rerank.emulator.create_app."""
    return {"latency": 0.01}
