"""The Jina Rerank API on your own machine: for tests, demos and work without a network.

from jina_rerank.emulator import serve

with serve() as server:
    client = SyncRerankClient("jina_any", base_url=server.url)

It speaks the hosted API's wire; its scores come from a `Scorer`, not from Jina's models.
"""

from typing import TYPE_CHECKING

from .limits import TIERS
from .scorers import FunctionScorer, LexicalScorer, ScoreFunction, Scorer

try:
    from .app import AppOptions, create_app
    from .server import Server, run, serve
except ModuleNotFoundError as _error:
    raise ImportError('The emulator needs starlette and uvicorn: pip install "jina-rerank[local]"') from _error

if TYPE_CHECKING:
    from .cross_encoder import CrossEncoderScorer as CrossEncoderScorer
    from .minilm import MiniLMScorer as MiniLMScorer

__all__ = [
    "TIERS",
    "AppOptions",
    "FunctionScorer",
    "LexicalScorer",
    "ScoreFunction",
    "Scorer",
    "Server",
    "create_app",
    "run",
    "serve",
]


def __getattr__(name: str) -> object:
    """Import the neural scorers on first use: they need extras that the rest of the package does not."""
    if name == "MiniLMScorer":
        from .minilm import MiniLMScorer  # noqa: PLC0415  (lazy on purpose)

        return MiniLMScorer
    if name == "CrossEncoderScorer":
        from .cross_encoder import CrossEncoderScorer  # noqa: PLC0415  (lazy on purpose)

        return CrossEncoderScorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
