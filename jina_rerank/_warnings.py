"""Warnings that name the line of the caller, from whichever road a call comes in."""

import inspect
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

_PASSED_OVER: Final = frozenset(
    ("jina_rerank", "langchain_core", "langchain_classic", "asyncio", "concurrent", "contextvars", "threading", "trio")
)
"""Packages whose frames stand between a call and the line that asked for it."""


class CallerLine(NamedTuple):
    """The place that a warning is shown for."""

    filename: str
    lineno: int
    module: str
    registry: dict[Any, Any]
    """Where Python keeps which warnings this module has shown."""


def caller_line() -> CallerLine:
    """Return the innermost line outside this package and the frameworks that call it; else the innermost outside it."""
    frames = list(_frames())
    outside = [frame for frame in frames if _package(frame) != "jina_rerank"]
    found = next((frame for frame in outside if _package(frame) not in _PASSED_OVER), (outside or frames)[0])
    names = found.f_globals
    registry = names.setdefault("__warningregistry__", {})
    return CallerLine(found.f_code.co_filename, found.f_lineno, names.get("__name__", "<string>"), registry)


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def warn_deprecated(message: str, caller: CallerLine | None = None) -> None:
    """Show a DeprecationWarning for `caller`, by default for the line that called this package."""
    at = caller or caller_line()
    warnings.warn_explicit(message, DeprecationWarning, at.filename, at.lineno, at.module, at.registry)
