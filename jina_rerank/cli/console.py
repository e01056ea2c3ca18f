"""Output: results on stdout, everything else on stderr, and no control characters from documents or servers."""

import json
import os
import re
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOBase
from itertools import zip_longest
from typing import IO, Final, TextIO, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

# Control characters (escape sequences begin with one), line separators, and the bidirectional formatting characters,
# which change the direction of the text after them.
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# The same, and lone surrogates.
_ESCAPED_CHARACTERS: Final = re.compile(_CONTROL_CHARACTERS.pattern[:-1] + r"\ud800-\udfff]")

_NUMBER: Final = re.compile(r"[-+.\de]*")
_MAX_NAME_WIDTH: Final = 36  # the longest name of Jina's models


def printable(text: str) -> str:
    """Return the text on one line, safe for a terminal: tabs and line breaks become spaces, other controls a �."""
    return _CONTROL_CHARACTERS.sub(lambda found: " " if found[0] in "\t\n\r" else "\N{REPLACEMENT CHARACTER}", text)


def abandon(stream: TextIO) -> None:
    """Discard what `stream` still buffers; otherwise the interpreter fails to flush it at exit."""
    with suppress(OSError):
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, stream.fileno())
        os.close(null_device)


@contextmanager
def ignoring_broken_pipe() -> Generator[None]:
    """Continue when the reader of the results closes the pipe early, as `head -1` does."""
    try:
        yield
    except BrokenPipeError:
        abandon(sys.stdout)


class _Screen(TextIOBase):
    """stderr, whose write errors are ignored: a closed pipe or terminal must not abort the command."""

    def write(self, text: str, /) -> int:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            abandon(sys.stderr)
        return len(text)

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed declares a writable attribute
        return sys.stderr.encoding


_screen: Final = _Screen()


def note(message: str) -> None:
    """Write one line to stderr, not wrapped to the terminal's width."""
    _screen.write(f"jina-rerank: {printable(message)}\n")


@contextmanager
def warnings_noted() -> Generator[None]:
    """Write deprecation warnings, which Python hides by default, as notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        try:
            yield
        finally:
            for warning in caught:
                note(str(warning.message))


def json_line(data: object) -> str:
    """Return JSON on one line, with only control characters and lone surrogates escaped."""
    text = json.dumps(data, ensure_ascii=False)
    return _ESCAPED_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_line(line: str) -> None:
    """Write a result to stdout unchanged, in UTF-8 like the input, whatever the locale."""
    typer.echo(line.encode())


def results_on_terminal() -> bool:
    """Return whether stdout is a terminal, not a pipe or a file."""
    return sys.stdout.isatty()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would exit with code 1 here.
        raise BrokenPipeError


def result_console() -> Console:
    """Return a console for tables, which prints documents as they are, not as markup or emoji codes."""
    return _Console(markup=False, emoji=False, highlight=False)


def show_rows(header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Write results in columns: a table on a terminal, tab-separated lines otherwise."""
    if not results_on_terminal():
        for row in (header, *rows):
            write_line("\t".join(row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, *cells in zip(header, *rows, strict=True):
        numbers = all(_NUMBER.fullmatch(cell) for cell in cells)
        table.add_column(name, overflow="fold", justify="right" if numbers else "left")
    for row, style in zip_longest(rows, styles, fillvalue=""):
        table.add_row(*(Text(printable(cell)) for cell in row), style=str(style))
    result_console().print(table)


def ranking_table(*numbers: str, text: str) -> Table:
    """Return a table with columns of numbers, never truncated, then one of text over the remaining width."""
    table = Table(box=None, expand=True, header_style="bold", pad_edge=False)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(text, ratio=1, no_wrap=True, overflow="ellipsis")
    return table


def progress_bars(*details: str) -> Progress:
    """Return progress bars for stderr, shown only on a terminal: description, count, details and remaining time.

    Args:
        details: The names of the task fields to show.
    """
    console = Console(file=cast(IO[str], _screen))
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=_MAX_NAME_WIDTH)),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),  # the remaining width
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in details),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        expand=True,
        disable=not console.is_interactive,
        # Rich would replace sys.stderr, to which _Screen writes.
        redirect_stdout=False,
        redirect_stderr=False,
    )
