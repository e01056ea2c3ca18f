"""Writes the matrix into docs/reliability.md: `python -m tests.matrix.page`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from . import ROWS
from .case import Case, Row

PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
BLOCK: Final = re.compile(r"(<!-- matrix -->\n).*?(<!-- end of matrix -->)", re.DOTALL)


def with_matrix(page: str) -> str:
    """Return the page with the current table."""
    return BLOCK.sub(lambda match: match[1] + "\n".join(_lines()) + "\n" + match[2], page)


def _lines() -> Iterator[str]:
    cases = [case for row in ROWS for case in row.cases]
    yield f"{len(cases)} cases, run {sum(len(case.ways) for case in cases)} times."
    yield ""
    yield "| # | fault | promise | ends with | calls | shown by |"
    yield "|---|---|---|---|---|---|"
    for row in ROWS:
        yield "| " + " | ".join(_cells(row)) + " |"


def _cells(row: Row) -> Iterator[str]:
    yield str(row.number)
    yield row.fault
    yield row.promise
    yield "; ".join(dict.fromkeys(map(_end, row.cases))) or "-"
    yield str(sum(len(case.ways) for case in row.cases)) if row.cases else "-"
    tests = [f"`{test.partition('::')[2]}`" for test in row.tests]
    yield "<br>".join([*tests, *([f"not shown: {row.missing}"] if row.missing else [])]) or (
        "the matrix" if row.cases else "-"
    )


def _end(case: Case) -> str:
    errors = case.error if isinstance(case.error, tuple) else (case.error,)
    ends = " or ".join("the answer" if error is None else f"`{error.__name__}`" for error in errors)
    attempts = case.attempts if isinstance(case.attempts, tuple) else (case.attempts,)
    return f"{ends} after {' or '.join(map(str, attempts))}"


if __name__ == "__main__":
    PAGE.write_text(with_matrix(PAGE.read_text()))
