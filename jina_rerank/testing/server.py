"""The emulator for tests: one server per session, with a new emulator behind it for each test."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._endpoint import resolve_endpoint
from .._typeguards import is_object
from ..emulator import AppOptions, Server, create_app
from ..emulator.faults import FAULT_HEADER, parse_fault
from .apps import RecordingApp, Replay
from .recordings import recording_path

_HOST: Final = "127.0.0.1"


@dataclass(slots=True)
class ReceivedRequest:
    """One completely received request to rerank."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case, the key included."""
    body: Any
    """Parsed JSON; a text if the body was not JSON."""
    status: int | None = None
    """The status of the response; None before it, or if the client disconnected."""

    @property
    def query(self) -> Any:
        """The query as sent."""
        return self._sent("query")

    @property
    def documents(self) -> Any:
        """The documents as sent: without blank ones and, if the model allows it, without duplicates."""
        return self._sent("documents")

    @property
    def model(self) -> Any:
        """The model's name."""
        return self._sent("model")

    @property
    def top_n(self) -> Any:
        """The number of requested results; the number of documents if all."""
        return self._sent("top_n")

    def _sent(self, name: str) -> Any:
        return self.body.get(name) if is_object(self.body) else None


class JinaEmulator:
    """The emulated API of one test."""

    url: str
    """`http://host:port`, the `base_url` for a client."""
    api_key: str
    """A key that the emulator accepts, unique to this test."""
    requests: list[ReceivedRequest]
    """All received requests to rerank, in order of arrival."""

    def __init__(self, url: str, api_key: str, app: ASGIApp) -> None:
        self.url = url
        self.api_key = api_key
        self.requests = []
        self._app = app
        self._faults: list[str] = []

    def fail_next(self, fault: str, *, times: int = 1) -> None:
        """Inject a fault into the next requests.

        Args:
            fault: The fault, in the syntax of docs/emulator.md: "503", "429:1:0.2", "slow:1:2s", "cut".
            times: The number of requests.

        Raises:
            ValueError: The fault is invalid, or the test is a recorded one.
        """
        if isinstance(self._app, Replay | RecordingApp):
            raise ValueError("fail_next: a recorded test gets the API's own answers; leave out its marker")  # noqa: TRY004  # the call is invalid, not the type
        parse_fault(fault)
        self._faults += [fault] * times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as an ASGI app."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # no client is left to receive a response
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        received = ReceivedRequest(scope["path"], headers, _parsed(body))
        self.requests.append(received)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                received.status = message["status"]
            await send(message)

        if self._faults:
            fault = self._faults.pop(0).encode()
            scope = {**scope, "headers": [*scope["headers"], (FAULT_HEADER.encode(), fault)]}
        await self._app(scope, _from_start(body, receive), send_noted)


class EmulatorServer:
    """The server of a session; `begin` starts a test with a new emulator behind it.

    Args:
        options: The options of `jina_rerank.emulator.create_app`.
        variable: Returns variables of the environment, which name the API to record; None replays recordings.

    Raises:
        ConfigurationError: A variable is invalid, or the key for the hosted API is missing.
        ValueError: As for `create_app`.
    """

    url: str
    """`http://host:port`, the same for the whole session."""

    def __init__(self, options: AppOptions, *, variable: Callable[[str], str | None] | None = None) -> None:
        self._upstream = (
            None if variable is None else resolve_endpoint(None, None, allow_insecure=False, variable=variable)
        )
        self._options = options
        self._numbers = count(1)
        self._recorded: Replay | RecordingApp | None = None
        # Session-scoped fixtures may send requests before the first test begins.
        self._current = JinaEmulator("", "", create_app(**options))

        async def serve_current(scope: Scope, receive: Receive, send: Send) -> None:
            await self._current(scope, receive, send)

        self._server = Server(serve_current, _HOST, 0)
        self.url = self._server.url

    def begin(self, recorded: tuple[Path, str] | None = None) -> JinaEmulator:
        """Return a new emulator without requests; for a recorded test, given by file and node id, its recording.

        Raises:
            ValueError: The recording cannot be read.
        """
        self._recorded = None if recorded is None else self._recorded_app(*recorded)
        api_key = (
            f"jina_test_{next(self._numbers)}"  # a new key, since clients share the limits that they learn for a key
        )
        self._current = JinaEmulator(self.url, api_key, self._recorded or create_app(**self._options))
        return self._current

    def end(self) -> str | None:
        """End the test; return the problem with its recording, or None."""
        return None if self._recorded is None else self._recorded.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    def _recorded_app(self, test_file: Path, node_id: str) -> Replay | RecordingApp:
        path = recording_path(test_file, node_id)
        return Replay(path, node_id) if self._upstream is None else RecordingApp(path, self._upstream)


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body; None if the client disconnects before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _from_start(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields the already read body again."""
    unread = [body]

    async def receive_again() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return receive_again


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
