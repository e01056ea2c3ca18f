"""The plots of an evaluation, as SVG."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import numpy as np

from .results import ContenderResult, Evaluation
from .thresholds import curve, scored

try:
    from matplotlib.figure import Figure

    _MATPLOTLIB: Final[Any] = import_module("matplotlib")  # since its types are partly unknown
except ModuleNotFoundError as _error:
    raise ImportError('The plots need an extra: pip install "jina-rerank[eval]"') from _error

_Axes: TypeAlias = Any  # matplotlib.axes.Axes, whose own types are partly unknown
_HISTOGRAM_BINS: Final = 40
# Of medium lightness, readable on white and on black; the two colours are distinguishable with any colour vision.
_TEXT_COLOUR: Final = "#808790"
_RELEVANT_COLOUR: Final = "#3f83f8"
_OTHER_COLOUR: Final = "#d9822b"
_STYLE: Final = {
    "axes.edgecolor": _TEXT_COLOUR,
    "axes.labelcolor": _TEXT_COLOUR,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _TEXT_COLOUR,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "jina-rerank",  # reproducible files
    "text.color": _TEXT_COLOUR,
    "text.parse_math": False,  # two dollar signs in a name are not a formula
    "xtick.color": _TEXT_COLOUR,
    "ytick.color": _TEXT_COLOUR,
}


def save_plots(evaluation: Evaluation, directory: Path) -> dict[str, str]:
    """Write the plots to a directory and return their file names by title.

    Raises:
        OSError: A file cannot be written.
    """
    plots = {
        "Quality against cost": ("quality.svg", quality_against_cost),
        "Scores of relevant and other documents": ("scores.svg", score_histograms),
        "Precision and recall over thresholds": ("thresholds.svg", threshold_curves),
    }
    ranked = any(result.run.reranked for result in evaluation.results)
    with _MATPLOTLIB.rc_context(_STYLE):
        for file, draw in plots.values() if ranked else ():
            figure = draw(evaluation)
            # Without a date, so that the file is reproducible.
            cast(Any, figure).savefig(directory / file, transparent=True, metadata={"Date": None})
    return {title: file for title, (file, _) in plots.items() if ranked}


def quality_against_cost(evaluation: Evaluation) -> Figure:
    """Plot nDCG with its interval over the median time of a call and, if prices are known, over the price."""
    axes: list[tuple[str, Callable[[ContenderResult], float | None]]] = [
        ("median seconds of a call", lambda result: result.latencies.get("p50", 0.0))
    ]
    if any(result.price_per_thousand is not None for result in evaluation.results):
        axes.append(("US dollars for 1,000 queries", lambda result: result.price_per_thousand))
    figure = Figure(figsize=(4.5 * len(axes) + 1.5, 3.4), layout="constrained")
    panels = _panels(figure, 1, len(axes))
    for panel, (label, cost) in zip(panels, axes, strict=True):
        for result, (marker, colour) in zip(evaluation.results, _looks(), strict=False):
            # The original order costs nothing; a reranker of unknown cost is omitted.
            place = cost(result) if result.run.reranked else 0.0
            if place is not None:
                _point(panel, place, result, marker, colour)
        panel.locator_params(axis="x", nbins=5)  # short times have long numbers
        panel.set_xlabel(label)
        panel.set_ylabel(f"nDCG@{evaluation.cutoff}, with 95 % interval")
    cast(Any, figure).legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _looks() -> Iterator[tuple[str, str]]:
    """Yield a marker and a colour for each contender, since names beside the points would overlap."""
    return zip(cycle("oDsv^P*X"), cycle((_TEXT_COLOUR, _RELEVANT_COLOUR, _OTHER_COLOUR)), strict=True)


def _point(panel: _Axes, cost: float, result: ContenderResult, marker: str, colour: str) -> None:
    value = result.estimate("nDCG")
    reach = [[value.mean - value.low], [value.high - value.mean]]
    # The number comes first, since matplotlib hides labels that begin with an underscore.
    label = f"{value.mean:.3f}  {result.label}"
    panel.errorbar([cost], [value.mean], yerr=reach, fmt=marker, color=colour, capsize=3, label=label)


def score_histograms(evaluation: Evaluation) -> Figure:
    """Plot the distributions of the scores of relevant and other candidates, for each contender."""

    def draw(panel: _Axes, result: ContenderResult) -> None:
        columns = scored(evaluation.topics, result.run.rankings)
        bins = np.histogram_bin_edges(columns.scores, _HISTOGRAM_BINS)
        for which, label, colour in (
            (~columns.relevant, "other", _OTHER_COLOUR),
            (columns.relevant, "relevant", _RELEVANT_COLOUR),
        ):
            if which.any():  # an empty histogram has no density
                panel.hist(columns.scores[which], bins.tolist(), density=True, alpha=0.6, color=colour, label=label)
        panel.set_ylabel("density")

    return _one_each(evaluation, draw)


def threshold_curves(evaluation: Evaluation) -> Figure:
    """Plot precision, recall and F1 over thresholds, for each contender."""

    def draw(panel: _Axes, result: ContenderResult) -> None:
        line = curve(scored(evaluation.topics, result.run.rankings))
        panel.plot(line.thresholds, line.precision, color=_OTHER_COLOUR, label="precision")
        panel.plot(line.thresholds, line.recall, color=_RELEVANT_COLOUR, label="recall")
        panel.plot(line.thresholds, line.f1, color=_TEXT_COLOUR, linestyle="--", label="F1")
        panel.set_ylim(0, 1.02)

    return _one_each(evaluation, draw)


def _one_each(evaluation: Evaluation, draw: Callable[[_Axes, ContenderResult], None]) -> Figure:
    """Draw a panel for each reranker, one below the other, and mark its recommended threshold."""
    results = [result for result in evaluation.results if result.threshold is not None]
    figure = Figure(figsize=(6.5, 2.4 * len(results) + 0.3), layout="constrained")
    for panel, result in zip(_panels(figure, len(results), 1), results, strict=True):
        draw(panel, result)
        score = result.threshold.score if result.threshold else 0.0
        panel.axvline(score, color=_TEXT_COLOUR, linewidth=0.8, linestyle=":", label=f"highest F1: {score:#.4g}")
        panel.set_title(result.label)
        panel.set_xlabel("relevance_score")
        panel.legend(loc="best")
    return figure


def _panels(figure: Figure, rows: int, columns: int) -> Sequence[_Axes]:
    made: Any = figure.subplots(rows, columns, squeeze=False)
    return list(made.flat)
