"""The emulator's ASGI app: `POST /v1/rerank` and the public list of models."""

import json
import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..catalog import Model, find_model
from .body import RerankBody, parse_body
from .deployments import Deployment, deployment_for
from .envelopes import RefusedError, flat, internal_error, model_not_listed, unreadable
from .ranking import rank, refuse_unsupported
from .scorers import LexicalScorer, Scorer

_LOG = logging.getLogger(__name__)


def create_app(*, scorer: Scorer | None = None, latency: float = 0.0, serving: str | None = None) -> Starlette:
    """The Jina Rerank API as an ASGI app, for any server or for `httpx.ASGITransport`.

    It waits through anyio alone: asyncio, uvloop and trio all run it, and under trio's MockClock no time passes.

    Args:
        scorer: What gives the scores; `LexicalScorer()` by default.
        latency: Seconds that every ranking takes, beside the scorer's own time.
        serving: None plays the hosted API: a key is required, any that looks like one of Jina's is good, and
            the request names one of the catalogue's models. A model's name plays the on-prem container that
            serves this model: no key, and no name needed.

    Raises:
        ValueError: `latency` is not a finite number of seconds, the catalogue does not list `serving`, or the
            scorer's name does not fit into a header.
    """
    if not (math.isfinite(latency) and latency >= 0):
        raise ValueError("latency must be a finite number of seconds, 0 or more")
    emulator = _Emulator(scorer or LexicalScorer(), latency, deployment_for(serving))
    app = Starlette(
        routes=[
            Route("/v1/rerank", emulator.rerank, methods=["POST"]),
            Route("/rerank", emulator.rerank, methods=["POST"]),
            Route("/v1/models", emulator.list_models),
            Route("/v1/models/{name:path}", emulator.show_model),
        ],
        exception_handlers=dict.fromkeys((RefusedError, HTTPException, ClientDisconnect, RecursionError), _refuse),
    )
    app.router.redirect_slashes = False  # unknown paths get 404, as behind Jina's gateway
    return app


class WireResponse(JSONResponse):
    """JSON as the API writes it; it can hold whatever a request can, for requests are echoed."""

    def render(self, content: Any) -> bytes:
        """Compact UTF-8; NaN and infinities become null, half a surrogate pair stays an escape."""
        write = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
        try:
            text = write(content, allow_nan=False)
        except ValueError:
            text = write(json.loads(json.dumps(content), parse_constant=lambda _: None))
        return text.encode("utf-8", "backslashreplace")


class _Emulator:
    """The endpoints; a request is looked at in the order in which the API does it."""

    def __init__(self, scorer: Scorer, latency: float, deployment: Deployment) -> None:
        if not (scorer.name.isascii() and scorer.name.isprintable()):
            raise ValueError("a scorer's name must be printable ASCII")
        self._scorer = scorer
        self._latency = latency
        self._deployment = deployment

    async def rerank(self, request: Request) -> Response:
        self._deployment.authenticate(request.headers.get("authorization"))
        content_type = request.headers.get("content-type", "")
        body = parse_body(self._deployment.schema, content_type, await request.body())
        model = self._deployment.model(body.model)
        refuse_unsupported(body, model)
        await anyio.sleep(self._latency)
        return WireResponse(await self._rank(body, model), headers={"x-jina-emulator-scorer": self._scorer.name})

    async def _rank(self, body: RerankBody, model: Model) -> Mapping[str, object]:
        work = partial(rank, self._scorer, body, model)
        try:
            if self._scorer.blocking:
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
            return work()
        except RefusedError:
            raise
        except Exception as error:  # a scorer is anybody's code
            _LOG.exception("the scorer %r failed", self._scorer.name)
            raise internal_error() from error

    async def list_models(self, _: Request) -> Response:
        return WireResponse({"object": "list", "data": [_describe(model) for model in self._deployment.models()]})

    async def show_model(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        model = find_model(name)
        if model not in self._deployment.models():
            raise model_not_listed(name)
        return WireResponse(_describe(model))


def _describe(model: Model) -> dict[str, object]:
    """A model as `GET /v1/models` lists it: what the catalogue knows of it, under the API's names."""
    return {
        "id": f"jina-ai/{model.name}",
        "object": "model",
        "hugging_face_id": f"jinaai/{model.name}",
        "input_modalities": ["text", "image"] if model.images else ["text"],
        "context_length": model.context_tokens,
        "pricing": {"prompt": f"{model.price_per_million_tokens / 1e6:.8f}"},
    }


async def _refuse(_: Request, error: Exception) -> Response:
    match error:
        case RefusedError():
            return WireResponse(error.body, error.status)
        case HTTPException(status_code=status):
            refused = flat(status, "Invalid endpoint" if status == 404 else error.detail)
            return WireResponse(refused.body, status, headers=error.headers)
        case _:
            # The client hung up while it sent, or sent what can just be read but is nested too deeply to be echoed.
            return WireResponse(unreadable().body, 400)
