"""The report of an evaluation, in Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from .quality import MEASURES
from .results import ContenderResult, Evaluation
from .statistics import Estimate
from .thresholds import KEPT_RECALL, Threshold, scored, thresholds

UNKNOWN: Final = "\N{EN DASH}"
"""The table cell for a number that is unknown or meaningless."""

_MIN_QUERIES: Final = 15
"""The number of queries below which intervals are too narrow. For 1,000 random samples of 3, 5, 10 and 15 of the 40
claims of `sample`, in BM25's order, the interval contained the mean nDCG of all claims in 70, 83, 90 and 94 % of the
cases."""

_METHOD: Final = (
    "## How this was computed",
    "",
    "nDCG, MRR and recall by ir-measures, for each query; documents without a judgment count as not relevant.",
    "In brackets: intervals of 95 % confidence, by the percentile bootstrap over queries (10,000 resamples). p:",
    "paired randomisation test, two-sided, 10,000 resamples, corrected by Holm's method over all pairs. Precision",
    "and recall of scores are over the candidates of all queries together.",
)


def report(evaluation: Evaluation, plots: Mapping[str, str] | None = None) -> str:
    """Return the report as Markdown.

    Args:
        evaluation: The results.
        plots: The files of plots to show, relative to the report's directory, by title.
    """
    sections = (_summary, _quality, _comparisons, _costs, _cuts)
    lines = [f"# Rerankers on {_escaped(evaluation.data)}", ""]
    for section in sections:
        lines += [*section(evaluation), ""]
    lines += [*_METHOD, ""]
    for title, file in (plots or {}).items():
        lines += [f"![{title}]({file})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _summary(evaluation: Evaluation) -> Iterator[str]:
    topics = evaluation.topics
    best, labels = evaluation.best, evaluation.labels
    found = sum(topic.is_relevant(passage.id) for topic in topics for passage in topic.candidates)
    yield f"- {_queries(evaluation)}, and {sum(topic.relevant for topic in topics)} relevant documents."
    yield f"  {found} of these are among the candidates; no reranker finds the others."
    yield f"- Highest nDCG@{evaluation.cutoff}: **{_escaped(best.label)}**, {_interval(best.estimate('nDCG'))}."
    if len(topics) < _MIN_QUERIES:
        yield f"  With fewer than {_MIN_QUERIES} queries, the intervals are too narrow to trust."
    if evaluation.rivals:
        rivals = " and ".join(_escaped(labels[name]) for name in evaluation.rivals)
        yield f"  What sets it apart from {rivals} may be chance."
    cut = best.top_n
    yield f"- For {_escaped(best.label)}, `top_n={cut.top_n}` keeps {_share(cut.recall)} of what is relevant, of the"
    yield f"  {_share(cut.recall_of_all)} that the candidates hold."
    if best.threshold is not None:
        score, precision, recall = best.threshold.score, best.threshold.precision, best.threshold.recall
        yield f"  Of the candidates that score at least {score:#.4g}, {_share(precision)} are relevant, and"
        yield f"  {_share(recall)} of the relevant ones score so."


def _queries(evaluation: Evaluation) -> str:
    lengths = [len(topic.candidates) for topic in evaluation.topics]
    few, many = min(lengths), max(lengths)
    return f"{len(lengths)} queries with {few if few == many else f'{few} to {many}'} candidates each"


def _quality(evaluation: Evaluation) -> Iterator[str]:
    yield "## Quality"
    yield ""
    yield from table(
        ["contender", *(f"{measure}@{evaluation.cutoff}" for measure in MEASURES)],
        (
            [_escaped(result.label), *(_interval(result.estimate(measure)) for measure in MEASURES)]
            for result in evaluation.results
        ),
    )


def _comparisons(evaluation: Evaluation) -> Iterator[str]:
    labels = evaluation.labels
    yield "## Differences"
    yield ""
    yield from table(
        ["", f"nDCG@{evaluation.cutoff}", "p", ""],
        (
            [
                f"{_escaped(labels[one.second])} against {_escaped(labels[one.first])}",
                _interval(one.difference, sign="+"),
                "< 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}",
                "significant" if one.significant else "may be chance",
            ]
            for one in evaluation.compare()
        ),
    )


def _costs(evaluation: Evaluation) -> Iterator[str]:
    yield "## Cost"
    yield ""
    yield from table(
        ["contender", "calls", "tokens", "USD for 1,000 queries", "p50", "p95", "p99"],
        (
            [
                _escaped(result.label),
                f"{result.run.calls:,}",
                f"{result.run.tokens:,}" if result.run.tokens else UNKNOWN,
                UNKNOWN if result.price_per_thousand is None else f"{result.price_per_thousand:.2f}",
                *(f"{seconds:.3f} s" for seconds in result.latencies.values()),
            ]
            for result in evaluation.results
            if result.run.reranked
        ),
    )
    yield ""
    yield "p50, p95 and p99 are percentiles of a call's time, its waits and retries included,"
    yield f"with {evaluation.at_once} at a time."


def _cuts(evaluation: Evaluation) -> Iterator[str]:
    yield "## How many to keep"
    yield ""
    yield f"The smallest `top_n` that keeps {KEPT_RECALL * 100:.0f} % of the recall of the whole list."
    yield ""
    yield from table(
        ["contender", "top_n", "recall", "recall of the whole list", "its length"],
        (
            [
                _escaped(result.label),
                str(cut.top_n),
                f"{cut.recall:.3f}",
                f"{cut.recall_of_all:.3f}",
                f"{cut.candidates:.0f}",
            ]
            for result in evaluation.results
            for cut in [result.top_n]
        ),
    )
    for result in evaluation.results:
        if result.threshold is not None:
            yield from _thresholds(evaluation, result, result.threshold)


def _thresholds(evaluation: Evaluation, result: ContenderResult, best: Threshold) -> Iterator[str]:
    columns = scored(evaluation.topics, result.run.rankings)
    rows = [("highest F1", best)]
    if result.held_out is not None:
        rows.append(("the same, on queries that did not choose it", result.held_out))
    rows += [(f"recall of at least {level * 100:.0f} %", cut) for level, cut in thresholds(columns).items()]
    yield ""
    yield f"### Scores of {_escaped(result.label)}"
    yield ""
    yield from table(
        ["chosen for", "score_threshold", "precision", "recall", "F1", "documents kept", "queries left with none"],
        (
            [
                reason,
                f"{cut.score:#.4g}",
                f"{cut.precision:.3f}",
                f"{cut.recall:.3f}",
                f"{cut.f1:.3f}",
                f"{cut.kept:.1f}",
                f"{_share(cut.empty)}",
            ]
            for reason, cut in rows
        ),
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: the first column left-aligned, the others right-aligned."""
    yield _row(header)
    yield _row(["---", *["---:"] * (len(header) - 1)])
    for row in rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return the text with Markdown escaped, on one line."""
    for letter in "\\`*_[]<>|#":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def _share(value: float) -> str:
    return f"{value * 100:.1f} %"


def _interval(value: Estimate, sign: str = "") -> str:
    return f"{value.mean:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"
