"""`jina-rerank models`: lists the catalogue, or the models of the configured server."""

import json
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from .._probe import Probe, ProbeResponse
from .._typeguards import is_mapping, is_sequence
from ..catalog import DEFAULT_MODEL, Model, find_model
from ..catalog import models as catalogue
from ..errors import ResponseFormatError
from .console import json_line, note, show_rows, write_line
from .failures import reporting_errors
from .server import ServerOptions

_HEADER: Final = ("model", "scoring", "tokens", "images", "price", "state")


@reporting_errors
def models(
    *,
    live: Annotated[bool, typer.Option("--live", help="List the models of the configured server.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List Jina's rerankers, with their scoring, context and price.

    Pointwise models score each document alone, listwise ones all together.
    The tokens are the context length, the price is in US dollars per million
    tokens. The state of a model outside the catalogue is unknown.
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
    """Return the models that the configured server lists, those of the catalogue first."""
    response = Probe(ServerOptions().endpoint()).get("models")
    note(f"asked {response.url}")
    error = response.error
    if error is not None:
        if response.status in (404, 405):
            error.add_note("not every server lists its models")
        raise error
    return sorted(_names(response), key=lambda name: find_model(name) is None)


def _names(response: ProbeResponse) -> list[str]:
    try:
        content: Any = json.loads(response.body)
    except (ValueError, RecursionError):
        content = None
    listed = content.get("data") if is_mapping(content) else None
    if not is_sequence(listed) or not all(is_mapping(one) and isinstance(one.get("id"), str) for one in listed):
        raise ResponseFormatError("the server's list of models is invalid: it has no data with ids", url=response.url)
    return [response.redacted(one["id"]) for one in listed]
