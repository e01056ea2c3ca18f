"""`jina-rerank bulk`: ranks each row of a file, and resumes when it is called again."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..._config import DEFAULT_DEADLINE, DEFAULT_MAX_DOCUMENTS, DEFAULT_TIMEOUT
from ...catalog import DEFAULT_MODEL
from ...sync import SyncRerankClient
from ..console import note, warnings_noted
from ..failures import CommandError, reporting_errors, writing
from ..server import (
    AllowInsecure,
    ApiKeyVariable,
    BaseUrl,
    Local,
    MaxDocLength,
    MaxDocuments,
    ModelOption,
    ScoringOption,
    ServerOptions,
    Timeout,
)
from .ledger import Ledger
from .lock import locked
from .rows import RankingArguments, Row, number_rows
from .run import rank_rows
from .screen import progress_bar, spent
from .tables import Columns, Table, count_records, opened, read_records, table_at


@reporting_errors
def bulk(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Rows with query, documents and an optional id: .jsonl, .csv or .parquet; - for stdin.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File for the rankings; its suffix sets the format.")],
    *,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", min=1, help="Keep only the best N documents.")] = None,
    query_column: Annotated[str, typer.Option(metavar="NAME", help="The column of queries.")] = "query",
    documents_column: Annotated[
        str, typer.Option(metavar="NAME", help="The column of lists of documents.")
    ] = "documents",
    with_documents: Annotated[
        bool, typer.Option("--with-documents", help="Write the ranked documents to OUT too, best first.")
    ] = False,
    model: ModelOption = DEFAULT_MODEL,
    max_concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Concurrent requests; by default as many as the server accepts, up to 100."),
    ] = None,
    max_documents: MaxDocuments = DEFAULT_MAX_DOCUMENTS,
    max_doc_length: MaxDocLength = None,
    scoring: ScoringOption = None,
    base_url: BaseUrl = None,
    api_key_variable: ApiKeyVariable = None,
    allow_insecure: AllowInsecure = False,
    local: Local = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    deadline: Annotated[float, typer.Option(help="Seconds for one row, retries included.")] = DEFAULT_DEADLINE,
) -> None:
    """Rank the documents of each row of a file.

    After an interruption or a kill, the same command resumes the work. Failed
    rows go to OUT.failed.jsonl with their errors; the same command retries
    them.
    """
    server = ServerOptions(
        base_url=base_url,
        api_key_variable=api_key_variable,
        allow_insecure=allow_insecure,
        local=local,
        model=model,
        timeout=timeout,
        deadline=deadline,
        max_documents=max_documents,
        scoring=scoring,
    )
    other_options = {
        "max_documents": max_documents if max_documents != DEFAULT_MAX_DOCUMENTS else None,
        "scoring": scoring,
        "with_documents": with_documents,
    }
    ranking = RankingArguments(
        model=model,
        top_n=top_n,
        local=local,
        max_doc_length=max_doc_length,
        others=other_options,
        query=query_column,
        documents=documents_column,
    )
    with writing(out):
        ledger = Ledger(table_at(_resolved(out)), with_documents=with_documents)
        _check(source, out, ledger)
    with (
        opened(source) as table,
        writing(out),
        locked(ledger.lock_file),
        warnings_noted(),
        server.open_client() as client,
    ):
        _work(_Work(client, table, ranking, max_concurrency, with_documents), ledger)
    if ledger.failed:
        raise typer.Exit(1)


def _resolved(out: Path) -> Path:
    """Return the target of a link, so that two names of one output share its side files and its lock."""
    try:
        file = out.resolve() if out.is_symlink() else out
    except RuntimeError:
        raise CommandError(f"{out} cannot be written: its links form a loop") from None
    _check_kind(file)
    return file


def _check_kind(file: Path) -> None:
    if file.exists() and not file.is_file():
        kind = "Is a directory" if file.is_dir() else "Is a pipe or a device"
        raise CommandError(f"{file} cannot be written: {kind}; name a regular file, since bulk reads it again")


def _check(source: Path, out: Path, ledger: Ledger) -> None:
    status = None
    with suppress(OSError):  # reading reports a missing file; stdin may have no descriptor
        status = os.fstat(sys.stdin.fileno()) if str(source) == "-" else source.stat()
    if status is not None and str(source) != "-" and not stat.S_ISREG(status.st_mode):
        raise CommandError(
            f"{source} is not a regular file, and bulk reads IN more than once; pipe it in, with - as IN"
        )
    if status is not None and any(file.exists() and os.path.samestat(status, file.stat()) for file in ledger.files):
        raise CommandError("IN and OUT are the same file, or IN is a side file of OUT; name another output")
    if not ledger.lock_file.parent.is_dir():
        raise CommandError(f"{out.parent} is not a directory: create it, or name another output")
    for file in ledger.files:
        _check_kind(file)


@dataclass(frozen=True, slots=True)
class _Work:
    client: SyncRerankClient
    table: Table
    ranking: RankingArguments
    max_concurrency: int | None
    with_documents: bool

    def rows(self) -> Iterator[Row]:
        needed = (self.ranking.query, self.ranking.documents)
        columns = Columns(needed, optional=("id",), as_json=(self.ranking.documents,))
        return number_rows(read_records(self.table, columns), self.ranking)

    def rank(self, selected: Callable[[int], bool], settle: Callable[[Mapping[str, Any]], None]) -> str | None:
        """Rank the rows whose numbers are selected; return the scorer if an emulator answered."""
        rows = (row for row in self.rows() if selected(row.number))
        return rank_rows(
            self.client, rows, settle, max_concurrency=self.max_concurrency, with_documents=self.with_documents
        )


def _work(work: _Work, ledger: Ledger) -> None:
    """Rank the rows that have failed before, then the remaining ones."""
    ledger.match(work.rows())
    retried, begin = ledger.to_retry(), ledger.settled
    ranked = begin - len(retried)
    if begin:
        failed_before = f", failed and retried: {len(retried):,}" if retried else ""
        note(f"already ranked: {ranked:,}{failed_before}")

    with progress_bar(lambda: count_records(work.table), lambda: work.client.totals, ranked) as advance:

        def settle(result: Mapping[str, Any]) -> None:
            ledger.add(result)
            advance(len(ledger.failed))

        scorer = None
        try:
            if retried:
                scorer = work.rank(retried.__contains__, settle)
            ledger.merge()
            scorer = work.rank(lambda number: number >= begin, settle) or scorer
        finally:
            ledger.close()
    ledger.finish()
    if scorer is not None:
        note(f"scored by the emulator ({scorer}), not by Jina's model")
    note(f"rows: {ledger.settled:,}, failed: {len(ledger.failed):,}; {spent(work.client.totals)}")
    if ledger.failed:
        note(f"the failed rows are in {ledger.failed_file}; run the same command to retry them")
