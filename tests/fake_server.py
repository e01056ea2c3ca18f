"""A fake API behind `httpx.MockTransport`: it needs no socket, and records what arrives."""

import json
from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise
from typing import Any, ClassVar

import anyio
import httpx

from jina_rerank import RerankClient

from .servers import answer_body

OK = 200

Body = dict[str, Any]
"""The JSON body of a request."""

Reply = int | bytes | httpx.Response | Exception | tuple[float, "Reply"] | None
"""A status, the body of a 200, a response, an error to raise, any of these after some seconds, or no answer at all."""


def client_for(
    handler: Callable[[httpx.Request], Awaitable[httpx.Response]], api_key: str = "jina_key", **options: Any
) -> RerankClient:
    """Return a client whose requests `handler` answers."""
    transport = httpx.MockTransport(handler)  # type: ignore[arg-type]  # any awaitable will do
    return RerankClient(api_key, http_client=httpx.AsyncClient(transport=transport), **options)


class FakeServer:
    """Answers each request with `respond`, which subclasses override, and records all requests."""

    client_options: ClassVar[Mapping[str, Any]] = {}
    """Options of `client` unless a test passes others."""

    def __init__(self) -> None:
        self.arrival_times: list[float] = []
        self.bodies: list[Body] = []
        self.cancelled: list[int] = []
        """The numbers of the requests that were cancelled, from 0."""
        self.in_flight = 0
        self.max_in_flight = 0
        self._arrivals: dict[int, anyio.Event] = {}

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        number = self.request_count
        body = json.loads(request.content)
        self.arrival_times.append(anyio.current_time())
        self.bodies.append(body)
        if event := self._arrivals.get(self.request_count):
            event.set()
        if (refusal := self.refuse()) is not None:
            return refusal
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await self.respond(body, number)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(number)
            raise
        finally:
            self.in_flight -= 1

    def refuse(self) -> httpx.Response | None:
        """Return a response to send at once, which does not count as in flight; None admits the request."""
        return None

    async def respond(self, body: Body, number: int) -> httpx.Response:
        """Answer request `number`, counted from 0."""
        return httpx.Response(OK, content=answer_body(len(body["documents"])))

    @property
    def request_count(self) -> int:
        """Requests that have arrived."""
        return len(self.arrival_times)

    @property
    def intervals(self) -> list[float]:
        """Seconds between one arrival and the next."""
        return [later - earlier for earlier, later in pairwise(self.arrival_times)]

    @property
    def queries(self) -> list[str]:
        """The queries, in the order of arrival."""
        return [body["query"] for body in self.bodies]

    async def wait_for_requests(self, count: int) -> None:
        """Wait until `count` requests have arrived."""
        if self.request_count < count:
            await self._arrivals.setdefault(count, anyio.Event()).wait()

    def client(self, **options: Any) -> RerankClient:
        """Return a client of this server."""
        return client_for(self, **{**self.client_options, **options})


class ScriptedServer(FakeServer):
    """Plays one reply for each request, and repeats the last one."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__()
        self.replies = replies

    async def respond(self, body: Body, number: int) -> httpx.Response:
        return await self._play(self.replies[min(number, len(self.replies) - 1)], body, number)

    async def _play(self, reply: Reply, body: Body, number: int) -> httpx.Response:
        match reply:
            case None:
                await anyio.sleep_forever()
                raise AssertionError
            case Exception():
                raise reply
            case int():
                return self.response(reply, body, number)
            case bytes():
                return httpx.Response(OK, content=reply)
            case httpx.Response():  # a copy, since a response can be read only once
                return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
            case (seconds, outcome):
                await anyio.sleep(seconds)
                return await self._play(outcome, body, number)

    def response(self, status: int, body: Body, number: int) -> httpx.Response:
        """Return the response for a reply that is a status."""
        return httpx.Response(status, content=answer_body(len(body["documents"])) if status == OK else b"")
