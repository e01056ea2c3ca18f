"""`jina-rerank demo`: what reranking does to real search results, measured."""

from typing import Annotated, Final

import typer

from ..console import json_line, note, result_console, write_line
from ..failures import ends_clearly, needing

_CLAIMS: Final = 40


@ends_clearly
def demo(
    *,
    claims: Annotated[int, typer.Option(min=1, max=_CLAIMS, help="How many of the claims to ask about.")] = _CLAIMS,
    as_json: Annotated[bool, typer.Option("--json", help="The totals alone, as one JSON object.")] = False,
) -> None:
    """Rerank the search results of 40 scientific claims, and measure the gain.

    It asks an emulator on this machine, which scores with a small neural model.
    With JINA_API_KEY set it asks Jina, with JINA_RERANK_BASE_URL that server.
    """
    with needing("demo"):
        # What these import is of the extra [demo].
        from .report import report  # noqa: PLC0415
        from .run import target, work  # noqa: PLC0415
        from .screen import screen  # noqa: PLC0415
    with target() as asked:
        note(f"asking {asked.name}")
        done = report(work(asked, claims))
    if as_json:
        write_line(json_line(done.totals()))
    else:
        result_console().print(screen(done))
