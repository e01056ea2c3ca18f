"""The files of `jina-rerank bulk`: JSONL, CSV and Parquet, read and written one batch at a time."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

from .._narrow import is_object
from .bulk_rows import COLUMNS, Record
from .failures import CommandError, needing

RESULT_COLUMNS: Final = ("row", "id", "indices", "scores", "tokens", "request")
"""What there is of each row that was ranked, in all formats."""

_LISTS: Final = ("documents", "indices", "scores")
"""Columns that are JSON in the cells of CSV, which has no lists."""
_NUMBERS: Final = ("row", "tokens")
_BATCH: Final = 1_024


def file_format(path: Path) -> str:
    """The format that a file's name tells: `jsonl`, `csv` or `parquet`.

    Raises:
        CommandError: It tells none.
    """
    known = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
    if path.suffix.lower() not in known:
        raise CommandError(f"{path}: the name must end in {', '.join(known)}, which tells the format")
    return known[path.suffix.lower()]


def read_records(path: Path, columns: Sequence[str] = COLUMNS) -> Iterator[Record]:
    """The records of a file.

    Raises:
        CommandError: It cannot be read, or has no such columns. A line of JSONL that cannot be read is a record with a
            problem instead.
    """
    try:
        yield from _READERS[file_format(path)](path, columns)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}") from None


def count_records(path: Path) -> int:
    """How many records a file has."""
    if file_format(path) == "parquet":
        return int(_parquet().ParquetFile(path).metadata.num_rows)
    return sum(1 for _ in read_records(path)) if file_format(path) == "csv" else sum(1 for _ in _lines(path))


def write_table(path: Path, kind: str, results: Callable[[], Iterator[Mapping[str, Any]]]) -> None:
    """Writes results as CSV or Parquet. `results` is called twice, since Parquet wants to know the type of the ids."""
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(RESULT_COLUMNS)
            writer.writerows([_cell(result[name]) for name in RESULT_COLUMNS] for result in results())
        return
    pa: Any = import_module("pyarrow")
    ids_are_numbers = all(isinstance(result["id"], int) and abs(result["id"]) < 2**63 for result in results())
    kinds = (pa.int64(), pa.int64() if ids_are_numbers else pa.string(), pa.list_(pa.int64()), pa.list_(pa.float64()))
    schema = pa.schema(list(zip(RESULT_COLUMNS, (*kinds, pa.int64(), pa.string()), strict=True)))
    with _parquet().ParquetWriter(path, schema) as writer:
        for batch in _batches(results()):
            rows = [{**result, "id": _id(result["id"], as_number=ids_are_numbers)} for result in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def needing_format(path: Path) -> None:
    """Says so where a file is of a format that is not installed.

    Raises:
        CommandError: It is Parquet, and pyarrow is not there.
    """
    if file_format(path) == "parquet":
        _parquet()


def _read_jsonl(path: Path, _: Sequence[str]) -> Iterator[Record]:
    for line in _lines(path):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Record({"line": line.decode("utf-8", "replace")}, f"the line is not JSON: {error}")
            continue
        if is_object(fields):
            yield Record(fields)
        else:
            yield Record({"line": fields}, "the line is not a JSON object")


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if content.strip():
                yield content


def _read_csv(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a list of documents is longer than the 128 KiB that csv expects
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        try:
            _check_columns(path, reader.fieldnames or (), columns)
            for fields in reader:
                yield _of_cells({name: fields[name] for name in columns})
        except (UnicodeDecodeError, csv.Error) as error:
            raise CommandError(f"{path} is no CSV in UTF-8, near line {reader.line_num + 1}: {error}") from None


def _of_cells(cells: Mapping[str, str | None]) -> Record:
    fields: dict[str, Any] = dict(cells)
    for name in cells:
        if name in _LISTS or name in _NUMBERS:
            try:
                fields[name] = json.loads(cells[name] or "null")
            except ValueError:
                return Record(cells, f"{name}: the cell is not JSON, such as" + ' ["one text", "another"]')
    return Record(fields)


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    parquet = _parquet()
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(columns)):
                yield from map(Record, batch.to_pylist())
    except import_module("pyarrow").ArrowInvalid as error:
        raise CommandError(f"{path} is no Parquet file: {error}") from None


_READERS: Final[Mapping[str, Callable[[Path, Sequence[str]], Iterator[Record]]]] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
}


def _check_columns(path: Path, found: Iterable[str], wanted: Sequence[str]) -> None:
    present = list(found)
    if missing := [name for name in wanted if name not in present]:
        there = f"but {', '.join(present)}; rename one" if present else f"for it is empty; it needs {', '.join(wanted)}"
        raise CommandError(f"{path} has no column {missing[0]!r}, {there}")


def _parquet() -> Any:
    with needing("parquet"):
        # By name, since pyarrow has no types.
        return import_module("pyarrow.parquet")


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _id(value: Any, *, as_number: bool) -> Any:
    return value if value is None or as_number else str(value)


def _batches(results: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    while batch := list(islice(results, _BATCH)):
        yield batch
