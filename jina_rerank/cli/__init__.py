"""The command line `jina-rerank`, of the extra [cli]. This file imports without it, to say what is missing."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from io import TextIOWrapper


def main() -> None:
    """Runs the command line."""
    _open_missing_streams()
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


def _open_missing_streams() -> None:
    """Put files in the place of stdin, stdout and stderr that the shell has closed, in the order of their numbers.

    Else the next files to be opened, such as the output of `bulk`, would get these numbers.
    """
    nowhere = Path(os.devnull)
    sys.stdin = sys.stdin or nowhere.open()
    # Open for reading alone: results that nobody can get are an error, as for other programs.
    sys.stdout = sys.stdout or os.fdopen(os.open(nowhere, os.O_RDONLY), "w")
    sys.stderr = sys.stderr or nowhere.open("w")
