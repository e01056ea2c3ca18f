"""What reaches the terminal: results on stdout, everything else on stderr, and no byte that commands a terminal."""

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

# Control characters (escape sequences begin with one), separators of lines, and the marks that reverse the direction
# of all text after them.
_COMMANDING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# The same, and the halves of surrogate pairs.
_ESCAPED: Final = re.compile(_COMMANDING.pattern[:-1] + r"\ud800-\udfff]")

_NUMBER: Final = re.compile(r"[-+.\de]*")
_LONGEST_NAME: Final = 36  # the longest of Jina's models


def printable(text: str) -> str:
    """The text on one line, safe for a terminal: a tab or line break is a space, other such characters are a �."""
    return _COMMANDING.sub(lambda found: " " if found[0] in "\t\n\r" else "\N{REPLACEMENT CHARACTER}", text)


def abandon(stream: TextIO) -> None:
    """Send nowhere what `stream` still buffers; else the interpreter fails to write it once more when it exits."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def readers_may_leave() -> Generator[None]:
    """Go on when whoever reads the results has enough of them, such as `head -1`."""
    try:
        yield
    except BrokenPipeError:
        abandon(sys.stdout)


class _Screen(TextIOBase):
    """stderr for people. A pipe or terminal that nobody reads any more must not end the work, so nothing here fails."""

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
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute, which nobody sets
        return sys.stderr.encoding


_screen: Final = _Screen()


def note(message: str) -> None:
    """Write something that is no result: one line on stderr, however narrow the terminal."""
    _screen.write(f"jina-rerank: {printable(message)}\n")


@contextmanager
def warnings_noted() -> Generator[None]:
    """Notes what Python would hide: that a model is deprecated."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        try:
            yield
        finally:
            for warning in caught:
                note(str(warning.message))


def json_line(data: object) -> str:
    """JSON on one line, its letters as they are; what commands a terminal, and what UTF-8 cannot write, is escaped."""
    text = json.dumps(data, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_line(line: str) -> None:
    """Writes a result to stdout as it is, in UTF-8 like the input, whatever the locale says."""
    typer.echo(line.encode())


def results_on_terminal() -> bool:
    """Whether a person reads the results, not a program or a file."""
    return sys.stdout.isatty()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would exit with 1 here.
        raise BrokenPipeError


def result_console() -> Console:
    """For tables. Whatever looks like markup or an emoji code is the documents' own text."""
    return _Console(markup=False, emoji=False, highlight=False)


def show_rows(header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Results in columns, the last of them of text: a table for a person, lines with tabs between for a program."""
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
    """Columns of numbers, never cut, then one of text that takes what is left of the terminal's width."""
    table = Table(box=None, expand=True, header_style="bold", pad_edge=False)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(text, ratio=1, no_wrap=True, overflow="ellipsis")
    return table


def progress_bars(*details: str) -> Progress:
    """Bars on stderr, for a person alone, with what each is about, how far it is, details, and the time that is left.

    Args:
        details: Names of a task's fields to show.
    """
    console = Console(file=cast(IO[str], _screen))
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=_LONGEST_NAME)),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),  # what the numbers leave
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in details),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        expand=True,
        disable=not console.is_interactive,
        # Rich would put its own files in the place of sys.stderr, to which the screen writes.
        redirect_stdout=False,
        redirect_stderr=False,
    )
