"""The progress of `jina-rerank bulk` on disk: append-only lines, so that a kill at any point loses no settled row.

Each settled row has one line, in the order of the rows: in the journal if it was ranked, in the side file if it failed.
For JSONL the output itself is the journal; the other formats are written from the journal at the end. Rows that failed
and are ranked by a later run go to a separate journal, which is then merged: each file is replaced as a whole, in an
order such that a kill between two replacements leaves only lines that the next run recognizes as stale.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from ..._typeguards import is_object
from ..console import json_line
from ..failures import CommandError
from .rows import Row
from .tables import Columns, Table, read_records, write_table

_JSON_COLUMNS: Final = ("row", "indices", "scores", "documents", "tokens")
"""Columns that are JSON in the cells of CSV."""
_LINE_PREFIX: Final = b'{"row": '
"""The beginning of each line. A line without it, even a torn one, is not from this command."""


class Ledger:
    """The files of one output.

    Args:
        table: The output.
        with_documents: Whether its rows have documents.

    Raises:
        CommandError: The output exists, and is not from this command.
    """

    def __init__(self, table: Table, *, with_documents: bool) -> None:
        out = table.path
        self._out = out
        self._table = table
        self._columns = ["row", "id", "indices", "scores", *(["documents"] * with_documents), "tokens", "request"]
        self._is_table = table.kind != "jsonl" or table.gzipped
        self.journal: Path = _beside(out, ".journal.jsonl") if self._is_table else out
        self.failed_file: Path = _beside(out, ".failed.jsonl")
        self._retried_file = _beside(out, ".retried.jsonl")
        self.lock_file: Path = _beside(out, ".lock")
        """The lock that a run holds while it changes these files."""
        self._open: dict[Path, IO[bytes]] = {}
        self.settled: int = 0
        """The number of leading rows that are ranked or have failed."""
        self.failed: dict[int, bytes] = {}
        """The line of each failed row."""
        self.files: frozenset[Path] = frozenset(
            {out, self.journal, self.failed_file, self._retried_file, self.lock_file}
        )
        """All files that a run may write."""
        self._retried: dict[int, bytes] = {}
        self._unranked: dict[int, str] = {}
        """The digest of each settled row without a ranking: the row has failed, or its line is lost."""

    def match(self, rows: Iterable[Row]) -> None:
        """Find the settled ones among these rows. No file changes until all existing results have matched a row.

        Raises:
            CommandError: A result does not match its row.
        """
        restored = self._is_table and self._out.exists() and not self.journal.exists()
        results = self._results_of_table() if restored else _lines(self.journal)
        self._match(iter(rows), results)
        retried = {_row(line): line for line in _lines(self._retried_file)}
        # Lines that are already merged, or whose rows have changed since, are stale.
        self._retried = {
            row: retried[row] for row, digest in self._unranked.items() if _digest(retried.get(row)) == digest
        }
        if restored:
            _replace(self.journal, self._results_of_table())
        for path in (self.journal, self._retried_file):
            _make_appendable(path)
        self._write_failed()

    def to_retry(self) -> frozenset[int]:
        """Return the numbers of the rows that have failed and were not ranked since."""
        return frozenset(self._unranked) - frozenset(self._retried)

    def add(self, result: Mapping[str, Any]) -> None:
        """Append the result of a row: the next one, or one to retry."""
        line = json_line(result).encode() + b"\n"
        row, ranked = result["row"], "error" not in result
        if row < self.settled:
            if ranked:
                self._retried[row] = line
                self._append(self._retried_file, line)
            else:
                self.failed[row] = line
            return
        self._append(self.journal if ranked else self.failed_file, line)
        self.settled = row + 1
        if not ranked:
            self.failed[row] = line

    def merge(self) -> None:
        """Move the results of retried rows into the journal, in row order."""
        self.close()
        if self._retried:
            _replace(self.journal, _merged(_lines(self.journal), sorted(self._retried.items())))
        for row in self._retried:
            self.failed.pop(row, None)
        self._retried.clear()
        self._write_failed()
        self._retried_file.unlink(missing_ok=True)

    def finish(self) -> None:
        """Write the output from the journal, unless the journal is the output."""
        self.close()
        if not self._is_table:
            self.journal.touch()
            return
        new = _beside(self._out, ".new")
        write_table(new, self._table, self._columns, lambda: map(json.loads, _lines(self.journal)))
        new.replace(self._out)
        self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files; `add` reopens them."""
        while self._open:
            self._open.popitem()[1].close()

    def _results_of_table(self) -> Iterator[bytes]:
        columns = Columns(self._columns, as_json=_JSON_COLUMNS)
        for record in read_records(self._table, columns):
            if record.problem or not isinstance(record.fields.get("row"), int):
                raise _foreign(self._out)
            if missing := [name for name in self._columns if name not in record.fields]:
                raise CommandError(f"{self._out} has no {missing[0]!r}; name another output, or delete it")
            yield json_line({name: record.fields[name] for name in self._columns}).encode() + b"\n"

    def _match(self, rows: Iterator[Row], results: Iterator[bytes]) -> None:
        failures = _lines(self.failed_file)
        result, failure = next(results, None), next(failures, None)
        for row in rows:
            while failure is not None and _row(failure) < row.number:
                failure = next(failures, None)
            if result is not None and _row(result) == row.number:
                if _digest(result) != row.digest:
                    raise self._mismatch(
                        row.number, "the row was ranked with another id, text, model, or option such as --top-n"
                    )
                result = next(results, None)
            elif failure is not None and _row(failure) == row.number:
                # Retried even if the row is unchanged; it may have been corrected since.
                self.failed[row.number], self._unranked[row.number] = failure, row.digest
            elif result is not None:
                self._unranked[row.number] = row.digest  # the side file was deleted
            else:
                break
            self.settled = row.number + 1
        if result is not None:
            raise self._mismatch(_row(result), "it has a result for this row, which IN does not have")

    def _mismatch(self, row: int, why: str) -> CommandError:
        return CommandError(
            f"{self._out} does not match, at row {row}: {why}; name another output, or delete this one to start over"
        )

    def _write_failed(self) -> None:
        if self.failed:
            _replace(self.failed_file, (line for _, line in sorted(self.failed.items())))
        else:
            self.failed_file.unlink(missing_ok=True)

    def _append(self, path: Path, line: bytes) -> None:
        file = self._open.get(path)
        if file is None:
            file = self._open[path] = path.open("ab")
        file.write(line)
        file.flush()  # to the operating system, so that a kill of this process does not lose the line


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file.

    Raises:
        CommandError: A line is not from this command.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.startswith(_LINE_PREFIX[: len(line)]):
                raise _foreign(path)
            if line.endswith(b"\n"):
                yield line


