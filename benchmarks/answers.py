"""Realistic documents to send, and one fixed response in the format of each API."""

import json
import random
from functools import lru_cache
from typing import Any, Final

Pairs = list[tuple[int, float]]
"""Index and score of each result, best first, which every contender must parse from the response."""

QUERY: Final = "Which papers show that sleep protects the memory of older people?"

_COMMON: Final = (
    "the of and in to a with for was is were by on that from as at are patients cells study results between using "
    "after treatment protein sleep memory risk levels associated expression increased effect analysis during group "
    "response clinical disease compared significant age-related baseline hippocampal consolidation"
)
_RARE: Final = ("naïve", "β-amyloid", "Müller's", "“baseline”", "±5")


@lru_cache
def texts(documents: int) -> tuple[str, ...]:
    """Return English documents of 200 to 400 characters; one in five has a non-ASCII character."""
    chance = random.Random(7)
    return tuple(_text(chance) for _ in range(documents))


def _text(chance: random.Random) -> str:
    words = _COMMON.split()
    length = chance.randint(200, 400)
    text = chance.choice(_RARE) + " " if chance.random() < 0.2 else ""
    while len(text) < length:
        text += chance.choice(words) + " "
    return text[:length].strip()


@lru_cache
def ranking(documents: int) -> Pairs:
    """Return every document once, with scores of eight decimals, descending from 0.98 to 0.01."""
    chance = random.Random(8)
    scores = sorted((round(chance.uniform(0.01, 0.98), 8) for _ in range(documents)), reverse=True)
    return list(zip(chance.sample(range(documents), documents), scores, strict=True))


def answer(shape: str, documents: int) -> bytes:
    """Return the response body in the format of the API of that name."""
    pairs = ranking(documents)
    scored = [{"index": index, "relevance_score": score} for index, score in pairs]
    tokens = 70 * documents
    bodies: dict[str, dict[str, Any]] = {
        "jina": {
            "model": "jina-reranker-v3.5",
            "object": "list",
            "usage": {"total_tokens": tokens},
            "results": scored,
        },
        "cohere": {
            "id": "07734bd2-2473-4f07-94e1-0d9f0e6843cf",
            "results": scored,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        },
        "voyageai": {"object": "list", "data": scored, "model": "rerank-2.5", "usage": {"total_tokens": tokens}},
        "mixedbread": {
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "model": "mixedbread-ai/mxbai-rerank-large-v2",
            "data": [{"index": index, "score": score, "object": "rank_result"} for index, score in pairs],
            "object": "list",
            "top_k": documents,
            "return_input": False,
        },
    }
    return json.dumps(bodies[shape], separators=(",", ":")).encode()
