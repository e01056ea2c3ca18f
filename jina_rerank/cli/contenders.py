"""Clients for the contenders of `jina-rerank eval`, parsed from the command line."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from ..errors import ConfigurationError
from ..retry import RetryPolicy
from ..sync import SyncRerankClient
from .failures import CommandError, in_shell_words
from .local import local_server, names_scorer, scorer_named
from .server import ServerOptions

DEADLINE: Final = 900.0
"""Seconds for a call. Long, since an evaluation exceeds the limits of a free key and most of its calls wait."""


@contextmanager
def clients(contenders: Sequence[str], server: ServerOptions) -> Generator[dict[str, SyncRerankClient]]:
    """Yield a client for each contender, keyed by the contender's argument.

    Args:
        contenders: The arguments of the command line.
        server: The options for all clients. The key of its variable is sent to the URLs among the contenders.

    Raises:
        CommandError: A contender is a duplicate, needs an extra, or is a model without a key; or the key would be sent
            to several servers.
        ConfigurationError: The URL of a contender is invalid.
    """
    if len(set(contenders)) < len(contenders):
        raise CommandError("a contender is named twice")
    if server.api_key_variable is not None:
        _check_single_key_owner(contenders)
    server = replace(server, retry=RetryPolicy(max_retry_after=server.deadline))
    with ExitStack() as stack:
        yield {name: stack.enter_context(_client(name, server)) for name in contenders}


def _check_single_key_owner(contenders: Sequence[str]) -> None:
    hosts = {url_of(contender).partition("://")[2].partition("/")[0] for contender in contenders} - {""}
    if len(hosts) > 1:
        raise CommandError("--api-key-variable: the key would be sent to several servers; evaluate them one by one")


def url_of(contender: str) -> str:
    """Return the URL in a contender; an empty text for a model or a scorer."""
    return contender.rpartition("@")[2] if "://" in contender else ""


@contextmanager
def _client(contender: str, server: ServerOptions) -> Generator[SyncRerankClient]:
    if names_scorer(contender):
        # The user's model and key belong to another server.
        own = replace(server, model=None, api_key_variable=None)
        with local_server(scorer_named(contender)) as url, own.client_of_emulator(url) as client:
            yield client
        return
    url = url_of(contender)
    if url:  # it may contain a password, so no message quotes it
        model = contender.removesuffix(url).removesuffix("@") or None
        with replace(server, base_url=url, model=model).client() as client:
            yield client
        return
    try:
        client = replace(server, model=contender, api_key_variable=None).client()
    except ConfigurationError as error:
        raise CommandError(f"{contender} is read as a model's name: {in_shell_words(error)}") from None
    with client:
        yield client
