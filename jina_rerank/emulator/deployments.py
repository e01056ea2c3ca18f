"""The two servers that the emulator plays; they differ in who may ask, and for which model."""

import re
from hashlib import sha256
from typing import Final, Protocol

from ..catalog import Model, find_model, models
from .body import HostedRerankBody, RerankBody
from .envelopes import malformed_key, missing_key, model_not_found, nested, wrong_key

_KEY: Final = re.compile(r"jina_\S+")
_DIGEST: Final = 12  # hexadecimal digits: enough to tell keys apart


class Deployment(Protocol):
    """What the hosted API and the on-prem container do not have in common."""

    schema: type[RerankBody]
    has_batches: bool
    """Whether there are batch jobs to list."""
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


class Hosted:
    """api.jina.ai: a key is required and the caller names one of all models.

    Any key that could be one of Jina's is good.
    """

    schema: type[RerankBody] = HostedRerankBody
    has_batches: bool = True
    takes_any_image: bool = False

    def authenticate(self, authorization: str | None) -> str:
        """Ask for `Bearer jina_...`; the key itself is never repeated or kept: a digest stands for it."""
        if not authorization:
            raise missing_key()
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise malformed_key()
        if not _KEY.fullmatch(token):
            raise wrong_key()
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


class OnPrem:
    """Jina's on-prem container: no key, one model, and naming it is optional."""

    schema: type[RerankBody] = RerankBody
    has_batches: bool = False
    takes_any_image: bool = True

    def __init__(self, served: Model) -> None:
        self._served = served

    def authenticate(self, _: str | None, /) -> str:
        """Let everybody in, on one account."""
        return "everybody"

    def model(self, name: str | None) -> Model:
        """The served model, unless another one is asked for."""
        if not name or find_model(name) == self._served:
            return self._served
        served = self._served.name
        raise nested(
            400,
            f"This image serves '{served}', not '{name}'. Set 'model' to '{served}', or drop the field.",
            "bad_request",
        )

    def models(self) -> tuple[Model, ...]:
        """The served model alone."""
        return (self._served,)


def deployment_for(serving: str | None) -> Deployment:
    """The hosted API for None, else the container that serves this model.

    Raises:
        ValueError: The catalogue does not list the model.
    """
    if serving is None:
        return Hosted()
    served = find_model(serving)
    if served is None:
        raise ValueError(f"serving={serving!r} is no model of the catalogue")
    return OnPrem(served)
