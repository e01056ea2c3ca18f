"""`jina-rerank demo`: measures the gain of reranking on real search results."""

from typing import Annotated, Final

import typer

from ..console import json_line, note, result_console, write_line
from ..failures import needing, reporting_errors

_MAX_CLAIMS: Final = 40


@reporting_errors
def demo(
    *,
    claims: Annotated[int, typer.Option(min=1, max=_MAX_CLAIMS, help="Number of claims to rerank.")] = _MAX_CLAIMS,
    as_json: Annotated[bool, typer.Option("--json", help="Only the totals, as one JSON object.")] = False,
) -> None:
    """Rerank the search results of 40 scientific claims, and measure the gain.

    Uses an emulator on this machine, which scores with a small neural model.
    With JINA_API_KEY it uses Jina, with JINA_RERANK_BASE_URL that server.
    """
    with needing("demo"):
        # These import the packages of the extra [demo].
        from .report import report  # noqa: PLC0415
        from .run import target, work  # noqa: PLC0415
        from .screen import screen  # noqa: PLC0415
    with target() as server:
        note(f"asking {server.name}")
        result = report(work(server, claims))
    if as_json:
        write_line(json_line(result.totals()))
    else:
        result_console().print(screen(result))
