"""The command line `jina-rerank`, of the extra [cli]. This module also works without it, to name the missing extra."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from io import TextIOWrapper


def main() -> None:
    """Run the command line."""
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
    # A character that the terminal's encoding lacks is shown as a question mark instead of raising an error.
    cast("TextIOWrapper", sys.stdout).reconfigure(errors="replace")
    app()


def _open_missing_streams() -> None:
    """Replace stdin, stdout and stderr with the null device where the shell has closed them, in order of descriptor.

    Otherwise the next files opened, such as the output of `bulk`, would get these descriptors.
    """
    null_device = Path(os.devnull)
    sys.stdin = sys.stdin or null_device.open()
    # Read-only, so that writing results to a closed stdout is an error, as in other programs.
    sys.stdout = sys.stdout or os.fdopen(os.open(null_device, os.O_RDONLY), "w")
    sys.stderr = sys.stderr or null_device.open("w")
