"""Whom the commands ask: the options that say so, and the client that they make."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, cast

import typer
from pydantic import SecretStr

from .. import catalog
from .._config import DEFAULT_DEADLINE, DEFAULT_MAX_DOCUMENTS, DEFAULT_TIMEOUT
from ..catalog import DEFAULT_MODEL
from ..retry import RetryPolicy
from ..sync import SyncRerankClient
from .failures import CommandError
from .local import LOCAL_KEY, OWN_SCORERS, local_server


class Scoring(StrEnum):
    """How a model scores documents."""

    POINTWISE = "pointwise"
    LISTWISE = "listwise"


def complete_models(incomplete: str) -> list[str]:
    """The models whose names begin so."""
    return [model.name for model in catalog.models() if model.name.startswith(incomplete)]


def complete_scorers(incomplete: str) -> list[str]:
    """The emulator's scorers whose names begin so."""
    return [name for name in (*OWN_SCORERS, "hf:") if name.startswith(incomplete)]


def complete_contenders(incomplete: str) -> list[str]:
    """The models and scorers whose names begin so."""
    return complete_models(incomplete) + complete_scorers(incomplete)


ModelOption = Annotated[str, typer.Option("--model", "-m", help="The reranker.", autocompletion=complete_models)]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Ask this server. No key goes to it without --api-key-variable.", show_default=False
    ),
]
ApiKeyVariable = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Send the key that this environment variable holds.", show_default=False),
]
AllowInsecure = Annotated[
    bool, typer.Option("--allow-insecure", help="Let the key travel over http to another machine.")
]
Local = Annotated[
    bool, typer.Option("--local", help="Ask an emulator in this process: no key, no network, not Jina's model.")
]
Timeout = Annotated[float, typer.Option(help="Seconds for one attempt.")]
MaxDocuments = Annotated[
    int, typer.Option(min=1, help="Documents in one request; a longer list is sent in several, and put together.")
]
ScoringOption = Annotated[
    Scoring | None,
    typer.Option(help="How the model scores: one document at a time, or all together.", show_default="the catalogue's"),
]
MaxDocLength = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens of each document that are scored.", show_default="the model's own limit"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Whom to ask, and how."""

    base_url: str | None = None
    api_key_variable: str | None = None
    allow_insecure: bool = False
    local: bool = False
    model: str | None = DEFAULT_MODEL
    timeout: float = DEFAULT_TIMEOUT
    deadline: float = DEFAULT_DEADLINE
    max_documents: int = DEFAULT_MAX_DOCUMENTS
    scoring: Scoring | None = None
    retry: RetryPolicy = RetryPolicy()  # noqa: RUF009  # frozen

    def key(self) -> SecretStr | None:
        """The key that the variable holds; None if none is named, which leaves it to the client.

        Raises:
            CommandError: There is no such variable. The message does not repeat what may be the key itself.
        """
        if self.api_key_variable is None:
            return None
        key = SecretStr(os.environ.get(self.api_key_variable, ""))
        if not key.get_secret_value().strip():
            raise CommandError("--api-key-variable: no variable of this name is set; give the NAME, not the key")
        return key

    def client(self) -> SyncRerankClient:
        """A client of it.

        Raises:
            CommandError: There is no key where the options say.
            ConfigurationError: An option, or a variable, breaks a rule.
        """
        return self._client(self.key(), self.base_url)

    @contextmanager
    def asked(self) -> Generator[SyncRerankClient]:
        """A client of the server that the options or the environment name, or of an emulator in here.

        Raises:
            CommandError: Two servers are named, or there is no key where the options say.
            ConfigurationError: An option, or a variable, breaks a rule.
        """
        if not self.local:
            with self.client() as client:
                yield client
            return
        if self.base_url is not None:
            raise CommandError("--local and --base-url name two servers: give one of them")
        with local_server() as url, self.client_of_emulator(url) as client:
            yield client

    def client_of_emulator(self, url: str) -> SyncRerankClient:
        """A client of an emulator in this process, to which the user's key never goes."""
        return self._client(SecretStr(LOCAL_KEY), url)

    def _client(self, key: SecretStr | None, base_url: str | None) -> SyncRerankClient:
        return SyncRerankClient(
            key,
            base_url=base_url,
            model=self.model,
            timeout=self.timeout,
            deadline=self.deadline,
            retry=self.retry,
            max_documents=self.max_documents,
            scoring=cast(catalog.Scoring | None, self.scoring and self.scoring.value),
            allow_insecure=self.allow_insecure,
        )
