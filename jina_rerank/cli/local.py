"""The emulator, as the commands use it, and what they must say of it: that its scores are not those of Jina's model."""

import importlib
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..models import RerankResponse
from ..sync import SyncRerankClient
from ..wire import SCORER_HEADER
from .failures import CommandError, needing

if TYPE_CHECKING:
    from ..emulator import Scorer

# The options of every command that ranks by `client_for`.
Model = Annotated[str, typer.Option("--model", "-m", help="The reranker.")]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="Ask this server, without a key. To send it JINA_API_KEY, set JINA_RERANK_BASE_URL instead."),
]
Local = Annotated[
    bool, typer.Option("--local", help="Ask an emulator in this process: no key, no network, not Jina's model.")
]
Timeout = Annotated[float, typer.Option(help="Seconds for one attempt.")]

LOCAL_KEY: Final = "jina_local"
"""The key that commands send to the emulator, which takes any of this form. The user's own never goes there."""

_OWN_SCORERS: Final = ("lexical", "minilm")
_FUNCTION: Final = re.compile(r"[\w.]+:[\w.]+")


def names_scorer(text: str) -> bool:
    """Whether `text` names a scorer, and not a model or a server."""
    return text in _OWN_SCORERS or text.startswith("hf:") or _FUNCTION.fullmatch(text) is not None


def scorer_named(name: str) -> "Scorer":
    """The scorer of this name: `lexical`, `minilm`, `hf:MODEL`, or `module:function`.

    Raises:
        CommandError: There is none of this name, it cannot be loaded, or its extra is missing.
    """
    with needing("local"):
        from ..emulator import LexicalScorer  # noqa: PLC0415  # of the extra [local]
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
            raise CommandError(f"no scorer {name!r}: there are lexical, minilm, hf:MODEL and module:function")


def _imported(name: str, module: str, attribute: str) -> "Scorer":
    """A scorer, or a function that becomes one, from a module; also from one in the current directory."""
    from ..emulator.scorers import as_scorer  # noqa: PLC0415  # of the extra [local]

    sys.path.insert(0, str(Path.cwd()))
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
        return as_scorer(found() if isinstance(found, type) else found)
    except Exception as error:  # noqa: BLE001  # whatever the module raises: it is anybody's code
        raise CommandError(f"scorer {name}: {type(error).__name__}: {error}") from None


@contextmanager
def local_server(scorer: "Scorer | None" = None) -> Generator[str]:
    """The URL of an emulator in this process; its scorer is the lexical one unless another is given."""
    with needing("local"):
        from ..emulator import serve  # noqa: PLC0415  # of the extra [local]
    with serve(scorer=scorer) as server:
        yield server.url


@contextmanager
def client_for(
    base_url: str | None, *, local: bool, model: str, timeout: float, deadline: float
) -> Generator[SyncRerankClient]:
    """The client of a command: of the server that `base_url` or the environment names, or of an emulator in here.

    Raises:
        CommandError: Two servers are named.
        ConfigurationError: An option, or a variable, breaks a rule.
    """
    if not local:
        with SyncRerankClient(base_url=base_url, model=model, timeout=timeout, deadline=deadline) as client:
            yield client
        return
    if base_url is not None:
        raise CommandError("--local and --base-url name two servers: give one of them")
    with (
        local_server() as url,
        SyncRerankClient(LOCAL_KEY, base_url=url, model=model, timeout=timeout, deadline=deadline) as client,
    ):
        yield client


def scorer_of(response: RerankResponse[Any]) -> str | None:
    """The scorer of the emulator that answered; None if it was another server."""
    return response.headers.get(SCORER_HEADER)
