"""Responses and errors in a notebook: what they show, and the example, run as Jupyter runs it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from jina_rerank import (
    ConfigurationError,
    ImageDocument,
    RateLimitError,
    RerankError,
    RerankResponse,
    RerankResult,
    TextDocument,
    Usage,
)

EXAMPLE = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


class Page(HTMLParser):
    """The text of each cell, and the tags and styles, of what was written."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.styles: list[str] = []
        self.feed(response._repr_html_())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style"}
        self.tags.add(tag)
        self.styles += [value or "" for _, value in attrs]
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data

    @property
    def bars(self) -> list[float]:
        return [float(share) for style in self.styles for share in re.findall(r"\) (\S+)%, transparent", style)]


def response(*scores: float, documents: list[Any] | None = None, **fields: Any) -> RerankResponse[Any]:
    ranked = documents or ["text"] * len(scores)
    results = [RerankResult(index, score, ranked[index]) for index, score in enumerate(scores)]
    return RerankResponse(results, **fields)


def test_table_with_bars() -> None:
    page = Page(response(0.8, 0.4, -0.2, documents=["a", "b", "c"], model="m", usage=Usage(total_tokens=1234)))
    shown = [text for text in page.texts if text]
    assert shown == [
        *["rank", "index", "relevance_score", "document"],
        *["1", "0", "0.8000", "a"],
        *["2", "1", "0.4000", "b"],
        *["3", "2", "-0.2000", "c"],
        "m · 1,234 tokens",
    ]
    assert page.bars == [100.0, 60.0, 0.0]
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td", "div"}


@pytest.mark.parametrize(
    ("scores", "bars"), [((), []), ((0.0, 0.0), [0.0, 0.0]), ((-1.0, -3.0), [100.0, 0.0]), ((2.0,), [100.0])]
)
def test_bars_of_any_scores(scores: tuple[float, ...], bars: list[float]) -> None:
    assert Page(response(*scores)).bars == bars


def test_documents_are_escaped_in_html() -> None:
    page = Page(response(1.0, documents=["<script>alert('x')</script> & <b>"], model="<i>"))
    assert page.tags.isdisjoint({"script", "b", "i"})
    assert "<script>alert('x')</script> & <b>" in page.texts
    assert "<i>" in page.texts


def test_documents_of_all_kinds() -> None:
    kinds = [TextDocument(text="one"), {"text": "two"}, ImageDocument(image="https://host/i.png"), {"image": "aGk="}, 5]
    page = Page(response(5, 4, 3, 2, 1, documents=kinds))
    assert [text for text in page.texts if text][7::4] == ["one", "two", "(an image)", "(an image)", "5"]


def test_long_documents_and_long_lists_are_cut() -> None:
    page = Page(response(*[1.0] * 1060, documents=["line\n" * 1000] * 1060))
    assert page.texts.count("") < 1060
    assert "and 1,010 more" in page.texts
    assert max(map(len, page.texts)) == 301


def test_degraded_response_is_labeled() -> None:
    page = Page(response(0.0, degraded=True, cause=RerankError("no")))
    assert "not ranked: RerankError" in page.texts


def test_displayed_error_is_readable() -> None:
    error = RateLimitError("<b>slow</b>", status=429)
    page = Page(error)
    assert [text for text in page.texts if text] == ["RateLimitError: HTTP 429: <b>slow</b>", RateLimitError.hint]


def test_hint_is_exception_note() -> None:
    assert RateLimitError("slow").__notes__ == [RateLimitError.hint]
    assert not hasattr(ConfigurationError("its message says what to do"), "__notes__")
    degraded = response(0.0, degraded=True, cause=RateLimitError("slow"))
    assert "__notes__" not in degraded.to_dict()["cause"]


# The example


def shown(cell: Any) -> list[str]:
    """What a cell shows, without what differs from run to run: seconds, ports, ids."""
    found = [
        output.get("text")
        or "".join(output.get("traceback", ""))
        or output.data.get("text/html")
        or output.data.get("text/markdown")
        for output in cell.outputs
    ]
    return [re.sub(r"\d+\.\d{3} s|:\d{4,5}/|request_id=\w+|\x1b\[[0-9;]*m", "", str(text)) for text in found]


def test_example_notebook_outputs_match_execution() -> None:
    pytest.importorskip("ir_measures")
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    stored, run = (nbformat.read(EXAMPLE, as_version=4) for _ in range(2))
    nbclient.NotebookClient(run, timeout=100).execute()
    code = [
        (shown(before), shown(after))
        for before, after in zip(stored.cells, run.cells, strict=True)
        if "outputs" in before
    ]
    assert [before for before, _ in code] == [after for _, after in code]
    _, table, many, report, raised, looked_at, _ = [" ".join(before) for before, _ in code]
    assert "<table>" in table
    assert "40 rankings" in many
    assert "# Rerankers on 40 claims of SciFact" in report
    assert "Look at JINA_API_KEY" in raised
    assert "Look at JINA_API_KEY" in looked_at


def test_example_notebook_has_no_machine_paths() -> None:
    stored = EXAMPLE.read_text()
    assert re.search(r"/(?:home|root|tmp|Users|usr|work)/", stored) is None
    assert "jina_local" in stored
