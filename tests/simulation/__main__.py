"""`python -m tests.simulation [words] [--seeds N] [--plot FILE]`: run scenarios, and print a table of what came out."""

import argparse
import statistics
import time

from .run import run
from .scenarios import SCENARIOS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of scenarios; all if there are none")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'scenario':62} {'seconds':>8} {'at most':>8} {'refused':>8} {'at most':>8} {'sent':>6}  failed")
    for scenario in SCENARIOS:
        if options.words and not any(word in scenario.name for word in options.words):
            continue
        began = time.perf_counter()
        outcomes = [run(scenario, seed) for seed in range(options.seeds)]
        seconds = statistics.median(outcome.seconds for outcome in outcomes)
        refused = statistics.median(outcome.refused for outcome in outcomes)
        failed = sum((outcome.failed for outcome in outcomes), start=type(outcomes[0].failed)())
        wrong = {text for outcome in outcomes if (text := scenario.check(outcome))}
        ok = seconds <= scenario.seconds and refused <= scenario.refused and not wrong
        if scenario.seconds < float("inf") or scenario.refused < float("inf"):
            ok = ok and not failed
        print(
            f"{scenario.name:62} {seconds:8.2f} {scenario.seconds:8.2f} {refused:8.0f} {scenario.refused:8.0f} "
            f"{outcomes[0].sent:6}  {dict(failed) or ''} {'' if ok else 'MISSED'} {'; '.join(sorted(wrong))}"
            f"  [{time.perf_counter() - began:.1f} s]",
            flush=True,
        )


if __name__ == "__main__":
    main()
