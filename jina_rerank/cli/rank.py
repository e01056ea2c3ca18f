"""`jina-rerank rank`: orders lines by their relevance to a query."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..catalog import DEFAULT_MODEL
from ..models import RerankResponse
from ..options import DEFAULT_DEADLINE, DEFAULT_TIMEOUT
from .console import note, printable, ranking_table, result_console, results_on_terminal, warnings_noted, write_line
from .failures import ends_clearly
from .lines import read_documents
from .local import BaseUrl, Local, Model, Timeout, client_for, scorer_of

Ranking = RerankResponse[str]


@ends_clearly
def rank(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to rank by.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="Documents, one a line, in UTF-8; none or - for stdin.", show_default=False
        ),
    ] = None,
    *,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", min=1, help="How many of the best to show.")] = None,
    model: Model = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    base_url: BaseUrl = None,
    local: Local = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    deadline: Annotated[float, typer.Option(help="Seconds for everything, retries included.")] = DEFAULT_DEADLINE,
) -> None:
    """Rank lines by their relevance to a query, best first.

    A terminal gets a table; a pipe gets rank, index, score and document, with
    tabs between. The index is the line's, from 0. A blank line ranks last.
    """
    documents = read_documents(file)
    if not documents:
        note("the input is empty: there is nothing to rank")
    with (
        warnings_noted(),
        client_for(base_url, local=local, model=model, timeout=timeout, deadline=deadline) as client,
    ):
        response = client.rerank(query, documents, top_n=top_n)
    scorer = scorer_of(response)
    if scorer is not None:
        note(f"scored by the emulator ({scorer}), not by Jina's model")
    _show(response, as_json=as_json)


def _show(response: Ranking, *, as_json: bool) -> None:
    if as_json:
        for line in json_lines(response):
            write_line(line)
    elif results_on_terminal():
        if response.results:
            result_console().print(table(response))
    else:
        for line in plain_lines(response):
            write_line(line)


def json_lines(response: Ranking) -> Iterator[str]:
    """The ranking for programs. JSON escapes whatever is not ASCII, control characters too."""
    for rank_, result in enumerate(response.results, 1):
        yield json.dumps(
            {
                "rank": rank_,
                "index": result.index,
                "relevance_score": result.relevance_score,
                "document": result.document,
            }
        )


def plain_lines(response: Ranking) -> Iterator[str]:
    """The ranking for `cut`, `sort` and the like; the document is last, since it may hold tabs."""
    for rank_, result in enumerate(response.results, 1):
        yield f"{rank_}\t{result.index}\t{result.relevance_score:.4f}\t{result.document}"


def table(response: Ranking) -> Table:
    """The ranking for people: one row for each document, cut at the terminal's width."""
    grid = ranking_table("rank", "index", "score", text="document")
    for rank_, result in enumerate(response.results, 1):
        cells = (str(rank_), str(result.index), f"{result.relevance_score:.4f}", printable(result.document))
        grid.add_row(*map(Text, cells))
    return grid
