"""Warnings that name the line of the caller, from whichever road a call comes in."""

import sys
import warnings
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
    frame = sys._getframe(1)  # noqa: SLF001  # what `warnings` and `logging` use
    fallback = None
    while True:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in _PASSED_OVER:
            break
        if fallback is None and package != "jina_rerank":
            fallback = frame
        if frame.f_back is None:
            frame = fallback or frame
            break
        frame = frame.f_back
    names = frame.f_globals
    registry = names.setdefault("__warningregistry__", {})
    return CallerLine(frame.f_code.co_filename, frame.f_lineno, names.get("__name__", "<string>"), registry)


def warn_deprecated(message: str, caller: CallerLine | None = None) -> None:
    """Show a DeprecationWarning for `caller`, by default for the line that called this package."""
    at = caller or caller_line()
    warnings.warn_explicit(message, DeprecationWarning, at.filename, at.lineno, at.module, at.registry)
