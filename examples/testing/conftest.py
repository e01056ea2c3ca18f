"""What the emulator plays in these tests: an API that takes a moment."""

import pytest

from jina_rerank.emulator import AppOptions


@pytest.fixture(scope="session")
def jina_emulator_options() -> AppOptions:
    """The options of jina_rerank.emulator.create_app."""
    return {"latency": 0.01}
