"""The emulator on a socket, in a thread of its own: beside a test, or with the command line waiting for it."""

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
_TICK: Final = 1.0  # Windows sees Ctrl-C only between two waits
_RECEIVE_TIMEOUT: Final = 30.0


class Server:
    """A running emulator; leave the `with` block or call `close()` to end it."""

    url: str
    """`http://host:port`, without a path: what a client takes as `base_url`."""

    def __init__(self, app: ASGIApp, host: str, port: int, *, receive_timeout: float = _RECEIVE_TIMEOUT) -> None:
        listener = _listen(host, port)
        self.url = _url(listener)
        ready = threading.Event()
        self._uvicorn = _Uvicorn(app, ready.set, receive_timeout)
        self._failure: BaseException | None = None
        # A daemon, so that a server nobody closed does not keep the interpreter from ending.
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
        """Stop serving at once: requests in flight see their connection close. Closing twice is fine.

        A scorer at work in a worker thread cannot be stopped; that thread ends when its scores are done.
        """
        self._uvicorn.should_exit = True
        self._thread.join(_STOP_TIMEOUT)

    def wait(self) -> None:
        """Return when it has been closed; Ctrl-C interrupts the waiting.

        Raises:
            RuntimeError: It ended by itself.
        """
        while self._thread.is_alive():
            self._thread.join(_TICK)
        if self._failure:
            raise RuntimeError("the emulator failed") from self._failure

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        try:
            with listener:
                anyio.run(self._uvicorn.serve, [listener])  # loads anyio's back end now, not in the first request
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
    """Start the emulator in a thread of its own and return once it answers.

    with serve() as server:
        httpx.post(f"{server.url}/v1/rerank", ...)

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        receive_timeout: Seconds in which a request must arrive whole; then its connection is closed.
        options: Those of `create_app`.

    Raises:
        OSError: The address is taken or not this machine's.
        RuntimeError: The server did not start within 10 seconds.
        ValueError: As `create_app`.
    """
    return Server(create_app(**options), host, port, receive_timeout=receive_timeout)


def run(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
    **options: Unpack[AppOptions],
) -> None:
    """Serve in the foreground until Ctrl-C, and return then; SIGTERM ends the process as usual.

    It prints nothing; `on_ready` is called with the URL once the emulator answers. Requests in flight when it
    ends see their connection close. Host, port and options are those of `serve`.

    Raises:
        OSError: The address is taken or not this machine's.
        RuntimeError: The server did not start within 10 seconds, or failed.
        ValueError: As `create_app`.
    """
    # In a thread of its own here too: what a scorer computes in worker threads of the main one would delay the exit.
    with contextlib.suppress(KeyboardInterrupt), Server(create_app(**options), host, port) as server:
        if on_ready:
            on_ready(server.url)
        server.wait()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that queues connections already, so that a client may come before the event loop does."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server((str(address[0]), int(address[1])), family=family, backlog=2048)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Uvicorn(uvicorn.Server):
    """uvicorn that tells when it is ready and, when it ends, waits for nobody."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], object], receive_timeout: float) -> None:
        # The plain event loop and h11: the same server wherever the tests run. Handlers are left to the program.
        config = uvicorn.Config(
            app,
            # uvicorn calls it, and looks at nothing else of a class.
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
    """HTTP/1.1 on one connection, which the app may end, and which ends if a request does not arrive whole."""

    def __init__(self, *, receive_timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self._receive_timeout = receive_timeout
        self._receive_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        # asyncio sets it only on sockets that name their protocol, which `socket.create_server` leaves at 0. Without it
        # the body of an answer waits for the acknowledgement of its headers, which clients delay by 40 ms.
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
        """Let the timer run while a request is expected, or has arrived in part."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_watching()
        elif self._receive_timer is None:
            self._receive_timer = self.loop.call_later(self._receive_timeout, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None


def _on_connection(app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
    """The app on one connection, with the extension HANG_UP."""

    def hang_up(*, reset: bool) -> None:
        if transport.is_closing():  # the client has hung up before
            return
        if not reset:
            transport.close()  # when all that was written is sent
            return
        # Without lingering, closing a socket is a reset.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def serve_request(scope: Scope, receive: Receive, send: Send) -> None:
        # A request that the server cancels ends quietly; uvicorn would log a traceback.
        with contextlib.suppress(asyncio.CancelledError):
            await app({**scope, "extensions": {**scope.get("extensions", {}), HANG_UP: hang_up}}, receive, send)

    return serve_request
