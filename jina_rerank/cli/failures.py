"""How commands end when something goes wrong: the exit code, and the one line on stderr."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec

import typer

from ..errors import ConfigurationError, InvalidRequestError, RerankError
from .console import abandon, note

P = ParamSpec("P")


class CommandError(Exception):
    """The command cannot be carried out as it was called, or on this machine; the message says what to do."""


class Ending(NamedTuple):
    exit_code: int
    line: str | None = None


def ending(error: BaseException) -> Ending | None:
    """How a command that met `error` ends; None for what no user can cause or cure, which is a bug."""
    match error:
        case KeyboardInterrupt():
            return Ending(130, "interrupted")
        case BrokenPipeError():
            # Results come last, and whoever reads them has enough, such as `head -1`. Notes on stderr never fail.
            return Ending(0)
        case CommandError() | ConfigurationError() | InvalidRequestError() as refused:
            return Ending(2, str(refused))
        case RerankError() as failed:
            return Ending(1, "; ".join([str(failed), *getattr(failed, "__notes__", ())]))
        case OSError(strerror=str(reason)):
            # Reading files and opening ports tell more themselves; this is left for writing the results.
            return Ending(2, reason)
        case _:
            return None


def ends_clearly(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with its failures turned into endings."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BaseException as error:
            end = ending(error)
            if end is None:
                raise
            if isinstance(error, OSError):
                abandon(sys.stdout)
            if end.line is not None:
                note(end.line)
            raise typer.Exit(end.exit_code) from None

    return wrapper


@contextmanager
def needing(extra: str) -> Generator[None]:
    """Says which extra to install where a package is missing.

    Raises:
        CommandError: One is.
    """
    try:
        yield
    except ImportError as error:
        missing = error.__cause__ or error
        raise CommandError(f'this needs an extra: pip install "jina-rerank[{extra}]" ({missing})') from None


@contextmanager
def writing(place: Path) -> Generator[None]:
    """Says what cannot be written.

    Raises:
        CommandError: Something cannot.
    """
    try:
        yield
    except RerankError:  # time limits are of OSError's kind
        raise
    except OSError as error:
        raise CommandError(f"{place} cannot be written: {error.strerror}") from None
