"""An emulator of the Jina Rerank API on your own machine: for tests, demos and work without a network.

from jina_rerank.emulator import serve

with serve() as server:
    client = SyncRerankClient("jina_any", base_url=server.url)

It is compatible with the hosted API; its scores come from a `Scorer`, not from Jina's models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from .limits import TIERS
from .scorers import FunctionScorer, LexicalScorer, ScoreFunction, Scorer

if TYPE_CHECKING:
    from .app import AppOptions as AppOptions
    from .app import create_app as create_app
    from .cross_encoder import CrossEncoderScorer as CrossEncoderScorer
    from .minilm import MiniLMScorer as MiniLMScorer
    from .server import Server as Server
    from .server import run as run
    from .server import serve as serve

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

# Imported on first use, since they need extras and `RerankClient.local()`, which needs none, imports this package.
_LAZY_MODULES: Final = {
    "AppOptions": "app",
    "create_app": "app",
    "Server": "server",
    "run": "server",
    "serve": "server",
    "MiniLMScorer": "minilm",
    "CrossEncoderScorer": "cross_encoder",
}


def __getattr__(name: str) -> object:
    """Import a name that needs an extra.

    Raises:
        ImportError: The extra is not installed.
    """
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_LAZY_MODULES[name]}", __name__)
    except ModuleNotFoundError as error:
        raise ImportError('The emulator needs starlette and uvicorn: pip install "jina-rerank[local]"') from error
    return getattr(module, name)
