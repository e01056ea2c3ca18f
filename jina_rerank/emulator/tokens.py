"""Rule-based words and token counts for text in any language.

Words are separated by white space and punctuation, so that vowel signs, emoji and scripts without case stay intact. A
run of CJK characters counts as one word here, since these languages are written without spaces.
"""

import re
import unicodedata
from itertools import islice
from typing import Final

from .._tokens import BYTES_PER_TOKEN

# Hangul, kana and Han, with their compatibility forms and the supplementary planes.
_CJK: Final = (
    r"\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
# White space, ASCII punctuation, and that of Latin, Arabic, Indic, general and CJK scripts.
_SEPARATORS: Final = (
    r"\s!-/:-@\[-`{-~\u00a1-\u00bf\u060c\u061b\u061f\u0964\u0965\u2000-\u206f\u3000-\u303f\uff01-\uff0f"
)
_WORD: Final = re.compile(f"[{_CJK}]+|[^{_CJK}{_SEPARATORS}]+")
_NON_SPACE: Final = re.compile(r"\S+")
_CJK_CHARACTER: Final = re.compile(f"[{_CJK}]")


def words(text: str) -> list[str]:
    """Return the words of `text`, with case and compatibility forms folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def is_cjk(word: str) -> bool:
    """Return whether a word of `words()` is a run of CJK characters."""
    return _CJK_CHARACTER.match(word) is not None


def count_tokens(text: str) -> int:
    """Estimate the tokens of `text`: one per four bytes of UTF-8, but at least one per word between white space.

    Jina's on-prem server counts Latin script in this way if it has no tokenizer. Measured on XQuAD with the vocabulary
    of Qwen, which jina-reranker-v3 is built on, the estimate is 0.5 (Greek) to 1.3 (Russian) times the real count.
    """
    return max(len(text.split()), len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def truncate(text: str, max_tokens: int) -> str:
    """Return the beginning of `text` with an estimate of `max_tokens` tokens."""
    encoded = text.encode("utf-8", "surrogatepass")
    end = (max_tokens + 1) * BYTES_PER_TOKEN - 1
    while end < len(encoded) and encoded[end] & 0xC0 == 0x80:  # in the middle of a character
        end -= 1
    head = encoded[:end].decode("utf-8", "surrogatepass")
    last = next(islice(_NON_SPACE.finditer(head), max_tokens - 1, None), None)
    return head if last is None else head[: last.end()]


def without_lone_surrogates(text: str) -> str:
    """Return `text` without lone surrogates, which JSON allows but a tokenizer, which needs UTF-8, does not."""
    return text.encode("utf-8", "replace").decode()
