"""`jina-rerank bulk`: ranks each row of a file, and goes on where it was when it is called again."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..catalog import DEFAULT_MODEL
from ..options import DEFAULT_DEADLINE, DEFAULT_TIMEOUT
from ..sync import SyncRerankClient
from .bulk_ledger import Ledger
from .bulk_rows import Row, number_rows
from .bulk_run import rank_rows
from .bulk_screen import progress_bar, spent
from .bulk_tables import count_records, needing_format, read_records
from .console import note, warnings_noted
from .failures import CommandError, ends_clearly, writing
from .local import BaseUrl, Local, Model, Timeout, client_for


@ends_clearly
def bulk(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Rows with id, query and documents: .jsonl, .csv or .parquet.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the rankings go; its name tells the format.")],
    *,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", min=1, help="How many of the best to keep.")] = None,
    model: Model = DEFAULT_MODEL,
    max_concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="How many requests at once; by default as many as the server takes, up to 100."),
    ] = None,
    base_url: BaseUrl = None,
    local: Local = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    deadline: Annotated[float, typer.Option(help="Seconds for one row, retries included.")] = DEFAULT_DEADLINE,
) -> None:
    """Rank the documents of each row of a file.

    When it was interrupted, or killed, the same command goes on where it was.
    Rows that fail go to OUT.failed.jsonl with their error; the same command
    tries them again.
    """
    for file in (source, out):
        needing_format(file)
    ledger = Ledger(out)
    _check(source, out, ledger)

    def rows() -> Iterator[Row]:
        return number_rows(read_records(source), model=model, top_n=top_n, local=local)

    with (
        warnings_noted(),
        client_for(base_url, local=local, model=model, timeout=timeout, deadline=deadline) as client,
        writing(out),
    ):
        _work(client, rows, lambda: count_records(source), ledger, max_concurrency=max_concurrency)
    if ledger.failed:
        raise typer.Exit(1)


def _check(source: Path, out: Path, ledger: Ledger) -> None:
    if source.exists() and not source.is_file():
        raise CommandError(f"{source} is no file, which IN must be: it is read more than once")
    if source.exists() and any(file.exists() and source.samefile(file) for file in ledger.files):
        raise CommandError("IN and OUT are the same file, or IN is one that belongs to OUT; name another output")
    if not out.parent.is_dir():
        raise CommandError(f"{out.parent} is no folder: make it, or name another output")


def _work(
    client: SyncRerankClient,
    rows: Callable[[], Iterator[Row]],
    count: Callable[[], int],
    ledger: Ledger,
    *,
    max_concurrency: int | None,
) -> None:
    """Ranks what is not ranked yet."""
    ledger.match(rows())
    again, begin = ledger.to_retry(), ledger.settled
    if begin:
        failed_before = f", failed and tried again: {len(again):,}" if again else ""
        note(f"ranked already: {begin - len(again):,}{failed_before}")
    with progress_bar(count, lambda: client.totals, begin - len(again)) as advance:

        def settle(result: Mapping[str, Any]) -> None:
            ledger.add(result)
            advance(len(ledger.failed))

        scorer = None
        try:
            if again:
                to_retry = (row for row in rows() if row.number in again)
                scorer = rank_rows(client, to_retry, settle, max_concurrency=max_concurrency)
            ledger.merge()
            rest = (row for row in rows() if row.number >= begin)
            scorer = rank_rows(client, rest, settle, max_concurrency=max_concurrency) or scorer
        finally:
            ledger.close()
    ledger.finish()
    if scorer is not None:
        note(f"scored by the emulator ({scorer}), not by Jina's model")
    note(f"rows: {ledger.settled:,}, failed: {len(ledger.failed):,}; {spent(client.totals)}")
    if ledger.failed:
        note(f"what failed is in {ledger.failed_file}; the same command tries it again")
