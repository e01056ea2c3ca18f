"""Text in any language, cut into words and tokens by rules alone.

Words are what stands between white space and punctuation, so that vowel signs, emoji and scripts without case
stay whole. A run of CJK characters is one word here: its language writes no spaces.
"""

import re
import unicodedata
from itertools import islice
from typing import Final

# Hangul, kana and Han, with their compatibility forms and the supplementary planes.
_CJK: Final = (
    r"\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
# White space, ASCII punctuation, and that of Latin, Arabic, Indic, general and CJK scripts.
_GAP: Final = r"\s!-/:-@\[-`{-~\u00a1-\u00bf\u060c\u061b\u061f\u0964\u0965\u2000-\u206f\u3000-\u303f\uff01-\uff0f"
_WORD: Final = re.compile(f"[{_CJK}]+|[^{_CJK}{_GAP}]+")
_TOKEN: Final = re.compile(f"[{_CJK}]|[^{_CJK}{_GAP}]+|\\S")
_CJK_CHARACTER: Final = re.compile(f"[{_CJK}]")


def words(text: str) -> list[str]:
    """The words of `text`, case and compatibility forms folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def is_cjk(word: str) -> bool:
    """Whether a word of `words()` is a run of CJK characters."""
    return _CJK_CHARACTER.match(word) is not None


def count_tokens(text: str) -> int:
    """How many words, punctuation marks and CJK characters `text` has."""
    return sum(1 for _ in _TOKEN.finditer(text))


def truncate(text: str, max_tokens: int) -> str:
    """`text` up to the end of its token number `max_tokens`."""
    last = next(islice(_TOKEN.finditer(text), max_tokens - 1, None), None)
    return text if last is None else text[: last.end()]


def without_lone_surrogates(text: str) -> str:
    """`text` for a tokenizer, which takes UTF-8 only: JSON may carry half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()
