"""The screen of `jina-rerank demo`: one claim's ranking before and after, then the measures over all claims."""

from typing import Final

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..._results import RerankResult
from ...emulator.scifact import Claim
from ...evaluation import Measure, Passage
from ...models import RerankResponse
from ..console import printable, ranking_table
from .report import DemoReport

_MAX_SHOWN_PLACES: Final = 5
_LICENCE: Final = (
    "Data: SciFact, Allen Institute for AI, CC BY 4.0; abstracts from the Semantic Scholar Open Research Corpus "
    "(S2ORC), ODC-By 1.0."
)


def screen(report: DemoReport) -> Group:
    """Return the whole screen."""
    gains = report.gains
    best = gains.index(max(gains))
    claim, ranking = report.work.claims[best], report.run.rankings[best]
    which = "The claim that gained most" if gains[best] > 0 else "No claim gained; here is one"
    return Group(
        Text(f"\n{which}, out of {len(gains)}, with its {len(claim.candidates)} abstracts:"),
        Text(f"“{printable(claim.text)}”\n", style="bold"),
        Padding(_rows(claim, ranking), (0, 0, 1, 2)),
        Padding(_measures(report), (0, 0, 1, 2)),
        Text(_effort(report)),
        Text(printable(_answered_by(report)), style="yellow"),
        Text(_LICENCE, style="dim"),
    )


def _rows(claim: Claim, ranking: RerankResponse[Passage]) -> Table:
    """Return the first places, and the relevant abstracts below them."""
    grid = ranking_table("before", "after", "score", text="  abstract (* relevant)")
    for place, result in enumerate(ranking.results, 1):
        relevant = claim.relevance.get(result.document.id, 0) > 0
        if place <= _MAX_SHOWN_PLACES or relevant:
            grid.add_row(*_cells(claim, place, result, relevant=relevant), style="bold green" if relevant else "")
    return grid


def _cells(claim: Claim, place: int, result: RerankResult[Passage], *, relevant: bool) -> tuple[Text, ...]:
    mark = "* " if relevant else "  "
    title = mark + " ".join(printable(claim.candidates[result.index].title).split())
    return tuple(map(Text, (str(result.index + 1), str(place), f"{result.relevance_score:.4f}", title)))


def _measures(report: DemoReport) -> Table:
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "BM25's order", "reranked"):
        grid.add_column(name, justify="right" if name else "left", no_wrap=True)
    measures: tuple[Measure, ...] = ("nDCG", "MRR")
    for measure in measures:
        grid.add_row(f"{measure}@10", f"{report.before.mean(measure):.3f}", f"{report.after.mean(measure):.3f}")
    return grid


def _effort(report: DemoReport) -> str:
    changes = report.gains
    better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return (
        f"{better} of {len(changes)} claims gained, {worse} lost.\n"
        f"{report.run.calls} calls, {report.work.target.at_once} at a time, {report.run.tokens:,} tokens, "
        f"{report.run.seconds:.1f} seconds."
    )


def _answered_by(report: DemoReport) -> str:
    if report.scorer is None:
        return f"Ranked by {report.run.model or 'the model'} at {report.work.target.url}."
    return f"Scored by the emulator ({report.scorer}), not by Jina's {report.run.model}."
