"""The two servers that the emulator imitates; they differ in authentication and models."""

import re
from hashlib import sha256
from typing import Final, Protocol

from ..catalog import Model, find_model, models
from .body import HostedRerankBody, RerankBody
from .envelopes import (
    RefusedError,
    flat,
    malformed_key,
    missing_key,
    model_not_found,
    model_not_served,
    unrouted,
    wrong_key,
)

_KEY: Final = re.compile(r"jina_\S+")
_DIGEST_LENGTH: Final = 12  # hexadecimal digits, enough to distinguish keys
_SHARED_ACCOUNT: Final = "everybody"  # the account of requests without a key

_OTHER_IMAGES: Final = frozenset(
    [
        "jina-embeddings-v5-omni-small",
        "jina-embeddings-v5-omni-nano",
        "jina-embeddings-v5-text-small",
        "jina-embeddings-v5-text-nano",
        "jina-embeddings-v4",
        "jina-embeddings-v3",
        "jina-embeddings-v2-base-en",
        "jina-embeddings-v2-base-de",
        "jina-embeddings-v2-base-es",
        "jina-embeddings-v2-base-zh",
        "jina-embeddings-v2-base-code",
        "jina-embedding-b-en-v1",
        "jina-code-embeddings-1.5b",
        "jina-code-embeddings-0.5b",
        "jina-clip-v2",
        "jina-clip-v1",
        "jina-vlm",
        "ReaderLM-v2",
        "reader-lm-1.5b",
        "reader-lm-0.5b",
    ]
)
"""The models of jina-on-prem (commit c9fde81) other than rerankers; its rerankers are those of the catalogue."""


class Deployment(Protocol):
    """The differences between the hosted API and the on-prem container."""

    schema: type[RerankBody]
    takes_any_image: bool
    """Whether text-only models accept images too."""

    def authenticate(self, authorization: str | None, /) -> str:
        """Check the key and return the name of its account, whose requests share its limits.

        Raises:
            RefusedError: 401.
        """
        ...

    def model(self, name: str | None) -> Model:
        """Return the model to score with.

        Raises:
            RefusedError: 400, this server does not serve the model.
        """
        ...

    def models(self) -> tuple[Model, ...]:
        """Return all models of this server."""
        ...

    def unrouted(self, status: int, detail: str) -> RefusedError:
        """Return the error for an unknown path, or for a method that a path does not support."""
        ...


class Hosted:
    """api.jina.ai: requires the name of a model and, by default, a key. Any key of the form of Jina's is accepted."""

    schema: type[RerankBody] = HostedRerankBody
    takes_any_image: bool = False

    def __init__(self, *, key_required: bool) -> None:
        self._key_required = key_required

    def authenticate(self, authorization: str | None) -> str:
        """Require `Bearer jina_...`; return a digest of the key, which itself is never echoed or stored."""
        scheme, _, token = (authorization or "").partition(" ")
        if self._key_required:
            if not authorization:
                raise missing_key()
            if scheme.lower() != "bearer" or not token:
                raise malformed_key()
            if not _KEY.fullmatch(token):
                raise wrong_key()
        elif not token:
            return _SHARED_ACCOUNT
        return sha256(token.encode()).hexdigest()[:_DIGEST_LENGTH]

    def model(self, name: str | None) -> Model:
        """Return the model of the catalogue, named with or without its prefix."""
        name = name or ""
        model = find_model(name)
        if model is None:
            raise model_not_found(name, [known.name for known in models()])
        return model

    def models(self) -> tuple[Model, ...]:
        """Return the whole catalogue."""
        return models()

    def unrouted(self, status: int, detail: str) -> RefusedError:
        """Return the error of Jina's gateway."""
        return flat(status, "Invalid endpoint" if status == 404 else detail)


class OnPrem:
    """Jina's on-prem container: no key, one model, and naming it is optional."""

    schema: type[RerankBody] = RerankBody
    takes_any_image: bool = True

    def __init__(self, served: Model) -> None:
        self._served = served

    def authenticate(self, _: str | None, /) -> str:
        """Accept every request, on one shared account."""
        return _SHARED_ACCOUNT

    def model(self, name: str | None) -> Model:
        """Return the served model, unless the request names another one."""
        short = (name or "").rpartition("/")[2]
        if not name or short == self._served.name:
            return self._served
        shipped = short in _OTHER_IMAGES or find_model(short) is not None
        raise model_not_served(name, self._served.name, shipped=shipped)

    def models(self) -> tuple[Model, ...]:
        """Return the served model only."""
        return (self._served,)

    def unrouted(self, status: int, detail: str) -> RefusedError:
        """Return FastAPI's error."""
        return unrouted(status, detail)

    def health(self) -> dict[str, object]:
        """Return the body of `GET /health`, as from a container without a license key."""
        return {
            "status": "ok",
            "model": self._served.name,
            "category": "reranker",
            "device": "cpu",
            "ready": True,
            "multimodal": self._served.images,
            "endpoint": "/v1/rerank",
            "schemas": ["jina", "openai", "voyage", "gemini", "cohere"],
            "license": {"mode": "warn", "valid": False, "reason": "no_license", "fail_open": True},
        }


def deployment_for(serving: str | None, *, key_required: bool) -> Deployment:
    """Return the hosted API for None, otherwise the container that serves this model.

    Raises:
        ValueError: The catalogue does not list the model.
    """
    if serving is None:
        return Hosted(key_required=key_required)
    served = find_model(serving)
    if served is None:
        raise ValueError(f"serving {serving!r}: no such model; there are {', '.join(model.name for model in models())}")
    return OnPrem(served)
