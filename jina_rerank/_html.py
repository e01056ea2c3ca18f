"""HTML of responses and errors for notebooks. All content is escaped; the colours are those of the notebook."""

from collections.abc import Iterable
from html import escape
from typing import Final

_MAX_ROWS: Final = 50
_MAX_DOCUMENT_CHARACTERS: Final = 300
# Translucent: light blue on white, and dark blue on black.
_BAR_COLOUR: Final = "rgba(64, 128, 255, 0.35)"
_CELL_STYLE: Final = "text-align: {}; padding: 2px 10px; vertical-align: top; font-variant-numeric: tabular-nums"


def ranking_html(rows: Iterable[tuple[int, float, object]], count: int, facts: Iterable[object]) -> str:
    """Return a table of ranked documents, best first, with a bar for each score.

    Args:
        rows: The index, score and document of each.
        count: The number of rows.
        facts: Facts to show below the table; empty ones are omitted.
    """
    shown = [row for row, _ in zip(rows, range(_MAX_ROWS), strict=False)]
    widths = bar_widths([score for _, score, _ in shown])
    lines = [
        f"<tr>{_cell(place)}{_cell(index)}{_score_cell(score, width)}{_cell(_brief(document), align='left')}</tr>"
        for place, ((index, score, document), width) in enumerate(zip(shown, widths, strict=True), 1)
    ]
    head = "".join(_cell(name, "th", align) for name, align in _COLUMNS)
    more = f"and {count - len(shown):,} more" if count > len(shown) else ""
    below = " · ".join(escape(str(fact)) for fact in (more, *facts) if fact)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        f'<div style="opacity: 0.7; font-size: 90%">{below}</div>'
    )


_COLUMNS: Final = (("rank", "right"), ("index", "right"), ("relevance_score", "left"), ("document", "left"))


def error_html(kind: str, text: str, hint: str | None) -> str:
    """Return an error with its hint."""
    advice = f'<div style="opacity: 0.8">{escape(hint)}</div>' if hint else ""
    return f'<div style="white-space: pre-wrap"><b>{escape(kind)}</b>: {escape(text)}</div>{advice}'


def bar_widths(scores: list[float]) -> list[float]:
    """Return the widths from 0 to 1: 1 for the best score, 0 for a score of zero, or for the lowest if negative."""
    if not scores:
        return []
    low, high = min(0.0, *scores), max(scores)
    return [(score - low) / (high - low) if high > low else 0.0 for score in scores]


def _score_cell(score: float, width: float) -> str:
    bar = f"background: linear-gradient(90deg, {_BAR_COLOUR} {width:.1%}, transparent {width:.1%}); min-width: 9em"
    return f'<td style="{_CELL_STYLE.format("left")}; {bar}">{score:.4f}</td>'


def _cell(content: object, tag: str = "td", align: str = "right") -> str:
    return f'<{tag} style="{_CELL_STYLE.format(align)}">{escape(str(content))}</{tag}>'


def _brief(document: object) -> str:
    text = " ".join(str(document).split())
    return text if len(text) <= _MAX_DOCUMENT_CHARACTERS else text[:_MAX_DOCUMENT_CHARACTERS] + "…"
