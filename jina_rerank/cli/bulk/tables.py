"""The files of `jina-rerank bulk`: JSONL, CSV and Parquet, read and written one batch at a time."""

import csv
import gzip
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias, cast

from ..._typeguards import is_array, is_object
from ..console import json_line
from ..failures import CommandError, needing
from .rows import Record

Kind: TypeAlias = Literal["jsonl", "csv", "parquet"]

_KINDS: Final[Mapping[str, Kind]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_BATCH_SIZE: Final = 1_024
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns to read from a table. JSON lines are read with all their fields."""

    needed: Sequence[str]
    optional: Sequence[str] | None = ()
    """Columns to read if the table has them; None for all others."""
    as_json: Sequence[str] = ()
    """Columns whose CSV cells are parsed as JSON."""

    def of(self, name: str, found: Iterable[str]) -> list[str]:
        """Return the columns to read from the table of this name, which has the columns `found`.

        Raises:
            CommandError: A needed column is missing.
        """
        present = list(found)
        if missing := [column for column in self.needed if column not in present]:
            needed = ", ".join(self.needed)
            remedy = f"but {', '.join(present)}; rename one" if present else f"since it is empty; it needs {needed}"
            raise CommandError(f"{name} has no column {missing[0]!r}, {remedy}")
        return [column for column in present if self.optional is None or column in (*self.needed, *self.optional)]


@dataclass(frozen=True, slots=True)
class Table:
    """A file of records."""

    path: Path
    kind: Kind
    gzipped: bool
    name: str
    """The name to show in messages."""

    def open(self) -> IO[bytes]:
        """Open the file for reading, decompressed."""
        return cast(IO[bytes], gzip.open(self.path)) if self.gzipped else self.path.open("rb")


def table_at(path: Path) -> Table:
    """Return the table of a path, whose suffix sets the format.

    Raises:
        CommandError: The suffix is unknown, or the format needs an extra.
    """
    gzipped = path.suffix.lower() == ".gz"
    kind = _KINDS.get(path.with_suffix("").suffix.lower() if gzipped else path.suffix.lower())
    if kind is None or (gzipped and kind == "parquet"):
        raise CommandError(
            f"{path}: the format is unknown; name a file that ends in {', '.join(_KINDS)}, "
            "optionally followed by .gz, except for Parquet"
        )
    if kind == "parquet":
        _parquet()
    return Table(path, kind, gzipped, str(path))


@contextmanager
def opened(path: Path) -> Generator[Table]:
    """Yield the table of a path, or of stdin for `-`: JSON lines or CSV, copied to a file to be read more than once.

    Raises:
        CommandError: The suffix is unknown, or stdin is a terminal.
    """
    if str(path) != "-":
        yield table_at(path)
        return
    if sys.stdin.isatty():
        raise CommandError("where are the rows? Name a file, or pipe them in")
    with tempfile.TemporaryDirectory(prefix="jina-rerank-") as folder:
        copy = Path(folder) / "stdin"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield _detect_format(copy)


def _detect_format(path: Path) -> Table:
    with path.open("rb") as file:
        gzipped = file.read(2) == _GZIP_MAGIC
    table = Table(path, "jsonl", gzipped, "stdin")
    first = next((line for line in _lines(table) if line.strip()), b"{")
    return table if first.lstrip().startswith(b"{") else Table(path, "csv", gzipped, "stdin")


def read_records(table: Table, columns: Columns) -> Iterator[Record]:
    """Yield the records of a table. A line of JSONL that cannot be parsed becomes a record with a problem.

    Raises:
        CommandError: The table cannot be read, or lacks a needed column.
    """
    try:
        yield from _READERS[table.kind](table, columns)
    except (OSError, EOFError, zlib.error) as error:
        raise CommandError(f"{table.name} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def count_records(table: Table) -> int:
    """Return the number of records in a table."""
    if table.kind == "parquet":
        return int(_parquet().ParquetFile(table.path).metadata.num_rows)
    return sum(1 for _ in (_lines(table) if table.kind == "jsonl" else _read_csv(table, Columns(()))))


def write_table(
    path: Path, table: Table, columns: Sequence[str], results: Callable[[], Iterator[Mapping[str, Any]]]
) -> None:
    """Write the columns of results into `path`, in the format of `table`.

    `results` is called twice for Parquet, whose schema needs the type of the ids first.
    """
    if table.kind == "parquet":
        _write_parquet(path, columns, results)
        return
    with (
        path.open("wb") as file,
        _compressed(file, gzipped=table.gzipped) as whole,
        TextIOWrapper(whole, encoding="utf-8", newline="") as text,
    ):
        if table.kind == "jsonl":
            text.writelines(json_line(result) + "\n" for result in results())
            return
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows([_cell(result[name]) for name in columns] for result in results())


def _compressed(file: IO[bytes], *, gzipped: bool) -> IO[bytes]:
    # Without name and time, so that equal results give equal bytes.
    return cast(IO[bytes], gzip.GzipFile("", "wb", fileobj=file, mtime=0)) if gzipped else file


def _write_parquet(path: Path, columns: Sequence[str], results: Callable[[], Iterator[Mapping[str, Any]]]) -> None:
    pa: Any = import_module("pyarrow")
    ids_are_numbers = all(isinstance(result["id"], int) and abs(result["id"]) < 2**63 for result in results())
    kinds: Mapping[str, Any] = {
        "row": pa.int64(),
        "id": pa.int64() if ids_are_numbers else pa.string(),
        "indices": pa.list_(pa.int64()),
        "scores": pa.list_(pa.float64()),
        "documents": pa.list_(pa.string()),
        "tokens": pa.int64(),
        "request": pa.string(),
    }
    schema = pa.schema([(name, kinds[name]) for name in columns])
    with _parquet().ParquetWriter(path, schema) as writer:
        for batch in _batches(results()):
            rows = [_parquet_row(result, ids_are_numbers=ids_are_numbers) for result in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _parquet_row(result: Mapping[str, Any], *, ids_are_numbers: bool) -> dict[str, Any]:
    row = {**result, "id": _id(result["id"], as_number=ids_are_numbers)}
    if "documents" in row:  # the column holds texts, so other documents are stored as JSON
        row["documents"] = [one if isinstance(one, str) else json_line(one) for one in row["documents"]]
    return row


def _read_jsonl(table: Table, _: Columns) -> Iterator[Record]:
    for line in _lines(table):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Record({"line": line.decode("utf-8", "replace")}, f"the line is not JSON: {error}")
            continue
        if is_object(fields):
            yield Record(fields)
        else:
            yield Record({"line": fields}, "the line is not a JSON object")


def _lines(table: Table) -> Iterator[bytes]:
    with table.open() as file:
        for number, line in enumerate(file):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if content.strip():
                yield content


def _read_csv(table: Table, columns: Columns) -> Iterator[Record]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a list of documents may exceed csv's default of 128 KiB
    with table.open() as binary, TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        try:
            names = columns.of(table.name, reader.fieldnames or ())
            for fields in reader:
                yield _parse_cells({name: fields[name] for name in names}, columns.as_json)
        except (UnicodeDecodeError, csv.Error) as error:
            raise CommandError(f"{table.name} is not CSV in UTF-8, near line {reader.line_num + 1}: {error}") from None


def _parse_cells(cells: Mapping[str, str | None], as_json: Sequence[str]) -> Record:
    fields: dict[str, Any] = dict(cells)
    for name in cells:
        if name in as_json:
            try:
                fields[name] = json.loads(cells[name] or "null")
            except ValueError:
                return Record(cells, f"{name}: the cell is not JSON, such as" + ' ["one text", "another"]')
    return Record(fields)


def _read_parquet(table: Table, columns: Columns) -> Iterator[Record]:
    parquet = _parquet()
    try:
        with parquet.ParquetFile(table.path) as file:
            names = columns.of(table.name, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_BATCH_SIZE, columns=names):
                yield from map(Record, batch.to_pylist())
    except import_module("pyarrow").ArrowInvalid as error:
        raise CommandError(f"{table.name} is not a Parquet file: {error}") from None


_READERS: Final[Mapping[Kind, Callable[[Table, Columns], Iterator[Record]]]] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
}


def _parquet() -> Any:
    with needing("parquet"):
        # import_module, since pyarrow has no type annotations.
        return import_module("pyarrow.parquet")


def _cell(value: Any) -> Any:
    return json_line(value) if is_array(value) else value


def _id(value: Any, *, as_number: bool) -> Any:
    return value if value is None or as_number else str(value)


def _batches(results: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    while batch := list(islice(results, _BATCH_SIZE)):
        yield batch
