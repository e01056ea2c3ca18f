"""Holds the outcomes of a scenario against its limits."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from .run import Outcome
from .scenarios import Scenario


def verdict(scenario: Scenario, outcomes: Sequence[Outcome]) -> list[str]:
    """Return what is wrong with the median of some runs; nothing if all is well."""
    wrong = list[str]()
    seconds = statistics.median(outcome.seconds for outcome in outcomes)
    refused = statistics.median(outcome.refused for outcome in outcomes)
    failed = sum((outcome.failed for outcome in outcomes), start=Counter[str]())
    if seconds > scenario.seconds:
        wrong.append(f"took {seconds:.2f} s; at most {scenario.seconds:.2f} s")
    if refused > scenario.refused:
        wrong.append(f"{refused:.0f} requests were refused; at most {scenario.refused:.0f}")
    if failed and scenario.seconds < math.inf:
        wrong.append(f"calls failed: {dict(failed)}")
    return wrong + sorted({text for outcome in outcomes if (text := scenario.check(outcome))})
