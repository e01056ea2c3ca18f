"""The performance targets of this client, as ratios to others in the same run."""

from dataclasses import dataclass
from typing import Literal

from .samples import BASELINE, Figures, Measure, Row, cpu_per_call, throughput, wall_per_call

OURS = "jina_rerank"
OURS_AIOHTTP = "jina_rerank[aiohttp]"


@dataclass(frozen=True)
class Target:
    """A ratio and its bound."""

    what: str
    measure: Measure
    one: tuple[Row, str]
    other: tuple[Row, str]
    bound: Literal["≤", "≥"]
    limit: float

    def ratio(self, figures: Figures) -> float | None:
        """Return the measured ratio; None if one of the two was not measured."""
        if not (figures.has(*self.one) and figures.has(*self.other)):
            return None
        return figures.ratio(self.measure, self.one, self.other)

    def met(self, ratio: float) -> bool:
        return ratio <= self.limit if self.bound == "≤" else ratio >= self.limit


def _cpu(documents: int, limit: float) -> Target:
    row = Row("cpu", documents)
    what = f"CPU per call, {documents:,} documents: {OURS} to bare httpx"
    return Target(what, cpu_per_call, (row, OURS), (row, BASELINE), "≤", limit)


def _peer(name: str, limit: float) -> Target:
    row = Row("cpu", 100)
    return Target(f"CPU per call, 100 documents: {name} to {OURS}", cpu_per_call, (row, name), (row, OURS), "≥", limit)


def _crowd(size: int, ours: str, other: str, limit: float) -> Target:
    row = Row("in flight", size)
    name = "bare httpx" if other == BASELINE else other
    return Target(f"Throughput, {size} in flight: {ours} to {name}", throughput, (row, ours), (row, other), "≥", limit)


def _growth(ours: str) -> Target:
    what = f"CPU per call of {ours}, 1,000 in flight to 50 in flight"
    return Target(what, cpu_per_call, (Row("in flight", 1000), ours), (Row("in flight", 50), ours), "≤", 1.6)


_SYNC = Row("sync", 100)
_IMPORT = Row("import")

TARGETS = (
    _cpu(10, 0.85),
    _cpu(100, 0.85),
    _cpu(1000, 0.95),
    _growth(OURS),
    _growth(OURS_AIOHTTP),
    _crowd(200, OURS, BASELINE, 8.0),
    _crowd(500, OURS, "httpx over aiohttp", 0.65),
    _crowd(500, OURS_AIOHTTP, "httpx over aiohttp", 0.9),
    Target(
        "Time of a sync call, 100 documents: SyncRerankClient to bare httpx.Client",
        wall_per_call,
        (_SYNC, "SyncRerankClient"),
        (_SYNC, "httpx.Client"),
        "≤",
        1.5,
    ),
    _peer("cohere", 2.0),
    _peer("voyageai", 2.0),
    _peer("mixedbread", 2.0),
    _peer("llama-index", 2.0),
    _peer("langchain-community", 1.3),
    Target(
        "Time of a process that imports: jina_rerank to its dependencies alone",
        wall_per_call,
        (_IMPORT, OURS),
        (_IMPORT, "floor"),
        "≤",
        1.25,
    ),
)
