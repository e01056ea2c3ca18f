"""One run of `jina-rerank bulk` at a time on an output: a lock that ends with its process, however that ends."""

import errno
import os
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from ..console import note
from ..failures import CommandError

_HELD: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""What the systems say of a lock that somebody else holds."""
_READING_SECONDS: Final = 1.0
"""How long a holder may take to write down who it is."""


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the lock of this file, which is made for it and deleted in the end.

    The system frees the lock when the process ends, a kill included; the file that a kill leaves locks nothing.

    Raises:
        CommandError: Another run holds it; the message says which.
    """
    file = _acquired(path)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file; what is left locks nothing
            path.unlink()  # before the lock is freed, so that it is no other run's
        file.close()


def _acquired(path: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in _HELD:
                file.close()
                holder = _holder(path)
                if holder is None:  # it has just ended
                    continue
                raise CommandError(
                    f"another run writes this output: {holder}; wait until it ends, or name another output"
                ) from None
            note(f"{path} cannot be locked ({error.strerror}): let no other run write this output")
        if _is_at(path, file):
            file.truncate(0)
            started = datetime.now(UTC).isoformat(" ", "seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {started}\n")
            file.flush()
            return file
        file.close()  # its last holder has deleted it in this moment


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str | None:
    """Who holds the lock, in its own words; None if it holds it no more."""
    last = time.monotonic() + _READING_SECONDS
    while True:
        try:
            text = path.read_text(encoding="utf-8").rstrip()
        except FileNotFoundError:
            return None
        if text or time.monotonic() > last:
            return text or "a process that does not say which it is"
        time.sleep(0.01)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        # One byte, far behind the text: nobody else could read what is locked.
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
