"""The contenders of `jina-rerank eval`, as they are written on the command line."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager

from ..errors import ConfigurationError
from ..retry import RetryPolicy
from ..sync import SyncRerankClient
from .failures import CommandError
from .local import LOCAL_KEY, local_server, names_scorer, scorer_named

# What an evaluation asks in a minute is more than a free key may, so that waiting is the rule and not a failure.
_DEADLINE = 900.0
_RETRY = RetryPolicy(max_retry_after=_DEADLINE)


@contextmanager
def clients(contenders: Sequence[str]) -> Generator[dict[str, SyncRerankClient]]:
    """A client for each contender, by the words that name it.

    Raises:
        CommandError: One is named twice, needs an extra, or is a model and there is no key.
        ConfigurationError: One is no server.
    """
    if len(set(contenders)) < len(contenders):
        raise CommandError("a contender is named twice")
    with ExitStack() as stack:
        yield {name: stack.enter_context(_client(name)) for name in contenders}


@contextmanager
def _client(contender: str) -> Generator[SyncRerankClient]:
    if names_scorer(contender):
        with (
            local_server(scorer_named(contender)) as url,
            SyncRerankClient(LOCAL_KEY, base_url=url, deadline=_DEADLINE) as client,
        ):
            yield client
        return
    model, _, base_url = contender.rpartition("@") if "://" in contender else (contender, "", None)
    try:
        client = SyncRerankClient(base_url=base_url, model=model or None, deadline=_DEADLINE, retry=_RETRY)
    except ConfigurationError as error:
        if base_url is not None:  # it may hold a password, which is not repeated
            raise
        raise CommandError(f"{contender} is taken for a model: {error}") from None
    with client:
        yield client
