"""Input of `rank`: one document per line, in UTF-8, or one field of each record of a table."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .bulk.tables import Columns, opened, read_records
from .failures import CommandError


def read_documents(file: Path | None) -> list[str]:
    """Return the lines of a file, or of stdin for `-` and for None.

    Raises:
        CommandError: The file cannot be read, or none is given and stdin is a terminal.
    """
    if file is None and sys.stdin.isatty():
        raise CommandError("where are the documents? Name a file with one document a line, or pipe them in")
    if file is None or str(file) == "-":
        return split_lines(sys.stdin.buffer.read(), "stdin")
    try:
        return split_lines(file.read_bytes(), str(file))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def read_fields(file: Path | None, field: str) -> list[Mapping[str, Any]]:
    """Return the records of a table, of which one field is the document. A null document counts as blank.

    Raises:
        CommandError: The table cannot be read, or the field is missing or not a text.
    """
    with opened(file or Path("-")) as table:
        found: list[Mapping[str, Any]] = []
        for number, record in enumerate(read_records(table, Columns((field,), optional=None)), 1):
            where = f"{table.name}, record {number}"
            if record.problem is not None:
                raise CommandError(f"{where}: {record.problem}")
            if field not in record.fields:
                raise CommandError(f"{where} has no field {field!r}, but {', '.join(record.fields)}")
            if not isinstance(record.fields[field], str | None):
                raise CommandError(f"{where}: the field {field!r} is not a text")
            found.append(record.fields)
        return found


def split_lines(data: bytes, source: str) -> list[str]:
    """Return the lines of `data`, blank ones included; a final line break does not begin another line.

    Raises:
        CommandError: The data is not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{source} is not UTF-8: line {number} has an invalid byte; convert it to UTF-8") from None
    # Not splitlines(), which also splits at form feeds and other characters that a document may contain.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
