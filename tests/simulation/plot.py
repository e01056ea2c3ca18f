"""Plots what a rate limiter does: requests in flight, allowed, refused and waiting, over time."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.plot import STYLE

from .run import Outcome
from .scenarios import Scenario


def plot(path: Path, runs: Sequence[tuple[Scenario, Outcome]]) -> None:
    """Write a picture with one panel for each run."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  # from a separate dependency group
    from matplotlib import rcParams  # noqa: PLC0415  # as above

    rcParams.update({"svg.hashsalt": "jina_rerank", **STYLE})
    figure, panels = plt.subplots(len(runs), 1, figsize=(8, 2.2 * len(runs)), constrained_layout=True)
    for panel, (scenario, outcome) in zip(panels, runs, strict=True):
        assert outcome.server is not None
        arrivals = outcome.server.arrivals
        panel.plot([time for time, _, _ in arrivals], [n for _, _, n in arrivals], linewidth=0.8, label="in flight")
        times = [time for time, _ in outcome.samples]
        allowed = [status.allowed_in_flight for _, status in outcome.samples]
        panel.plot(times, allowed, drawstyle="steps-post", linewidth=0.8, label="allowed")
        queue = panel.twinx()
        queue.fill_between(
            times, [status.waiting for _, status in outcome.samples], alpha=0.15, color="gray", linewidth=0
        )
        queue.set_ylabel("waiting")
        refused = [(time, n) for time, admitted, n in arrivals if not admitted]
        panel.plot([time for time, _ in refused], [n for _, n in refused], "x", markersize=4, label="refused")
        title = f"{scenario.name}: {outcome.done} answered, {outcome.refused} refused, {outcome.seconds:.1f} s"
        panel.set_title(title, fontsize=9)
        panel.set_ylabel("in flight")
    panels[0].legend(loc="upper right", fontsize=8)
    panels[-1].set_xlabel("seconds")
    figure.savefig(path, metadata={"Date": None})
