"""The plain data of a run: jobs for the workers, samples from them, and the figures made of samples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

BASELINE = "httpx"

Probe = Literal["one by one", "in flight", "counted"]
Measure = Callable[["Sample"], float]


@dataclass(frozen=True)
class Job:
    """What a worker is to do."""

    contender: str
    probe: Probe
    url: str
    documents: int
    seconds: float = 0.0
    warm_up: float = 0.0
    in_flight: int = 1
    calls: int = 0


@dataclass(frozen=True)
class Sample:
    """What one contender did in one round. Times in seconds, memory in MiB."""

    calls: int
    wall: float
    cpu: float
    peak: float = 0.0
    growth: float = 0.0


def cpu_per_call(sample: Sample) -> float:
    return sample.cpu / sample.calls


def wall_per_call(sample: Sample) -> float:
    return sample.wall / sample.calls


def throughput(sample: Sample) -> float:
    return sample.calls / sample.wall


def peak(sample: Sample) -> float:
    return sample.peak


def growth(sample: Sample) -> float:
    return sample.growth


@dataclass(frozen=True)
class Row:
    """What was measured, with how many: documents, calls in flight or threads."""

    kind: Literal["cpu", "in flight", "sync", "threads", "import", "memory"]
    size: int = 0


@dataclass
class Figures:
    """The samples of a run, round by round."""

    samples: dict[Row, dict[str, list[Sample]]] = field(default_factory=dict[Row, dict[str, list[Sample]]])
    server_share: float = 0.0
    """The largest part of one core that the server can have used while calls were in flight."""

    def add(self, row: Row, contender: str, sample: Sample) -> None:
        self.samples.setdefault(row, {}).setdefault(contender, []).append(sample)

    def has(self, row: Row, *contenders: str) -> bool:
        return all(self.samples.get(row, {}).get(contender) for contender in contenders)

    def contenders(self, rows: Iterable[Row]) -> list[str]:
        """Who took part in any of these rows, in the order of their first samples."""
        return list(dict.fromkeys(contender for row in rows for contender in self.samples.get(row, {})))

    def sizes(self, kind: str) -> list[int]:
        return sorted(row.size for row in self.samples if row.kind == kind)

    def typical(self, row: Row, contender: str, measure: Measure) -> float:
        """The median of the rounds."""
        return median(map(measure, self.samples[row][contender]))

    def ratio(self, measure: Measure, one: tuple[Row, str], other: tuple[Row, str]) -> float:
        """The median of the ratios within each round, which what the machine does meanwhile disturbs least."""
        ones, others = (self.samples[row][contender] for row, contender in (one, other))
        return median(measure(a) / measure(b) for a, b in zip(ones, others, strict=True))