def _foreign(path: Path) -> CommandError:
    return CommandError(f"{path} exists, and is not an output of this command; name another output, or delete it")


def _field(line: bytes, name: str) -> Any:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not is_object(value) or name not in value:
        raise CommandError(f"a line of the output is damaged: {line[:60]!r}; delete it, or name another output")
    return value[name]


def _row(line: bytes) -> int:
    return int(_field(line, "row"))


def _digest(line: bytes | None) -> str | None:
    return None if line is None else str(_field(line, "request"))


def _merged(lines: Iterator[bytes], others: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield the lines of both, in row order."""
    waiting = iter(others)
    other = next(waiting, None)
    for line in lines:
        while other is not None and other[0] < _row(line):
            yield other[1]
            other = next(waiting, None)
        yield line
    while other is not None:
        yield other[1]
        other = next(waiting, None)


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    new = _beside(path, ".new")
    with new.open("wb") as file:
        file.writelines(lines)
    new.replace(path)


def _make_appendable(path: Path) -> None:
    """Truncate an incomplete last line, left by a kill."""
    if not path.exists():
        return
    if path.stat().st_nlink > 1:
        # The other hard link may be a backup, or the output of another run, and must not change.
        _replace(path, _lines(path))
        return
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        tail = b""
        while end - len(tail) > 0 and b"\n" not in tail:
            start = max(0, end - len(tail) - 65_536)
            file.seek(start)
            tail = file.read(end - start)
        file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)
