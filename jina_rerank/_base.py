"""What RerankClient and SyncRerankClient have in common: all that neither waits nor sends."""

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
        """Return a client that ranks in this process: without a key, a server, or a network.

        It has all methods of the client of a server, for programs that are written or tested before there is a key.
        Its scores are those of the scorer, not of Jina's models, and `response.model` names the scorer, whichever
        model a call names. Tokens are estimated, prices are 0. Images are refused.

        Args:
            scorer: "lexical" finds words in common, in any language, and needs no extra. "minilm" compares meanings
                by all-MiniLM-L6-v2, in English, and needs the extra [minilm]. Or a function of the query and the list
                of documents that returns one number for each document, or an object with the methods of
                `jina_rerank.emulator.Scorer`. A function is called in worker threads, several at once; an `async` one
                on the event loop.
            **options: Those of RerankClient that are not about a server: `timeout`, `deadline`, `retry`,
                `max_concurrency`, `max_documents`, `scoring`, `hedge_after` and `fallback`. `scoring` is "pointwise"
                unless it is given; a function scores each list in one request, however long, unless it is given.

        Raises:
            ConfigurationError: The scorer is none of these, its extra is not installed, or an option breaks a rule.
        """
        return client_over(cls, Core.local(scorer, options))

    def estimate_tokens(self, request: AnyRequest, *, key: Callable[[Any], Document] | None = None) -> int:
        """Estimate from its bytes how many tokens a request, as `rerank_many` takes it, will be billed for.

        Raises:
            InvalidRequestError: It breaks a rule, or the hosted API is known to refuse it.
        """
        return self._core.estimate_tokens(request, key)

    @property
    def totals(self) -> Totals:
        """What the calls of this client and its clones have cost so far."""
        return self._core.totals

    @property
    def limits(self) -> RateLimitStatus:
        """A snapshot of the key's limits: what is allowed, used, waited for, and held by others.

        RerankClient: of the running event loop. SyncRerankClient: of all sync clients of the process.
        """
        return self._core.limits_here()

    def with_options(self, **options: Unpack[OptionOverrides]) -> Self:
        """Return a clone with other options, over the same connections.

        Args:
            **options: `timeout`, `deadline`, `retry`, `model`, `headers`, `fallback`, `hedge_after`,
                `max_concurrency`, `max_documents` and `scoring`. What is left out stays as it is; headers are added
                to those there are. The rate limit belongs to the key, and is that of all clones.

        Closing a clone closes nothing.

        Raises:
            ConfigurationError: A value breaks a rule, or an option is that of all clones.
        """
        clone = copy.copy(self)
        clone._core = self._core.with_options(options)  # noqa: SLF001  # of this class
        return clone

    def __repr__(self) -> str:
        return f"{type(self).__name__}{getattr(self, '_core', '(not made)')!r}"


C = TypeVar("C", bound=BaseClient)


def client_over(kind: type[C], core: Core) -> C:
    """Return a client over a core that exists already: for this package's own adapters."""
    client = object.__new__(kind)
    vars(client)["_core"] = core
    return client


def core_of(client: BaseClient) -> Core:
    """Return the core of a client: for this package's own adapters."""
    core: Core = vars(client)["_core"]
    return core
