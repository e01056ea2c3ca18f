"""Errors of commands: their exit codes, and the one line on stderr."""

import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec

import typer

from .._endpoint import API_KEY_VARIABLE, BASE_URL_VARIABLE, MISSING_KEY
from ..errors import ConfigurationError, InvalidRequestError, RerankError
from .console import abandon, note

P = ParamSpec("P")


class CommandError(Exception):
    """A command that cannot run with these arguments, or on this machine; the message says what to do."""


class Ending(NamedTuple):
    exit_code: int
    line: str | None = None


def ending(error: BaseException, url_option: str = BASE_URL_VARIABLE) -> Ending | None:
    """Return the exit code and message for `error`; None if it is a bug, which no user can cause or fix.

    Args:
        error: The exception that ended the command.
        url_option: The option or variable with which the user named the server.
    """
    match error:
        case KeyboardInterrupt():
            return Ending(130, "interrupted")
        case BrokenPipeError():
            # The reader of the results, such as `head -1`, has closed the pipe; they come last. Notes never raise this.
            return Ending(0)
        case CommandError() as usage_error:
            return Ending(2, str(usage_error))
        case RerankError() as failed:
            wrong_use = isinstance(failed, ConfigurationError | InvalidRequestError)
            return Ending(2 if wrong_use else 1, in_shell_words(failed, url_option))
        case OSError(strerror=str(reason)):
            # Writing the results. Reading files and opening ports raise CommandError, with more details.
            return Ending(2, reason)
        case _:
            return None


_MISSING_KEY_TEXT: Final = (
    f"Jina's API needs a key: set {API_KEY_VARIABLE} (https://jina.ai/reranker). Without a key: --local for rank and "
    "bulk, the contender lexical for eval, or a server of your own by `jina-rerank serve`"
)
_PYTHON_PHRASES: Final = (
    # Remedies that the shell does not have, up to the next clause.
    (re.compile(r"(?:;| or|, or say with) (?:for objects of your own pass key=|headers=|rate_limit=)[^.;]*"), ""),
    (re.compile(r", or None(?: for no limit)?"), ""),
    # The text after it names the variable.
    (re.compile(r"^api_key: (?=the variable |api_key )"), ""),
    (re.compile(r"a str, a TextDocument, an ImageDocument, or a mapping with a str"), "a text, or an object with one"),
)
_ARGUMENTS: Final = re.compile(
    r"\b(max_documents|max_doc_length|max_concurrency|allow_insecure|base_url|api_key|top_n)\b(?:=True\b|=(?!\w))?"
    r"|\b(model|timeout|deadline|scoring)=(?!\w)"
    r"|^(model|timeout|deadline|scoring)(?=: )"
)


def in_shell_words(error: RerankError, url_option: str = BASE_URL_VARIABLE) -> str:
    """Return the error's message and notes with the shell's options in place of Python's arguments."""
    if error.code == MISSING_KEY:
        return _MISSING_KEY_TEXT
    texts = [str(error), *getattr(error, "__notes__", ())]
    return "; ".join(shell_text(text, url_option) for text in texts)


def shell_text(text: str, url_option: str) -> str:
    """Return `text` with the shell's options in place of Python's arguments."""
    words = {"base_url": url_option, "api_key": "--api-key-variable"}

    def option(found: re.Match[str]) -> str:
        name = str(found[1] or found[2] or found[3])
        return words.get(name, "--" + name.replace("_", "-"))

    for python, shell in _PYTHON_PHRASES:
        text = python.sub(shell, text)
    return _ARGUMENTS.sub(option, text)


def _url_option(arguments: Mapping[str, Any]) -> str:
    if any("://" in contender for contender in arguments.get("contenders", ())):
        return "MODEL@URL"
    return "--base-url" if arguments.get("base_url") is not None else BASE_URL_VARIABLE


def reporting_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Decorate a command to report its errors in one line and exit with their codes."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BaseException as error:
            end = ending(error, _url_option(kwargs))
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
    """Report a missing package as the extra to install.

    Raises:
        CommandError: A package is missing.
    """
    try:
        yield
    except ImportError as error:
        missing = error.__cause__ or error
        raise CommandError(f'an extra is missing: pip install "jina-rerank[{extra}]" ({missing})') from None


@contextmanager
def writing(place: Path) -> Generator[None]:
    """Report an error in writing as one of `place`.

    Raises:
        CommandError: Something cannot be written.
    """
    try:
        yield
    except RerankError:  # timeouts are subclasses of OSError
        raise
    except OSError as error:
        raise CommandError(f"{place} cannot be written: {error.strerror}") from None
