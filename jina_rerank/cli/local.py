"""The emulator, as the commands use it, and what they must say of it: that its scores are not those of Jina's model."""

from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ..models import RerankResponse
from ..sync import SyncRerankClient
from .failures import CommandError, needing

if TYPE_CHECKING:
    from ..emulator import Scorer

LOCAL_KEY: Final = "jina_local"
"""The key that commands send to the emulator, which takes any of this form. The user's own never goes there."""

_SCORER_HEADER: Final = "x-jina-emulator-scorer"


class ScorerName(StrEnum):
    """The scorers that come with the emulator."""

    LEXICAL = "lexical"
    MINILM = "minilm"


def scorer_named(name: ScorerName) -> "Scorer":
    """The scorer of this name.

    Raises:
        CommandError: Its extra is missing.
    """
    with needing("local"):
        from ..emulator import LexicalScorer  # noqa: PLC0415  # of the extra [local]
    if name is ScorerName.LEXICAL:
        return LexicalScorer()
    with needing("minilm"):
        from ..emulator import MiniLMScorer  # noqa: PLC0415  # of the extra [minilm]

        return MiniLMScorer()


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
        # A proxy of the environment has no business between two ends of this process.
        SyncRerankClient(
            LOCAL_KEY, base_url=url, model=model, timeout=timeout, deadline=deadline, trust_env=False
        ) as client,
    ):
        yield client


def scorer_of(response: RerankResponse[Any]) -> str | None:
    """The scorer of the emulator that answered; None if it was another server."""
    return response.headers.get(_SCORER_HEADER)
