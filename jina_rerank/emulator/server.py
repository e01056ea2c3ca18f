"""The emulator as an HTTP server in a background thread, for tests and the command line."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, Unpack, cast

import anyio
import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .app import AppOptions, create_app
from .faults import HANG_UP

_START_TIMEOUT: Final = 10.0
_STOP_TIMEOUT: Final = 10.0
_JOIN_INTERVAL: Final = 1.0  # Windows handles Ctrl-C only between two waits
_RECEIVE_TIMEOUT: Final = 30.0


class Server:
    """A running emulator; leave the `with` block or call `close()` to stop it."""

    url: str
    """`http://host:port`, without a path: the `base_url` for a client."""

    def __init__(self, app: ASGIApp, host: str, port: int, *, receive_timeout: float = _RECEIVE_TIMEOUT) -> None:
        listener = _listen(host, port)
        self.url = _url(listener)
        ready = threading.Event()
        self._uvicorn = _Uvicorn(app, ready.set, receive_timeout)
        self._failure: BaseException | None = None
        # A daemon, so that an unclosed server does not prevent the interpreter from exiting.
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name="jina-rerank-emulator", daemon=True
        )
        self._thread.start()
        if not ready.wait(_START_TIMEOUT) or not self._uvicorn.started:
            self.close()
            raise RuntimeError("the emulator did not start") from self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving immediately; the connections of requests in flight are closed. Idempotent.

        A scorer running in a worker thread cannot be cancelled; the thread ends when its scores are done.
        """
        self._uvicorn.should_exit = True
        self._thread.join(_STOP_TIMEOUT)

    def wait(self) -> None:
        """Block until the server is closed; Ctrl-C interrupts it.

        Raises:
            RuntimeError: The server failed.
        """
        while self._thread.is_alive():
            self._thread.join(_JOIN_INTERVAL)
        if self._failure:
            raise RuntimeError("the emulator failed") from self._failure

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        try:
            with listener:
                anyio.run(self._uvicorn.serve, [listener])  # anyio loads its backend now, not in the first request
        except BaseException as error:  # noqa: BLE001  (uvicorn reports a failed start with SystemExit)
            self._failure = error
        finally:
            ready.set()


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    receive_timeout: float = _RECEIVE_TIMEOUT,
    **options: Unpack[AppOptions],
) -> Server:
    """Start the emulator in a background thread and return once it accepts requests.

    with serve() as server:
        httpx.post(f"{server.url}/v1/rerank", ...)

    Args:
        host: The address to listen on.
        port: The port; 0 picks a free one.
        receive_timeout: Seconds within which a request must arrive completely, or else its connection is closed.
        options: Those of `create_app`.

    Raises:
        OSError: The address is in use or does not belong to this machine.
        RuntimeError: The server did not start within 10 seconds.
        ValueError: As for `create_app`.
    """
    return Server(create_app(**options), host, port, receive_timeout=receive_timeout)


def run(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
    **options: Unpack[AppOptions],
) -> None:
    """Serve in the foreground and return on Ctrl-C; SIGTERM ends the process as usual.

    Prints nothing, but calls `on_ready` with the URL once the emulator accepts requests. The connections of requests in
    flight are closed at the end. Host, port and options are those of `serve`.

    Raises:
        OSError: The address is in use or does not belong to this machine.
        RuntimeError: The server did not start within 10 seconds, or failed.
        ValueError: As for `create_app`.
    """
    # Also in a background thread: worker threads of an event loop in the main thread would delay the exit.
    with contextlib.suppress(KeyboardInterrupt), Server(create_app(**options), host, port) as server:
        if on_ready:
            on_ready(server.url)
        server.wait()


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, which queues connections until the event loop accepts them."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server((str(address[0]), int(address[1])), family=family, backlog=2048)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Uvicorn(uvicorn.Server):
    """A uvicorn server with a callback when it is ready, and without a graceful shutdown."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], object], receive_timeout: float) -> None:
        # The standard event loop and h11, so that tests run the same server everywhere; log handlers stay unchanged.
        config = uvicorn.Config(
            app,
            # uvicorn only calls it, and uses no other attribute of the class.
            http=cast("type[asyncio.Protocol]", partial(_Protocol, receive_timeout=receive_timeout)),
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """HTTP/1.1 on one connection, which the app can close, and which times out while it waits for a request."""

    def __init__(self, *, receive_timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self._receive_timeout = receive_timeout
        self._receive_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        # asyncio sets it only on sockets with an explicit protocol number, which `socket.create_server` leaves at 0.
        # Without it a response body waits for the acknowledgement of its headers, which clients delay by 40 ms.
        connection.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(connection)
        self.app = _on_connection(self.app, connection)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()

    def _watch(self) -> None:
        """Run the timer only while a request is expected or partly received."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_watching()
        elif self._receive_timer is None:
            self._receive_timer = self.loop.call_later(self._receive_timeout, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None


def _on_connection(app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
    """Return the app for one connection, with the extension HANG_UP."""

    def hang_up(*, reset: bool) -> None:
        if transport.is_closing():  # the client has already disconnected
            return
        if not reset:
            transport.close()  # after flushing
            return
        # With a linger time of 0, closing a socket resets the connection.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def serve_request(scope: Scope, receive: Receive, send: Send) -> None:
        # Suppressed, since uvicorn would log a traceback for each request cancelled at shutdown.
        with contextlib.suppress(asyncio.CancelledError):
            await app({**scope, "extensions": {**scope.get("extensions", {}), HANG_UP: hang_up}}, receive, send)

    return serve_request
