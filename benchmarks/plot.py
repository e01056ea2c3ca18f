"""The plot of a run, without a background and in colours of medium lightness, readable on white and on black."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from .samples import BASELINE, Figures, Measure, Row, cpu_per_call, throughput

_TEXT_COLOUR = "#808790"
_LINES = {
    "jina_rerank": ("#e5533d", "-"),
    "jina_rerank[aiohttp]": ("#d08700", "-"),
    "aiohttp": ("#3f83f8", "-"),
    "httpx over aiohttp": ("#16a085", "-"),
    "httpx": (_TEXT_COLOUR, "-"),
    "httpx, tuned limits": (_TEXT_COLOUR, ":"),
}
_SIZES = {10: "#9db4d6", 100: "#3f83f8", 1000: "#1f4fae"}
# For all plots of the docs: without a background, and of medium lightness, readable on white and on black.
STYLE: dict[Any, Any] = {  # matplotlib has a type for each name
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _TEXT_COLOUR,
    "axes.labelcolor": _TEXT_COLOUR,
    "axes.edgecolor": _TEXT_COLOUR,
    "axes.titlecolor": _TEXT_COLOUR,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _TEXT_COLOUR,
    "ytick.color": _TEXT_COLOUR,
    "grid.color": _TEXT_COLOUR,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def plot(figures: Figures, path: Path) -> None:
    """Write the plot as SVG."""
    with plt.rc_context({**STYLE, "svg.hashsalt": "benchmarks"}):
        figure, axes = plt.subplot_mosaic(
            [["cpu", "cpu"], ["throughput", "crowd"]], figsize=(9, 8), height_ratios=[5, 4], layout="constrained"
        )
        _draw_cpu(axes["cpu"], figures)
        _draw_crowd(axes["throughput"], figures, throughput, 1.0)
        axes["throughput"].set_title("Calls per second, by calls in flight")
        _draw_crowd(axes["crowd"], figures, cpu_per_call, 1000.0)
        axes["crowd"].set_title("CPU per call in ms, by calls in flight")
        handles, labels = axes["throughput"].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.savefig(path, transparent=True, metadata={"Date": None})


def _draw_cpu(axes: Any, figures: Figures) -> None:
    rows = [Row("cpu", size) for size in figures.sizes("cpu")]
    names = [name for name in figures.contenders(rows) if name != BASELINE][::-1]
    for row in rows:
        ratios = [figures.ratio(cpu_per_call, (row, name), (row, BASELINE)) for name in names]
        axes.scatter(ratios, names, s=50, color=_SIZES[row.size], label=f"{row.size:,} documents", zorder=3)
    axes.axvline(1, color=_TEXT_COLOUR, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16], ["¼", "½", "bare httpx", "2", "4", "8", "16"])
    axes.grid(axis="x")
    axes.tick_params(length=0)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().startswith("jina_rerank") else "normal")
    axes.set_title("CPU per call beside bare httpx: further left is less")
    axes.legend(loc="upper right")


def _draw_crowd(axes: Any, figures: Figures, measure: Measure, factor: float) -> None:
    sizes = figures.sizes("in flight")
    for name, (colour, style) in _LINES.items():
        measured = [size for size in sizes if figures.has(Row("in flight", size), name)]
        if measured:
            values = [figures.typical(Row("in flight", size), name, measure) * factor for size in measured]
            places = [sizes.index(size) for size in measured]
            axes.plot(places, values, style, color=colour, marker="o", markersize=4, label=name)
    axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(length=0)
    axes.grid(axis="y")
