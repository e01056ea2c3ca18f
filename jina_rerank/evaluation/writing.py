"""Writing the report of an evaluation, with its plots."""

import os
from pathlib import Path

from .report import report
from .results import Evaluation


def write_report(evaluation: Evaluation, directory: str | os.PathLike[str]) -> Path:
    """Write `report.md` and its plots as SVG files, and return the report's path.

    Raises:
        ImportError: matplotlib is missing.
        OSError: A file cannot be written.
    """
    from .plots import save_plots  # noqa: PLC0415  # matplotlib is slow to import, and only plots need it

    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    file = place / "report.md"
    file.write_text(report(evaluation, save_plots(evaluation, place)), encoding="utf-8")
    return file
