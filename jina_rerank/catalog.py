"""The catalogue of Jina's rerankers: how each scores, what it reads, what it costs.

The table lists the models of Jina's own API description (version 2026.09.09.1755) and of the model pages of
jina.ai. It is advisory: the name of a model that is not listed is sent to the server unchanged.
"""

from dataclasses import dataclass
from typing import Final, Literal

DEFAULT_MODEL: Final = "jina-reranker-v3.5"
"""The model of calls that name none: the newest, released on 2026-07-27."""

Scoring = Literal["pointwise", "listwise"]
"""`pointwise`: each document is scored alone. `listwise`: a score depends on the other documents too."""


@dataclass(frozen=True, slots=True)
class Model:
    """One reranker of the catalogue."""

    name: str
    scoring: Scoring
    context_tokens: int
    """Tokens that one scoring pass reads: the query with one document (pointwise) or with all (listwise)."""
    document_tokens: int | None = None
    """Tokens read of each document unless `max_doc_length` is given; None for as many as fit."""
    images: bool = False
    """Whether documents and the query may be images."""
    embeddings: bool = False
    """Whether the model supports `return_embeddings=True`."""
    replaced_by: str | None = None
    """The replacement of a deprecated model; None for a current one."""
    price_per_million_tokens: float = 0.05
    """The price in US dollars; all rerankers cost the same (`GET /v1/models`)."""


_MODELS: Final = {
    model.name: model
    for model in (
        Model("jina-reranker-v3.5", "listwise", 131_072, 8_192, embeddings=True),
        Model("jina-reranker-v3", "listwise", 131_072, 2_048, embeddings=True),
        Model("jina-reranker-m0", "pointwise", 10_240, images=True),
        Model("jina-reranker-v2-base-multilingual", "pointwise", 1_024),
        Model("jina-colbert-v2", "pointwise", 8_192),
        Model("jina-colbert-v1-en", "pointwise", 8_192),
        Model("jina-reranker-v1-base-en", "pointwise", 8_192, replaced_by=DEFAULT_MODEL),
        Model("jina-reranker-v1-turbo-en", "pointwise", 8_192, replaced_by=DEFAULT_MODEL),
        Model("jina-reranker-v1-tiny-en", "pointwise", 8_192, replaced_by=DEFAULT_MODEL),
    )
}

_PREFIXES: Final = ("jinaai/", "jina-ai/")


def models() -> tuple[Model, ...]:
    """Return all models of the catalogue, newest first."""
    return tuple(_MODELS.values())


def find_model(name: str) -> Model | None:
    """Return the entry for `name`, with or without the prefix `jinaai/` or `jina-ai/`; None if it is not listed."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _MODELS.get(name)
