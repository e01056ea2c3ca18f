"""The emulator's ASGI app: `POST /v1/rerank`, `GET /v1/batches`, the models, and the request log."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypedDict, TypeVar, cast

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ..catalog import Model, find_model
from ..limits import RateLimit
from . import cohere
from .body import RerankBody, parse_body, read_body
from .deployments import Deployment, OnPrem, deployment_for
from .envelopes import RefusedError, internal_error, model_not_listed, unreadable
from .faults import FAULT_HEADER, Faults
from .latency import Latency
from .limits import KeyUsage
from .log import RequestLog, RequestLogEntry
from .ranking import Reading, answer, rank, read, refuse_images, refuse_unsupported
from .scorers import SCORER_HEADER, ScoreFunction, Scorer, as_scorer
from .scoring import embed, run, score, suited

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_Parse: TypeAlias = Callable[[str, bytes], RerankBody]
_Render: TypeAlias = Callable[[dict[str, object], int], dict[str, object]]
"""A function from a response body in Jina's format, and its billed tokens, to the body to send."""


class AppOptions(TypedDict, total=False):
    """The options of `create_app`, for functions that pass them on."""

    scorer: Scorer | ScoreFunction | None
    latency: float | Mapping[float, float]
    serving: str | None
    key_required: bool
    limits: RateLimit | None
    balance: int | None
    faults: Sequence[str]
    seed: int


def create_app(
    *,
    scorer: Scorer | ScoreFunction | None = None,
    latency: float | Mapping[float, float] = 0.0,
    serving: str | None = None,
    key_required: bool = True,
    limits: RateLimit | None = None,
    balance: int | None = None,
    faults: Sequence[str] = (),
    seed: int = 0,
) -> Starlette:
    """Return the Jina Rerank API as an ASGI app, for any server or for `httpx.ASGITransport`.

    It sleeps through anyio only: asyncio, uvloop and trio can run it, and under trio's MockClock no time passes.

    Args:
        scorer: The source of the scores, `LexicalScorer()` by default. A function of the query and the documents is
            accepted too.
        latency: Seconds added to every ranking, besides the scorer's own time; or seconds by percentile, such as
            `{50: 0.12, 95: 0.4, 99: 1.2}`, with linear interpolation between them.
        serving: None emulates the hosted API: it requires a key, accepts any that looks like one of Jina's, and
            requires the name of one of the catalogue's models. A model's name emulates the on-prem container of
            this model, which needs neither a key nor a name.
        key_required: Whether the emulated hosted API rejects requests without a key, or with one unlike Jina's. If
            False, requests without a key share one account.
        limits: The rate limits of each key, for example `TIERS["free"]`, over a sliding window of one minute; None
            disables them.
        balance: Tokens that each key may spend before it gets 403; None is unlimited.
        faults: The faults to inject, each as `kind[:probability[:seconds]]`: `"429:0.1"`, `"slow:0.05:2s"`.
            A request gets at most one. docs/emulator.md lists the kinds.
        seed: The seed of the random faults and latencies, which repeat for requests in the same order.

    Raises:
        ValueError: `latency` is not a finite number of seconds, `balance` is below 0, a fault is invalid, the
            catalogue does not list `serving`, `scorer` is not a scorer, or its name is not allowed in a header.
    """
    if balance is not None and balance < 0:
        raise ValueError("balance must be a number of tokens, 0 or more")
    accounts = defaultdict[str, KeyUsage](partial(KeyUsage, limits or RateLimit(), balance))
    deployment = deployment_for(serving, key_required=key_required)
    emulator = _Emulator(as_scorer(scorer), Latency(latency, seed), deployment, accounts, Faults(faults, seed))
    handlers = {RefusedError: _refuse, HTTPException: emulator.refuse_route}
    app = Starlette(routes=emulator.routes(), exception_handlers=handlers)
    # Jina's gateway answers 404 to unknown paths; FastAPI redirects those with a trailing slash to the known ones.
    app.router.redirect_slashes = isinstance(deployment, OnPrem)
    return app


class WireResponse(JSONResponse):
    """JSON as the API serializes it, for anything that a request can contain, since requests are echoed."""

    def render(self, content: Any) -> bytes:
        """Return compact UTF-8, with NaN and infinities as null and lone surrogates escaped."""
        write = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
        try:
            text = write(content, allow_nan=False)
        except ValueError:
            text = write(json.loads(json.dumps(content), parse_constant=lambda _: None))
        return text.encode("utf-8", "backslashreplace")


