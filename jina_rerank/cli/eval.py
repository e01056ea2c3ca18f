"""`jina-rerank eval`: compares rerankers on labelled queries, with their costs, top_n and score thresholds."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._config import DEFAULT_MAX_DOCUMENTS, DEFAULT_TIMEOUT
from .console import json_line, note, printable, progress_bars, show_rows, warnings_noted, write_line
from .contenders import DEADLINE, clients
from .failures import needing, reporting_errors, writing
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


@reporting_errors
def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A directory in BEIR format, a file of JSON lines, or the word sample for 40 claims of SciFact.",
            show_default=False,
        ),
    ],
    contenders: Annotated[
        list[str],
        typer.Argument(
            metavar="CONTENDER",
            help="A model, a server's URL, MODEL@URL, or a scorer on this machine: lexical, minilm, "
            "hf:MODEL, module:function.",
            show_default=False,
            autocompletion=complete_contenders,
        ),
    ],
    *,
    cutoff: Annotated[int, typer.Option("--cutoff", "-k", min=1, help="Rank cutoff of the measures.")] = 10,
    at_once: Annotated[int, typer.Option(min=1, help="Concurrent calls; a free key allows two.")] = 2,
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

    The original order is always a contender. Models are requested from the
    server of JINA_RERANK_BASE_URL, or from Jina; URLs get no key, unless
    --api-key-variable names one.

    BEIR format is corpus.jsonl, queries.jsonl, qrels.tsv and candidates.tsv.
    A JSON line has id, query, documents and relevance, a number for each.
    """
    with needing("eval"):
        from .. import evaluation  # noqa: PLC0415  # it imports the packages of the extra [eval]

        if report is not None:
            from ..evaluation import plots as _  # noqa: F401, PLC0415  # fail before the paid requests, not after
    topics = _topics(data)
    if report is not None:
        with writing(report):  # likewise before the paid requests
            report.mkdir(parents=True, exist_ok=True)
    server = ServerOptions(
        api_key_variable=api_key_variable,
        allow_insecure=allow_insecure,
        timeout=timeout,
        deadline=deadline,
        max_documents=max_documents,
        scoring=scoring,
    )
    with warnings_noted(), clients(contenders, server) as by_name, _progress(list(by_name), len(topics)) as on_answer:
        found = evaluation.evaluate(
            topics,
            by_name,
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
    """Yield a callback that advances a contender's progress bar; the bars are shown only on a terminal."""
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
        significance = f"its lead over {rivals} may be chance" if rivals else "its lead is significant"
        note(f"highest nDCG@{found.cutoff}: {found.best.label}; {significance}")


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
