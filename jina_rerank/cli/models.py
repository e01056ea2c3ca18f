"""`jina-rerank models`: the catalogue, or what the configured server serves."""

import json
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from .._typeguards import is_mapping, is_sequence
from ..catalog import DEFAULT_MODEL, Model, find_model
from ..catalog import models as catalogue
from ..errors import ResponseFormatError
from .console import json_line, note, show_rows, write_line
from .failures import ends_clearly
from .probe import ProbeResponse, configured, get, route

_HEADER: Final = ("model", "scoring", "tokens", "images", "price", "state")


@ends_clearly
def models(
    *,
    live: Annotated[bool, typer.Option("--live", help="Ask the configured server what it serves.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the rerankers of Jina: how they score, what they read and cost.

    Pointwise models score each document alone, listwise ones together. They
    read so many tokens at once. The price is in US dollars for 1M tokens. A
    model that the catalogue does not have is unknown.
    """
    names = _served() if live else [model.name for model in catalogue()]
    known = [find_model(name) for name in names]
    if as_json:
        for name, model in zip(names, known, strict=True):
            write_line(json_line({"name": name} if model is None else asdict(model)))
        return
    rows = [_row(name, model) for name, model in zip(names, known, strict=True)]
    show_rows(_HEADER, rows, ["dim" if model is not None and model.replaced_by else "" for model in known])


def _row(name: str, model: Model | None) -> list[str]:
    if model is None:
        return [name, "", "", "", "", "unknown"]
    return [
        model.name,
        model.scoring,
        f"{model.context_tokens}",
        "yes" if model.images else "no",
        f"{model.price_per_million_tokens:.2f}",
        _state(model),
    ]


def _state(model: Model) -> str:
    if model.replaced_by:
        return "deprecated"
    return "default" if model.name == DEFAULT_MODEL else ""


def _served() -> list[str]:
    """The models that the configured server lists, those of the catalogue first."""
    endpoint = configured()
    answer = get(endpoint, "models", route(endpoint))
    note(f"asked {answer.url}")
    refused = answer.refused
    if refused is not None:
        if answer.status in (404, 405):
            refused.add_note("not every server lists its models")
        raise refused
    return sorted(_names(answer), key=lambda name: find_model(name) is None)


def _names(answer: ProbeResponse) -> list[str]:
    try:
        read: Any = json.loads(answer.body)
    except (ValueError, RecursionError):
        read = None
    listed = read.get("data") if is_mapping(read) else None
    if not is_sequence(listed) or not all(is_mapping(one) and isinstance(one.get("id"), str) for one in listed):
        raise ResponseFormatError("the server's list of models is none: it has no data with ids", url=answer.url)
    return [answer.sent.redactor.text(one["id"]) for one in listed]
