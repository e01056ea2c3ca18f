"""The command line `jina-rerank`, of the extra [cli]. This file imports without it, to say what is missing."""

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from io import TextIOWrapper


def main() -> None:
    """Runs the command line."""
    try:
        from .app import app  # noqa: PLC0415  # typer and rich may be missing
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write('jina-rerank: the command line needs an extra: pip install "jina-rerank[cli]"\n')
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    # A letter that the terminal's encoding does not have is shown as a question mark, and is no error.
    cast("TextIOWrapper", sys.stdout).reconfigure(errors="replace")
    app()
