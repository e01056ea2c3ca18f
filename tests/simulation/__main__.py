"""`python -m tests.simulation [words] [--seeds N] [--plot FILE]`: run scenarios, and print a table of what came out."""

import argparse
import statistics
import time
from pathlib import Path

from .run import run
from .scenarios import SCENARIOS
from .verdict import verdict


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of scenario names (default: all scenarios)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each scenario; the medians count (5)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of the first run of each")
    options = parser.parse_args()
    chosen = [s for s in SCENARIOS if not options.words or any(word in s.name for word in options.words)]
    print(f"{'scenario':50} {'seconds':>8} {'at most':>8} {'refused':>8} {'at most':>8} {'sent':>6}")
    first = []
    for scenario in chosen:
        began = time.perf_counter()
        outcomes = [run(scenario, seed, watched=bool(options.plot)) for seed in range(options.seeds)]
        first.append((scenario, outcomes[0]))
        seconds = statistics.median(outcome.seconds for outcome in outcomes)
        refused = statistics.median(outcome.refused for outcome in outcomes)
        wrong = "; ".join(verdict(scenario, outcomes)) or "ok"
        print(
            f"{scenario.name:50} {seconds:8.2f} {scenario.seconds:8.2f} {refused:8.0f} {scenario.refused:8.0f} "
            f"{outcomes[0].sent:6}  {wrong}  [{time.perf_counter() - began:.1f} s]",
            flush=True,
        )
    if options.plot:
        from .plot import plot  # noqa: PLC0415  # matplotlib is in a separate dependency group

        plot(options.plot, first)


if __name__ == "__main__":
    main()
