"""`python -m benchmarks` writes docs/benchmarks.md and its plot; with `quick`, a rough run writes to build/."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from .measure import FULL, QUICK, measure
from .plot import plot
from .report import report

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "jina-rerank",
    "httpx",
    "aiohttp",
    "httpx-aiohttp",
    "anyio",
    "pydantic",
    "cohere",
    "voyageai",
    "mixedbread",
    "langchain-community",
    "llama-index-postprocessor-jinaai-rerank",
)


def facts(load: float) -> list[str]:
    """Return the facts about the machine and the versions that a reader needs."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    machine = f"{python} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return [f"{machine}; the load average was {load:.1f} when the run began.", f"{versions}."]


def main() -> None:
    quick = sys.argv[1:] == ["quick"]
    plan, folder = (QUICK, ROOT / "build") if quick else (FULL, ROOT / "docs")
    before = facts(os.getloadavg()[0])
    figures = measure(plan)
    folder.mkdir(exist_ok=True)
    page = report(figures, before, seconds=plan.crowd_seconds)
    (folder / "benchmarks.md").write_text(page)
    plot(figures, folder / "benchmarks.svg")
    print(page)


if __name__ == "__main__":
    main()
