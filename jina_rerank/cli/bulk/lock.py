"""A lock that allows one run of `jina-rerank bulk` per output, and ends with its process even after a kill."""

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

_HELD_ERRNOS: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""The error numbers, across systems, for a lock that another process holds."""
_HOLDER_TIMEOUT_SECONDS: Final = 1.0
"""How long to wait for the holder to write its process and host into the file."""


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold a lock on this file, which is created for it and deleted afterwards.

    The operating system releases the lock when the process ends, even by a kill; a file left behind locks nothing.

    Raises:
        CommandError: Another run holds the lock; the message names its process.
    """
    file = _acquire(path)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows cannot delete an open file; a file left behind locks nothing
            path.unlink()  # before the lock is released, while the file cannot belong to another run
        file.close()


def _acquire(path: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in _HELD_ERRNOS:
                file.close()
                holder = _holder(path)
                if holder is None:  # released in the meantime
                    continue
                raise CommandError(
                    f"another run is writing this output: {holder}; wait until it ends, or name another output"
                ) from None
            note(f"{path} cannot be locked ({error.strerror}): do not start another run with this output")
        if _is_same_file(path, file):
            file.truncate(0)
            started = datetime.now(UTC).isoformat(" ", "seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {started}\n")
            file.flush()
            return file
        file.close()  # the last holder deleted it after it was opened


def _is_same_file(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str | None:
    """Return the description that the lock's holder has written; None if the lock was released."""
    give_up_at = time.monotonic() + _HOLDER_TIMEOUT_SECONDS
    while True:
        try:
            text = path.read_text(encoding="utf-8").rstrip()
        except FileNotFoundError:
            return None
        if text or time.monotonic() > give_up_at:
            return text or "an unidentified process"
        time.sleep(0.01)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        # One byte, far behind the text: other processes cannot read a locked range.
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
