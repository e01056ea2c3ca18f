"""Warnings that name the caller's line, through whatever frameworks the call was made."""

import inspect
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

_SKIPPED_PACKAGES: Final = frozenset(
    ("jina_rerank", "langchain_core", "langchain_classic", "asyncio", "concurrent", "contextvars", "threading", "trio")
)
"""Packages whose frames may be between the caller's line and this package."""


class CallerLine(NamedTuple):
    """The line that a warning names."""

    filename: str
    lineno: int
    module: str
    registry: dict[Any, Any]
    """The module's `__warningregistry__`, in which Python records the warnings already shown."""


def caller_line() -> CallerLine:
    """Return the innermost line outside this package and the skipped ones; else the innermost outside this package."""
    frames = list(_frames())
    outside = [frame for frame in frames if _package(frame) != "jina_rerank"]
    found = next((frame for frame in outside if _package(frame) not in _SKIPPED_PACKAGES), (outside or frames)[0])
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
    """Issue a DeprecationWarning for `caller`, by default for the line that called this package."""
    at = caller or caller_line()
    warnings.warn_explicit(message, DeprecationWarning, at.filename, at.lineno, at.module, at.registry)
