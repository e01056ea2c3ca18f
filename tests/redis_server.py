"""A real Redis or Valkey server in a separate process, which can be killed and restarted."""

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

import hiredis

from .processes import LONGEST_SECONDS

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """Keeps nothing on disk: after a restart it is empty."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="redis")  # a path short enough for a Unix domain socket
        self.path = str(Path(self.folder, "socket"))
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert BINARY
        command = [BINARY, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", self.folder, "--unixsocket", self.path, *self.options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        tick = threading.Event()
        for _ in range(LONGEST_SECONDS * 100):
            try:
                self.command("PING")
            except hiredis.ReplyError:  # a password is asked for
                return
            except OSError:
                if self._process.poll() is not None:
                    raise
            else:
                return
            tick.wait(0.01)
        raise TimeoutError("the server does not start")

    def kill(self) -> None:
        """End it without a word to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str | int) -> Any:
        """Send a command over the Unix domain socket and return its reply."""
        reader = hiredis.Reader(encoding="utf-8")
        packed = [str(word).encode() for word in words]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LONGEST_SECONDS)
            connection.connect(self.path)
            connection.sendall(b"*%d\r\n" % len(packed) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in packed))
            while (reply := reader.gets()) is False:
                data = connection.recv(2**16)
                if not data:
                    raise ConnectionResetError
                reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def exchanges(self) -> int:
        """How often the script has run."""
        statistics: str = self.command("INFO", "commandstats")
        lines = [line for line in statistics.splitlines() if line.startswith("cmdstat_eval")]
        return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)