class _Emulator:
    """The endpoints, which check a request in the same order as the API."""

    def __init__(
        self,
        scorer: Scorer,
        latency: Latency,
        deployment: Deployment,
        accounts: defaultdict[str, KeyUsage],
        faults: Faults,
    ) -> None:
        self._scorer = scorer
        self._latency = latency
        self._deployment = deployment
        self._accounts = accounts
        self._faults = faults
        self._log = RequestLog()

    def routes(self) -> list[Route]:
        routes = [
            Route("/v1/rerank", self.rerank, methods=["POST"]),
            Route("/rerank", self.rerank, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.show_model),
            Route("/_emulator/requests", self.show_requests, methods=["GET", "DELETE"]),
        ]
        if not isinstance(self._deployment, OnPrem):
            return [*routes, Route("/v1/batches", self.list_batches)]
        cohere_route = Route("/v2/rerank", self.rerank_as_cohere, methods=["POST"])
        return [*routes, cohere_route, Route("/health", partial(_show, self._deployment.health()))]

    async def rerank(self, request: Request) -> Response:
        return await self._logged(request, partial(parse_body, self._deployment.schema), lambda jina, _: jina)

    async def rerank_as_cohere(self, request: Request) -> Response:
        try:
            return await self._logged(request, cohere.parse, cohere.render)
        except RefusedError as refused:
            raise cohere.refusal(refused) from None

    async def _logged(self, request: Request, parse: _Parse, render: _Render) -> Response:
        entry = RequestLogEntry(at=anyio.current_time())
        try:
            response = await self._answer(request, entry, parse, render)
            entry.status = response.status_code
        except (RefusedError, RecursionError) as error:
            # A body nested just shallowly enough to be parsed may be too deep to be echoed.
            refused = error if isinstance(error, RefusedError) else unreadable()
            entry.status, entry.code = refused.status, refused.code
            raise refused from None
        except ClientDisconnect:
            raise unreadable() from None  # no client is left to receive it
        finally:
            entry.seconds = anyio.current_time() - entry.at
            self._log.add(entry)
        return response

    async def _answer(self, request: Request, entry: RequestLogEntry, parse: _Parse, render: _Render) -> Response:
        fault = self._faults.draw(request.headers.get(FAULT_HEADER))
        if fault:
            entry.fault = fault.kind
            fault.refuse()
        entry.account = self._deployment.authenticate(request.headers.get("authorization"))
        body = parse(request.headers.get("content-type", ""), await read_body(request))
        model = self._deployment.model(body.model)
        entry.model, entry.documents = model.name, len(body.documents)
        if not model.images and not self._deployment.takes_any_image:
            refuse_images(body)
        refuse_unsupported(body, model)
        reading = await self._run(partial(read, self._scorer, body, model))
        entry.tokens = reading.total_tokens
        account = self._accounts[entry.account]
        with account.request(reading.total_tokens, anyio.current_time()):
            scorer = await self._run(partial(suited, self._scorer, reading.query, reading.documents))
            headers = account.remaining() | {SCORER_HEADER: scorer.name}
            await anyio.sleep(self._latency.draw())
            scores = await self._score(scorer, reading, model)
            ranking = await self._run(partial(rank, scores, len(reading.documents), body))
            ranked = [reading.documents[index] for index, _ in ranking if body.return_embeddings]
            jina = answer(reading, ranking, await self._embed(ranked), body, model)
            response = WireResponse(render(jina, reading.total_tokens), headers=headers)
            return await fault.spoil(response, request) if fault else response

    async def _score(self, scorer: Scorer, reading: Reading, model: Model) -> Iterable[float]:
        with self._scorer_errors_as_500():
            return await score(scorer, reading.query, reading.documents, listwise=model.scoring == "listwise")

    async def _embed(self, documents: Sequence[str]) -> list[list[float]]:
        with self._scorer_errors_as_500():
            return await embed(self._scorer, documents)

    async def _run(self, work: Callable[[], _T]) -> _T:
        with self._scorer_errors_as_500():
            return await run(self._scorer, work)

    @contextmanager
    def _scorer_errors_as_500(self) -> Generator[None]:
        """Answer 500 to whatever the scorer, which may be user code, raises, and log the traceback."""
        try:
            yield
        except RefusedError:
            raise
        except Exception as error:
            _LOG.exception("the scorer %r failed", self._scorer.name)
            raise internal_error() from error

    async def show_requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._log.clear()
        return WireResponse(self._log.to_dict())

    async def list_batches(self, request: Request) -> Response:
        """Return the key's batch jobs, always an empty list. Users list them to test a key free of charge."""
        account = self._deployment.authenticate(request.headers.get("authorization"))
        return WireResponse([], headers=self._accounts[account].remaining())

    async def list_models(self, _: Request) -> Response:
        return WireResponse({"object": "list", "data": [_describe(model) for model in self._deployment.models()]})

    async def show_model(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        model = find_model(name)
        if model not in self._deployment.models():
            raise model_not_listed(name)
        return WireResponse(_describe(model))

    async def refuse_route(self, _: Request, error: Exception) -> Response:
        unrouted = cast(HTTPException, error)
        refused = self._deployment.unrouted(unrouted.status_code, unrouted.detail)
        return WireResponse(refused.body, refused.status, headers=unrouted.headers)


async def _show(content: dict[str, object], _: Request) -> Response:
    return WireResponse(content)


def _describe(model: Model) -> dict[str, object]:
    """Return the catalogue's entry of a model under the field names of `GET /v1/models`."""
    return {
        "id": f"jina-ai/{model.name}",
        "object": "model",
        "hugging_face_id": f"jinaai/{model.name}",
        "input_modalities": ["text", "image"] if model.images else ["text"],
        "context_length": model.context_tokens,
        "pricing": {"prompt": f"{model.price_per_million_tokens / 1e6:.8f}"},
    }


async def _refuse(_: Request, error: Exception) -> Response:
    refused = cast(RefusedError, error)
    kind = HTMLResponse if isinstance(refused.body, str) else WireResponse
    return kind(refused.body, refused.status, refused.headers)
