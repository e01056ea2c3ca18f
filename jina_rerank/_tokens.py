"""An estimate, before a request is sent, of the tokens it will be billed for. Pure: computed from lengths."""

from collections.abc import Sequence
from typing import Final

from .catalog import Model
from .documents import WireDocument

BYTES_PER_TOKEN: Final = 4
"""Bytes of UTF-8 per token. Measured with the vocabulary of Qwen, which jina-reranker-v3 is built on: 4.5 for the
abstracts of SciFact, 4.2 for Python; for single sentences 3.8 (German), 4.3 (Chinese), 4.9 (Japanese), 4.0 (Korean),
4.2 (Arabic), 6.0 (Russian), 2.9 (Hindi) and 2.2 (Greek). Across scripts bytes are a better measure than characters: a
CJK character has three bytes."""
TOKENS_PER_IMAGE: Final = 768
"""Tokens of an image for jina-reranker-m0: at most 768 patches of 28 x 28 pixels (its model page on jina.ai)."""


def estimate_tokens(
    query: WireDocument,
    documents: Sequence[WireDocument],
    *,
    known: Model | None,
    max_doc_length: int | None = None,
) -> int:
    """Return about how many tokens are billed for ranking `documents`; at least 1.

    The API bills the query once, and every document, even those that `top_n` cuts off; each up to the length that the
    model reads: its context, or `max_doc_length` tokens of a document. `known` is the model's entry in the catalogue.
    """
    context = None if known is None else known.context_tokens
    longest = context if max_doc_length is None else min(max_doc_length, context or max_doc_length)
    return max(1, _tokens((query,), context) + _tokens(documents, longest))


def _tokens(parts: Sequence[WireDocument], longest: int | None) -> int:
    counts = [_of_text(part) if isinstance(part, str) else TOKENS_PER_IMAGE for part in parts]
    return sum(counts) if longest is None else sum([min(count, longest) for count in counts])


def _of_text(text: str) -> int:
    # CPython flags ASCII strings, whose length needs no encoding. The codec rejects lone surrogates later.
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)
