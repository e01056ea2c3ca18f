"""The contenders of `jina-rerank eval`, as they are written on the command line."""

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
"""Seconds for a call. What an evaluation asks in a minute is more than a free key may, so that waiting is the rule."""


@contextmanager
def clients(contenders: Sequence[str], server: ServerOptions) -> Generator[dict[str, SyncRerankClient]]:
    """A client for each contender, by the words that name it.

    Args:
        contenders: As on the command line.
        server: How each is asked. The key of its variable goes to the URLs among them.

    Raises:
        CommandError: One is named twice, needs an extra, or is a model and there is no key; or a key would go to
            several servers.
        ConfigurationError: One is no server.
    """
    if len(set(contenders)) < len(contenders):
        raise CommandError("a contender is named twice")
    if server.api_key_variable is not None:
        _check_owner_of_key(contenders)
    server = replace(server, retry=RetryPolicy(max_retry_after=server.deadline))
    with ExitStack() as stack:
        yield {name: stack.enter_context(_client(name, server)) for name in contenders}


def _check_owner_of_key(contenders: Sequence[str]) -> None:
    places = {url_of(contender).partition("://")[2].partition("/")[0] for contender in contenders} - {""}
    if len(places) > 1:
        raise CommandError("--api-key-variable: the key would go to several servers; evaluate them one by one")


def url_of(contender: str) -> str:
    """The URL in it; nothing for a model or a scorer."""
    return contender.rpartition("@")[2] if "://" in contender else ""


@contextmanager
def _client(contender: str, server: ServerOptions) -> Generator[SyncRerankClient]:
    if names_scorer(contender):
        # The user's model and key are of another server.
        own = replace(server, model=None, api_key_variable=None)
        with local_server(scorer_named(contender)) as url, own.client_of_emulator(url) as client:
            yield client
        return
    url = url_of(contender)
    if url:  # it may hold a password, which no message repeats
        model = contender.removesuffix(url).removesuffix("@") or None
        with replace(server, base_url=url, model=model).client() as client:
            yield client
        return
    try:
        client = replace(server, model=contender, api_key_variable=None).client()
    except ConfigurationError as error:
        raise CommandError(f"{contender} is taken for a model: {in_shell_words(error)}") from None
    with client:
        yield client
