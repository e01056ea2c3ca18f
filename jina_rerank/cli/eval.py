"""`jina-rerank eval`: which reranker is best on one's own queries, what it costs, and where to cut."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._config import DEFAULT_MAX_DOCUMENTS, DEFAULT_TIMEOUT
from .console import json_line, note, printable, progress_bars, show_rows, warnings_noted, write_line
from .contenders import DEADLINE, clients
from .failures import ends_clearly, needing, writing
from .server import (
    AllowInsecure,
    ApiKeyVariable,
    MaxDocLength,
    MaxDocuments,
    ScoringOption,
    ServerOptions,
    Timeout,
    complete_contenders,
)

if TYPE_CHECKING:
    from ..evaluation import ContenderResult, Evaluation, Topic

SAMPLE = "sample"


@ends_clearly
def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A directory in BEIR's form, a file of JSON lines, or the word sample for 40 claims of SciFact.",
            show_default=False,
        ),
    ],
    contenders: Annotated[
        list[str],
        typer.Argument(
            metavar="CONTENDER",
            help="A model, a server's URL, MODEL@URL, or a scorer of this machine: lexical, minilm, "
            "hf:MODEL, module:function.",
            show_default=False,
            autocompletion=complete_contenders,
        ),
    ],
    *,
    cutoff: Annotated[int, typer.Option("--cutoff", "-k", min=1, help="How many places the measures look at.")] = 10,
    at_once: Annotated[int, typer.Option(min=1, help="Calls at a time; a free key allows two.")] = 2,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Write report.md and its plots here.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures, as one JSON object.")] = False,
    max_documents: MaxDocuments = DEFAULT_MAX_DOCUMENTS,
    max_doc_length: MaxDocLength = None,
    scoring: ScoringOption = None,
    api_key_variable: ApiKeyVariable = None,
    allow_insecure: AllowInsecure = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    deadline: Annotated[float, typer.Option(help="Seconds for one query, waits and retries included.")] = DEADLINE,
) -> None:
    """Compare rerankers on queries whose relevant documents are known.

    The order given always competes. A model is asked for at the server of
    JINA_RERANK_BASE_URL, or at Jina; a URL is asked without a key, unless
    --api-key-variable names one.

    BEIR's form is corpus.jsonl, queries.jsonl, qrels.tsv and candidates.tsv.
    A line of JSON has id, query, documents and relevance, a number for each.
    """
    with needing("eval"):
        from .. import evaluation  # noqa: PLC0415  # what it imports is of the extra [eval]

        if report is not None:
            from ..evaluation import plots as _  # noqa: F401, PLC0415  # better now than when all is paid for
    topics = _topics(data)
    if report is not None:
        with writing(report):  # better now, too
            report.mkdir(parents=True, exist_ok=True)
    server = ServerOptions(
        api_key_variable=api_key_variable,
        allow_insecure=allow_insecure,
        timeout=timeout,
        deadline=deadline,
        max_documents=max_documents,
        scoring=scoring,
    )
    with warnings_noted(), clients(contenders, server) as asked, _progress(list(asked), len(topics)) as on_answer:
        found = evaluation.evaluate(
            topics,
            asked,
            cutoff=cutoff,
            at_once=at_once,
            max_doc_length=max_doc_length,
            on_answer=on_answer,
            title=Path(data).resolve().name,
        )
    if report is not None:
        with writing(report):
            note(f"the report is in {evaluation.write_report(found, report)}")
    _show(found, as_json=as_json)


def _topics(data: str) -> "tuple[Topic, ...]":
    from ..evaluation import read_topics, sample  # noqa: PLC0415  # of the extra [eval]

    return sample() if data == SAMPLE else read_topics(data)


@contextmanager
def _progress(names: list[str], queries: int) -> Generator[Callable[[str], object]]:
    """A bar for each contender, if a person watches."""
    with progress_bars() as progress:
        tasks = {name: progress.add_task(printable(name), total=queries) for name in names}
        yield lambda name: progress.advance(tasks[name])


def _show(found: "Evaluation", *, as_json: bool) -> None:
    if as_json:
        write_line(json_line(found.to_dict()))
    else:
        styles = ["bold green" if result is found.best else "" for result in found.results]
        show_rows(_header(found), [_cells(result) for result in found.results], styles)
        rivals = " and ".join(found.labels[name] for name in found.rivals)
        doubt = f"what sets it apart from {rivals} may be chance" if rivals else "that is significant"
        note(f"highest nDCG@{found.cutoff}: {found.best.label}; {doubt}")


def _header(found: "Evaluation") -> list[str]:
    from ..evaluation import MEASURES  # noqa: PLC0415  # of the extra [eval]

    measures = [f"{measure}@{found.cutoff}" for measure in MEASURES]
    return ["contender", *measures, "p95 s", "tokens", "top_n", "threshold"]


def _cells(result: "ContenderResult") -> list[str]:
    from ..evaluation import MEASURES  # noqa: PLC0415  # of the extra [eval]

    return [
        result.label,
        *(f"{result.mean(measure):.3f}" for measure in MEASURES),
        *(f"{result.latencies[name]:.3f}" if result.latencies else "" for name in ("p95",)),
        str(result.run.tokens or ""),
        str(result.top_n.top_n),
        f"{result.threshold.score:#.4g}" if result.threshold else "",
    ]
