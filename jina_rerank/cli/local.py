"""The emulator in this process, for the commands."""

import importlib
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from ..emulator import LexicalScorer, Scorer
from ..emulator.scorers import SCORER_HEADER, as_scorer
from ..models import RerankResponse
from .failures import CommandError, needing

LOCAL_KEY: Final = "jina_local"
"""The key that commands send to the emulator, which accepts any of this form. It never gets the user's key."""

OWN_SCORERS: Final = ("lexical", "minilm")
_FUNCTION: Final = re.compile(r"[\w.]+:[\w.]+")


def names_scorer(text: str) -> bool:
    """Return whether `text` names a scorer, not a model or a server."""
    return text in OWN_SCORERS or text.startswith("hf:") or _FUNCTION.fullmatch(text) is not None


def scorer_named(name: str) -> Scorer:
    """Return the scorer of this name: `lexical`, `minilm`, `hf:MODEL`, or `module:function`.

    Raises:
        CommandError: The name is unknown, the scorer cannot be loaded, or its extra is missing.
    """
    match name.partition(":"):
        case "lexical", "", "":
            return LexicalScorer()
        case "minilm", "", "":
            with needing("minilm"):
                from ..emulator import MiniLMScorer  # noqa: PLC0415  # of the extra [minilm]

                return MiniLMScorer()
        case "hf", ":", str(model) if model:
            with needing("hf"):
                from ..emulator import CrossEncoderScorer  # noqa: PLC0415  # of the extra [hf]
            try:
                return CrossEncoderScorer(model)
            except ValueError as error:
                raise CommandError(str(error)) from None
        case str(module), ":", str(attribute) if module and attribute:
            return _imported(name, module, attribute)
        case _:
            raise CommandError(f"no scorer {name!r}: choose lexical, minilm, hf:MODEL or module:function")


def _imported(name: str, module: str, attribute: str) -> Scorer:
    """Import a scorer, or a function to wrap as one, from a module on the path or in the current directory."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
        return as_scorer(found() if isinstance(found, type) else found)
    except Exception as error:  # noqa: BLE001  # a user's module may raise anything
        raise CommandError(f"scorer {name}: {type(error).__name__}: {error}") from None


@contextmanager
def local_server(scorer: Scorer | None = None) -> Generator[str]:
    """Run an emulator in this process, by default with the lexical scorer, and yield its URL."""
    with needing("local"):
        from ..emulator import serve  # noqa: PLC0415  # of the extra [local]
    with serve(scorer=scorer) as server:
        yield server.url


def scorer_of(response: RerankResponse[Any]) -> str | None:
    """Return the scorer of the emulator that answered; None for any other server."""
    return response.headers.get(SCORER_HEADER)
