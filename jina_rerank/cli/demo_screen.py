"""What `jina-rerank demo` shows: one claim's ranking before and after, then the measures over all claims."""

from typing import Final

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..emulator.scifact import Abstract, Claim
from ..results import RerankResult
from .console import printable, ranking_table
from .demo_report import Report
from .demo_run import Ranking

_SHOWN: Final = 5
_LICENCE: Final = (
    "Data: SciFact, Allen Institute for AI, CC BY 4.0; abstracts from the Semantic Scholar Open Research Corpus "
    "(S2ORC), ODC-By 1.0."
)


def screen(report: Report) -> Group:
    """The whole screen."""
    gains = [report.gains[claim.id] for claim in report.run.claims]
    best = gains.index(max(gains))
    claim, ranking = report.run.claims[best], report.run.rankings[best]
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


def _rows(claim: Claim, ranking: Ranking) -> Table:
    """The first places, and the relevant abstracts below them."""
    grid = ranking_table("before", "after", "score", text="  abstract (* relevant)")
    for place, result in enumerate(ranking.results, 1):
        relevant = claim.relevance.get(result.document.id, 0) > 0
        if place <= _SHOWN or relevant:
            grid.add_row(*_cells(place, result, relevant=relevant), style="bold green" if relevant else "")
    return grid


def _cells(place: int, result: RerankResult[Abstract], *, relevant: bool) -> tuple[Text, ...]:
    mark = "* " if relevant else "  "
    title = mark + printable(result.document.title)
    return tuple(map(Text, (str(result.index + 1), str(place), f"{result.relevance_score:.4f}", title)))


def _measures(report: Report) -> Table:
    before, after = report.before, report.after
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "BM25's order", "reranked"):
        grid.add_column(name, justify="right" if name else "left", no_wrap=True)
    grid.add_row("nDCG@10", f"{before.ndcg_at_10:.3f}", f"{after.ndcg_at_10:.3f}")
    grid.add_row("MRR@10", f"{before.mrr_at_10:.3f}", f"{after.mrr_at_10:.3f}")
    return grid


def _effort(report: Report) -> str:
    changes = list(report.gains.values())
    better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return (
        f"{better} of {len(changes)} claims gained, {worse} lost.\n"
        f"{report.calls} calls, {report.run.target.at_once} at a time, {report.tokens:,} tokens, "
        f"{report.run.seconds:.1f} seconds."
    )


def _answered_by(report: Report) -> str:
    if report.scorer is None:
        return f"Ranked by {report.model or 'the model'} at {report.run.target.url}."
    return f"Scored by the emulator ({report.scorer}), not by Jina's {report.model}."
