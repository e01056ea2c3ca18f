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
    """A task for a worker."""

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
    """The measurements of one contender in one round. Times in seconds, memory in MiB."""

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
    """A kind of measurement, and its number of documents, calls in flight or threads."""

    kind: Literal["cpu", "in flight", "sync", "threads", "import", "memory"]
    size: int = 0


@dataclass
class Figures:
    """The samples of a run, round by round."""

    samples: dict[Row, dict[str, list[Sample]]] = field(default_factory=dict[Row, dict[str, list[Sample]]])
    server_share: float = 0.0
    """An upper bound of the server's share of one core while calls were in flight."""

    def add(self, row: Row, contender: str, sample: Sample) -> None:
        self.samples.setdefault(row, {}).setdefault(contender, []).append(sample)

    def has(self, row: Row, *contenders: str) -> bool:
        return all(self.samples.get(row, {}).get(contender) for contender in contenders)

    def contenders(self, rows: Iterable[Row]) -> list[str]:
        """Return the contenders with samples in any of these rows, in the order of their first samples."""
        return list(dict.fromkeys(contender for row in rows for contender in self.samples.get(row, {})))

    def sizes(self, kind: str) -> list[int]:
        return sorted(row.size for row in self.samples if row.kind == kind)

    def typical(self, row: Row, contender: str, measure: Measure) -> float:
        """Return the median of the rounds."""
        return median(map(measure, self.samples[row][contender]))

    def ratio(self, measure: Measure, one: tuple[Row, str], other: tuple[Row, str]) -> float:
        """Return the median of the ratios within each round, which is the most robust to other load on the machine."""
        ones, others = (self.samples[row][contender] for row, contender in (one, other))
        return median(measure(a) / measure(b) for a, b in zip(ones, others, strict=True))
