"""What came of a soak: the promises it must keep, the words for a terminal, and the picture."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .load import TASKS, THREADS, Account
from .samples import Sample

MIB: Final = 2**20
_CLOSING: Final = 10
"""Descriptors of connections that are being closed while others open in their place."""


_OWN_OBJECTS: Final = 1_500
"""What the soak itself keeps, such as the accounts of its callers."""
_CLIENTS_OBJECTS: Final = 1_500
"""What two clients keep: for each event loop, among others, an entry for each tenth of a second of the last minute."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of both sides."""

    seconds: float
    account: Account
    asked: int
    """Calls that the clients have counted, and the requests that they have sent for them: their `totals`."""
    sent: int
    met: Mapping[str, int]
    """What the server has met: requests by group, faults by kind."""
    before: Sample
    """At rest after the warm-up."""
    unused: Sample
    """At rest after the load, with the clients open."""
    after: Sample
    """With the clients closed."""
    samples: Sequence[Sample]
    """One for each second of the load."""
    complaints: Sequence[str]

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept."""
        promises = {**self._accounts(), **self._resources()}
        return [promise for promise, is_kept in promises.items() if not is_kept]

    def _accounts(self) -> dict[str, bool]:
        account, unread = self.account, self.unread
        return {
            "every call has one end": account.started == account.succeeded + account.cancelled + account.failed.total(),
            "the clients have counted every call": account.started == self.asked,
            "no answer is that of another question": account.wrong == 0,
            "calls of the steady group run to their end": account.interrupted["steady"] == 0,
            "the server has seen each attempt of the steady group": unread["steady"] == 0,
            "of an interrupted call at most the last attempt was not seen": 0
            <= unread["hasty"]
            <= account.interrupted["hasty"],
            "nothing was complained of": not self.complaints,
        }

    def _resources(self) -> dict[str, bool]:
        before, after, peak = self.before, self.after, max(sample.descriptors for sample in self.samples)
        own = _OWN_OBJECTS + 2 * len(self.samples)
        return {
            "a client that rests holds no connection": self.unused.descriptors == before.descriptors,
            "no call in flight has two connections": peak <= before.descriptors + THREADS + TASKS + _CLOSING,
            "descriptors are where they were": after.descriptors == before.descriptors,
            "threads are where they were": after.threads == before.threads,
            "tasks are where they were": after.tasks == before.tasks,
            "no call leaves an object behind": after.objects - before.objects < own,
            "a client that rests holds no call": self.unused.objects - before.objects < own + _CLIENTS_OBJECTS,
            "memory does not grow": self.growth < 4 * MIB + self.account.started / 100_000 * MIB,
        }

    @property
    def unread(self) -> dict[str, int]:
        """Attempts that the server has not seen, by group. All are counted in the totals; only what calls tell of
        theirs can be counted apart, and what was cancelled tells nothing."""
        steady = self.account.attempts["steady"]
        sent = {"steady": steady, "hasty": self.sent - steady}
        return {group: count - self.met.get(group, 0) for group, count in sent.items()}

    @property
    def growth(self) -> int:
        """Bytes by which the highest memory of the last quarter is above that of the second, when all is warm."""
        quarter = max(1, len(self.samples) // 4)
        early, late = self.samples[quarter : 2 * quarter] or self.samples, self.samples[-quarter:]
        return max(sample.memory for sample in late) - max(sample.memory for sample in early)

    def to_json(self) -> str:
        """All of it, the samples too."""
        return json.dumps(vars(self) | {"broken": self.broken}, default=vars)

    def __str__(self) -> str:
        return "\n".join([*self._lines(), *(f"BROKEN: {promise}" for promise in self.broken)])

    def _lines(self) -> Iterator[str]:
        account, faults = self.account, {name: n for name, n in self.met.items() if name.startswith("fault ")}
        seen = self.met["steady"] + self.met["hasty"]
        yield f"{THREADS} threads and {TASKS} tasks for {self.seconds:g} s: {account.started:,} calls"
        yield f"  succeeded  {account.succeeded:,}, each with the answer to its question"
        yield f"  failed     {account.failed.total():,}: " + _listed(account.failed)
        yield f"  cancelled  {account.cancelled:,}"
        yield f"requests seen {seen:,}, attempts {self.sent:,}; of interrupted calls unseen: {self.unread['hasty']:,}"
        yield f"  faults     {sum(faults.values()) / seen:.1%}: " + _listed(
            {name.removeprefix("fault "): count for name, count in faults.items()}
        )
        yield f"  refused    {self.met.get('refused', 0):,}, above the key's concurrency"
        peaks = Sample(0, 0, *(max(column) for column in zip(*map(_held, self.samples), strict=True)))
        rests = {"before": self.before, "at the most": peaks, "unused": self.unused, "after": self.after}
        yield f"{'':13}" + "".join(
            f"{column:>13}" for column in ("memory", "descriptors", "threads", "tasks", "objects")
        )
        for name, (memory, *counts) in {name: _held(sample) for name, sample in rests.items()}.items():
            yield f"  {name:11}{memory / MIB:>9.1f} MiB" + "".join(f"{count:>13,}" for count in counts)
        yield f"memory grew by {self.growth / 1024:.0f} KiB from the second quarter to the last"
        yield from self.complaints


def _held(sample: Sample) -> tuple[int, ...]:
    return sample.memory, sample.descriptors, sample.threads, sample.tasks, sample.objects


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def draw(report: Report, path: Path) -> None:
    """Memory, descriptors and the rate of calls over time, as a picture."""
    import matplotlib as mpl  # noqa: PLC0415  # from a separate dependency group

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    from benchmarks.plot import STYLE  # noqa: PLC0415

    mpl.rcParams.update({**STYLE, "svg.hashsalt": "soak"})
    minutes = [sample.seconds / 60 for sample in report.samples]
    calls = [0, *(sample.calls for sample in report.samples)]
    times = [0.0, *(sample.seconds for sample in report.samples)]
    panels: dict[str, list[float]] = {
        "resident memory, MiB": [sample.memory / MIB for sample in report.samples],
        "file descriptors": [sample.descriptors for sample in report.samples],
        "calls a second": [(calls[i + 1] - calls[i]) / (times[i + 1] - times[i]) for i in range(len(report.samples))],
    }
    figure, rows = plt.subplots(len(panels), 1, sharex=True, figsize=(7, 5.4), layout="constrained")
    for axes, (what, values), color in zip(rows, panels.items(), ("#1f6f8b", "#8b5a1f", "#5f7f3f"), strict=True):
        axes.plot(minutes, values, color=color, linewidth=1.2)
        axes.set_ylim(0, max(values) * 1.25)
        axes.set_title(what, fontsize=10)
        axes.grid(axis="y")
    rows[-1].set_xlim(0, minutes[-1])
    rows[-1].set_xlabel("minutes")
    figure.savefig(path, transparent=True, metadata={"Date": None})
