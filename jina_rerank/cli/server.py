"""The options that name a server, and the client for it."""

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
from .._endpoint import HOSTED_BASE_URL, MISSING_KEY, Endpoint, resolve_endpoint
from ..catalog import DEFAULT_MODEL
from ..errors import ConfigurationError
from ..retry import RetryPolicy
from ..sync import SyncRerankClient
from .failures import CommandError
from .local import LOCAL_KEY, OWN_SCORERS, local_server


class Scoring(StrEnum):
    """How a model scores documents."""

    POINTWISE = "pointwise"
    LISTWISE = "listwise"


def complete_models(incomplete: str) -> list[str]:
    """Return the models whose names begin with `incomplete`."""
    return [model.name for model in catalog.models() if model.name.startswith(incomplete)]


def complete_scorers(incomplete: str) -> list[str]:
    """Return the emulator's scorers whose names begin with `incomplete`."""
    return [name for name in (*OWN_SCORERS, "hf:") if name.startswith(incomplete)]


def complete_contenders(incomplete: str) -> list[str]:
    """Return the models and scorers whose names begin with `incomplete`."""
    return complete_models(incomplete) + complete_scorers(incomplete)


ModelOption = Annotated[str, typer.Option("--model", "-m", help="The reranker.", autocompletion=complete_models)]
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Use this server. It gets no key without --api-key-variable.", show_default=False),
]
ApiKeyVariable = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Send the key in this environment variable.", show_default=False),
]
AllowInsecure = Annotated[
    bool, typer.Option("--allow-insecure", help="Send the key over plain http to other machines, too.")
]
Local = Annotated[
    bool, typer.Option("--local", help="Use an emulator in this process: no key, no network, not Jina's model.")
]
Timeout = Annotated[float, typer.Option(help="Seconds for one attempt.")]
MaxDocuments = Annotated[
    int, typer.Option(min=1, help="Documents per request; a longer list is split, and its rankings are merged.")
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
    """The server to use, and the settings of its client."""

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
        """Return the key in the variable of --api-key-variable; None without the option, so that the client decides.

        Raises:
            CommandError: The variable is not set. The message does not quote the name, which may be the key itself.
        """
        if self.api_key_variable is None:
            return None
        key = SecretStr(os.environ.get(self.api_key_variable, ""))
        if not key.get_secret_value().strip():
            raise CommandError("--api-key-variable: no variable of this name is set; give the NAME, not the key")
        return key

    def endpoint(self) -> Endpoint:
        """Return the server of the options, the environment or the hosted API, even if the hosted API's key is missing.

        Raises:
            CommandError: The variable of --api-key-variable is not set.
            ConfigurationError: An option or a variable is invalid.
        """
        try:
            return resolve_endpoint(self.key(), self.base_url, allow_insecure=self.allow_insecure, variable=os.getenv)
        except ConfigurationError as error:
            if error.code != MISSING_KEY:
                raise
            return Endpoint(f"{HOSTED_BASE_URL}/rerank", None, hosted=True)

    def client(self) -> SyncRerankClient:
        """Return a client for the server.

        Raises:
            CommandError: The variable of --api-key-variable is not set.
            ConfigurationError: An option or a variable is invalid.
        """
        return self._client(self.key(), self.base_url)

    @contextmanager
    def open_client(self) -> Generator[SyncRerankClient]:
        """Yield a client for the server of the options or the environment, or for an emulator in this process.

        Raises:
            CommandError: The options name two servers, or the variable of --api-key-variable is not set.
            ConfigurationError: An option or a variable is invalid.
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
        """Return a client for an emulator in this process, which never gets the user's key."""
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
