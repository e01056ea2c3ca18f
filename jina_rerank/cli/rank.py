"""`jina-rerank rank`: ranks lines, or records, by their relevance to a query."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.table import Table
from rich.text import Text as Cell

from .._config import DEFAULT_DEADLINE, DEFAULT_MAX_DOCUMENTS, DEFAULT_TIMEOUT
from ..catalog import DEFAULT_MODEL
from ..models import RerankResponse
from .console import (
    json_line,
    note,
    printable,
    ranking_table,
    result_console,
    results_on_terminal,
    warnings_noted,
    write_line,
)
from .failures import reporting_errors
from .lines import read_documents, read_fields
from .local import scorer_of
from .server import (
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

Text: TypeAlias = Callable[[Any], str]


@reporting_errors
def rank(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to rank by.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="Documents, one per line, in UTF-8; omit it or give - for stdin.", show_default=False
        ),
    ] = None,
    *,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", min=1, help="Show only the best N documents.")] = None,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Rank the records of a .jsonl or .csv file, or of stdin, by this field or column.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    max_documents: MaxDocuments = DEFAULT_MAX_DOCUMENTS,
    max_doc_length: MaxDocLength = None,
    scoring: ScoringOption = None,
    base_url: BaseUrl = None,
    api_key_variable: ApiKeyVariable = None,
    allow_insecure: AllowInsecure = False,
    local: Local = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    deadline: Annotated[
        float, typer.Option(help="Seconds for the whole command, retries included.")
    ] = DEFAULT_DEADLINE,
) -> None:
    """Rank lines by their relevance to a query, best first.

    Prints a table to a terminal, and tab-separated rank, index, score and
    document to a pipe. The index counts lines from 0. Blank lines rank last.
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

    def text(document: Any) -> str:
        return document if field is None else document[field] or ""

    documents: list[Any] = [*(read_documents(file) if field is None else read_fields(file, field))]
    if not documents:
        note("the input is empty: there is nothing to rank")
    with warnings_noted(), server.open_client() as client:
        response = client.rerank(query, documents, key=text, top_n=top_n, max_doc_length=max_doc_length)
    scorer = scorer_of(response)
    if scorer is not None:
        note(f"scored by the emulator ({scorer}), not by Jina's model")
    _show(response, text, as_json=as_json)


def _show(response: RerankResponse[Any], text: Text, *, as_json: bool) -> None:
    if as_json:
        for line in json_lines(response):
            write_line(line)
    elif results_on_terminal():
        if response.results:
            result_console().print(table(response, text))
    else:
        for line in plain_lines(response, text):
            write_line(line)


def json_lines(response: RerankResponse[Any]) -> Iterator[str]:
    """Yield the ranking as JSON, with whole records."""
    for rank_, result in enumerate(response.results, 1):
        yield json_line(
            {
                "rank": rank_,
                "index": result.index,
                "relevance_score": result.relevance_score,
                "document": result.document,
            }
        )


def plain_lines(response: RerankResponse[Any], text: Text) -> Iterator[str]:
    """Yield the ranking for `cut`, `sort` and the like; the document is last, since it may contain tabs."""
    for rank_, result in enumerate(response.results, 1):
        document = text(result.document).replace("\r", " ").replace("\n", " ")  # a field may contain line breaks
        yield f"{rank_}\t{result.index}\t{result.relevance_score:.4f}\t{document}"


def table(response: RerankResponse[Any], text: Text) -> Table:
    """Return the ranking as a table, with one row per document, truncated to the terminal's width."""
    grid = ranking_table("rank", "index", "score", text="document")
    for rank_, result in enumerate(response.results, 1):
        cells = (str(rank_), str(result.index), f"{result.relevance_score:.4f}", printable(text(result.document)))
        grid.add_row(*map(Cell, cells))
    return grid
