"""The two servers that the emulator plays; they differ in who may ask, and for which model."""

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
_DIGEST: Final = 12  # hexadecimal digits: enough to tell keys apart
_EVERYBODY: Final = "everybody"  # the account of all who send no key

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
"""Models of jina-on-prem (commit c9fde81) that are no rerankers; its rerankers are those of the catalogue."""


class Deployment(Protocol):
    """What the hosted API and the on-prem container do not have in common."""

    schema: type[RerankBody]
    takes_any_image: bool
    """Whether models that read no images accept them all the same."""

    def authenticate(self, authorization: str | None, /) -> str:
        """Let the caller in, and name the account: requests of one account share its limits.

        Raises:
            RefusedError: 401.
        """
        ...

    def model(self, name: str | None) -> Model:
        """The model to score with.

        Raises:
            RefusedError: 400 when it is not served here.
        """
        ...

    def models(self) -> tuple[Model, ...]:
        """All models served here."""
        ...

    def unrouted(self, status: int, detail: str) -> RefusedError:
        """The refusal of an unknown path, or of a method that a path does not have."""
        ...


class Hosted:
    """api.jina.ai: a key is required, unless it is said otherwise, and the caller names one of all models.

    Any key that could be one of Jina's is good.
    """

    schema: type[RerankBody] = HostedRerankBody
    takes_any_image: bool = False

    def __init__(self, *, key_required: bool) -> None:
        self._key_required = key_required

    def authenticate(self, authorization: str | None) -> str:
        """Ask for `Bearer jina_...`; the key itself is never repeated or kept: a digest stands for it."""
        scheme, _, token = (authorization or "").partition(" ")
        if self._key_required:
            if not authorization:
                raise missing_key()
            if scheme.lower() != "bearer" or not token:
                raise malformed_key()
            if not _KEY.fullmatch(token):
                raise wrong_key()
        elif not token:
            return _EVERYBODY
        return sha256(token.encode()).hexdigest()[:_DIGEST]

    def model(self, name: str | None) -> Model:
        """Any model of the catalogue, with or without its prefix."""
        name = name or ""
        model = find_model(name)
        if model is None:
            raise model_not_found(name, [known.name for known in models()])
        return model

    def models(self) -> tuple[Model, ...]:
        """The whole catalogue."""
        return models()

    def unrouted(self, status: int, detail: str) -> RefusedError:
        """In the words of Jina's gateway."""
        return flat(status, "Invalid endpoint" if status == 404 else detail)


class OnPrem:
    """Jina's on-prem container: no key, one model, and naming it is optional."""

    schema: type[RerankBody] = RerankBody
    takes_any_image: bool = True

    def __init__(self, served: Model) -> None:
        self._served = served

    def authenticate(self, _: str | None, /) -> str:
        """Let everybody in, on one account."""
        return _EVERYBODY

    def model(self, name: str | None) -> Model:
        """The served model, unless another one is asked for."""
        short = (name or "").rpartition("/")[2]
        if not name or short == self._served.name:
            return self._served
        shipped = short in _OTHER_IMAGES or find_model(short) is not None
        raise model_not_served(name, self._served.name, shipped=shipped)

    def models(self) -> tuple[Model, ...]:
        """The served model alone."""
        return (self._served,)

    def unrouted(self, status: int, detail: str) -> RefusedError:
        """In FastAPI's words."""
        return unrouted(status, detail)

    def health(self) -> dict[str, object]:
        """The answer of `GET /health`, of a container without a license key."""
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
    """The hosted API for None, else the container that serves this model.

    Raises:
        ValueError: The catalogue does not list the model.
    """
    if serving is None:
        return Hosted(key_required=key_required)
    served = find_model(serving)
    if served is None:
        raise ValueError(f"serving {serving!r}: no such model; there are {', '.join(model.name for model in models())}")
    return OnPrem(served)
