"""The emulator as tests use it: one server for a session, and in each test a new emulator behind it."""

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
    """One request to rerank that has arrived whole."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case. The key is in them."""
    body: Any
    """Parsed JSON; a text if it was none."""
    status: int | None = None
    """The status it was answered with; None before that, and if nobody waited for the answer."""

    @property
    def query(self) -> Any:
        """The query, as it was sent."""
        return self._sent("query")

    @property
    def documents(self) -> Any:
        """The documents, as they were sent: without blank ones, and with equal ones once where the model allows it."""
        return self._sent("documents")

    @property
    def model(self) -> Any:
        """The model's name."""
        return self._sent("model")

    @property
    def top_n(self) -> Any:
        """How many were asked for; the number of documents if all."""
        return self._sent("top_n")

    def _sent(self, name: str) -> Any:
        return self.body.get(name) if is_object(self.body) else None


class JinaEmulator:
    """The API as one test sees it."""

    url: str
    """`http://host:port`: what a client takes as `base_url`."""
    api_key: str
    """A key that the emulator takes, and that no other test has used."""
    requests: list[ReceivedRequest]
    """All requests to rerank that were received, in the order in which they came."""

    def __init__(self, url: str, api_key: str, app: ASGIApp) -> None:
        self.url = url
        self.api_key = api_key
        self.requests = []
        self._app = app
        self._faults: list[str] = []

    def fail_next(self, fault: str, *, times: int = 1) -> None:
        """Lets the next requests go wrong.

        Args:
            fault: How, in the words of docs/emulator.md: "503", "429:1:0.2", "slow:1:2s", "cut".
            times: How many of them.

        Raises:
            ValueError: There is no such fault, or the answers come from a recording.
        """
        if isinstance(self._app, Replay | RecordingApp):
            raise ValueError("fail_next: a recorded test gets the API's own answers; leave out its marker")  # noqa: TRY004  # the value is what is wrong
        parse_fault(fault)
        self._faults += [fault] * times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, as an ASGI app."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # to nobody
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
    """The server for a session; each test `begin`s with a new emulator behind it.

    Args:
        options: Those of `jina_rerank.emulator.create_app`.
        variable: Looks up variables of the environment, which name the API to record; None replays recordings.

    Raises:
        ConfigurationError: A variable breaks a rule, or there is no key for the hosted API.
        ValueError: As `create_app`.
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
        # Before the first test begins, session-wide fixtures may ask already.
        self._current = JinaEmulator("", "", create_app(**options))

        async def serve_current(scope: Scope, receive: Receive, send: Send) -> None:
            await self._current(scope, receive, send)

        self._server = Server(serve_current, _HOST, 0)
        self.url = self._server.url

    def begin(self, recorded: tuple[Path, str] | None = None) -> JinaEmulator:
        """A new emulator, that has seen no request; of a recorded test with file and node id: its recording.

        Raises:
            ValueError: The recording cannot be read.
        """
        self._recorded = None if recorded is None else self._recorded_app(*recorded)
        api_key = f"jina_test_{next(self._numbers)}"  # clients share what they learn of a key
        self._current = JinaEmulator(self.url, api_key, self._recorded or create_app(**self._options))
        return self._current

    def end(self) -> str | None:
        """Ends the test; says why its recording does not do, if so."""
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
    """The whole body; None if the client has gone before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _from_start(body: bytes, receive: Receive) -> Receive:
    """`receive`, with what was read of it once more."""
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
