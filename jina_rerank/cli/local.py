"""The emulator, as the commands use it, and what they must say of it: that its scores are not those of Jina's model."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ..models import RerankResponse
from .failures import needing

if TYPE_CHECKING:
    from ..emulator import Scorer

LOCAL_KEY: Final = "jina_local"
"""The key that commands send to the emulator, which takes any of this form. The user's own never goes there."""

_SCORER_HEADER: Final = "x-jina-emulator-scorer"


@contextmanager
def local_server(scorer: "Scorer | None" = None) -> Generator[str]:
    """The URL of an emulator in this process; its scorer is the lexical one unless another is given."""
    with needing("local"):
        from ..emulator import serve  # noqa: PLC0415  # of the extra [local]
    with serve(scorer=scorer) as server:
        yield server.url


def scorer_of(response: RerankResponse[Any]) -> str | None:
    """The scorer of the emulator that answered; None if it was another server."""
    return response.headers.get(_SCORER_HEADER)
