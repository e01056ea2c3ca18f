"""What is known of each Jina reranker: how it scores, what it reads, what it costs.

The table holds the models of Jina's own API description (version 2026.09.09.1755) and of the model pages of
jina.ai. It is advice, not a gate: a model that is not listed is sent to the server as it is.
"""

from dataclasses import dataclass
from typing import Final, Literal

DEFAULT_MODEL: Final = "jina-reranker-v3.5"
"""The model of every call that names none: the newest, released on 2026-07-27."""

Scoring = Literal["pointwise", "listwise"]
"""`pointwise`: each document is scored alone. `listwise`: a score depends on the other documents too."""


@dataclass(frozen=True, slots=True)
class Model:
    """One reranker of the catalogue."""

    name: str
    scoring: Scoring
    context_tokens: int
    """How many tokens one scoring pass reads: query and one document (pointwise) or all documents (listwise)."""
    document_tokens: int | None = None
    """How many tokens of a document are read where `max_doc_length` does not say it; None is as many as fit."""
    images: bool = False
    """Whether documents, and the query, may be images."""
    embeddings: bool = False
    """Whether `return_embeddings=True` is understood."""
    replaced_by: str | None = None
    """The model to use instead of a deprecated one; None while it is current."""
    price_per_million_tokens: float = 0.05
    """US dollars; every reranker costs the same (`GET /v1/models`)."""


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
    """All models of the catalogue, newest first."""
    return tuple(_MODELS.values())


def find_model(name: str) -> Model | None:
    """The catalogue's entry for `name`, with or without the prefix `jinaai/` or `jina-ai/`; None if not listed."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _MODELS.get(name)
