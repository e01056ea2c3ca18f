"""Reading documents: one a line, in UTF-8."""

import sys
from pathlib import Path

from .failures import CommandError


def read_documents(file: Path | None) -> list[str]:
    """The lines of a file, or of stdin for `-` and for None.

    Raises:
        CommandError: They cannot be read, or nobody has said where they are.
    """
    if file is None and sys.stdin.isatty():
        raise CommandError("where are the documents? Name a file with one document a line, or pipe them in")
    if file is None or str(file) == "-":
        return split_lines(sys.stdin.buffer.read(), "stdin")
    try:
        return split_lines(file.read_bytes(), str(file))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def split_lines(data: bytes, source: str) -> list[str]:
    """The lines of what was read from `source`. A blank line is a line; the end of the last one begins no other.

    Raises:
        CommandError: They are not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{source} is not UTF-8: line {number} has a byte that does not fit; convert it") from None
    # Not splitlines(): it would also split at form feeds and other characters that a document may hold.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
