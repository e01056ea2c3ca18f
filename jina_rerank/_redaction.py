"""Redaction of secrets in what a server returns, in any form in which it quotes them. Pure.

A server receives the key and may quote it: verbatim, escaped for JSON or HTML, percent-encoded, in the base64 of a
whole header, truncated, or in pieces. A response is searched field by field after it is parsed.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import unescape
from typing import Any, Final
from urllib.parse import unquote

from ._typeguards import is_array, is_object
from .errors import RerankError

MIN_SECRET_LENGTH: Final = 16
"""The shortest secret, in characters. Shorter values are placeholders for servers without keys, such as EMPTY, and may
be ordinary words."""
_MIN_PIECE_LENGTH: Final = 12
"""Consecutive characters that count as a piece of a secret; for a long one, a quarter of it. Other texts do not have
that many in common with a secret."""
_BLOCK_LENGTH: Final = 6
"""Characters of the blocks that the first, fast search looks up. Few other texts contain a block of a secret."""
_MAX_DECODINGS: Final = 3
"""The most layers of escaping that are decoded."""
_MAX_TEXT_LENGTH: Final = 2**16
"""The longest text that is decoded and searched piece by piece, so that a server cannot keep a client busy."""

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_LOWER_CASE: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_URL_SAFE: Final = str.maketrans("+/", "-_")


class Redactor:
    """A redactor that replaces secrets of at least MIN_SECRET_LENGTH characters, and pieces of them, with a mask.

    Args:
        secrets: Texts whose words are secrets; shorter words are ignored.
        mask: The replacement.
        pattern: A pattern of other secrets.
        longest: The length of the longest text that is searched piece by piece.
    """

    __slots__ = ("_blocks", "_forms", "_mask", "_max_length", "_min_piece", "_pattern")

    def __init__(
        self,
        secrets: Iterable[str],
        *,
        mask: str = "[key]",
        pattern: re.Pattern[str] | None = None,
        longest: int = _MAX_TEXT_LENGTH,
    ) -> None:
        words = [word for secret in secrets for word in secret.split() if len(word) >= MIN_SECRET_LENGTH]
        self._forms = [(_piece_length(word), _folded(form)) for word in words for form in _forms(word)]
        self._min_piece = min([length for length, _ in self._forms], default=_MIN_PIECE_LENGTH)
        self._blocks = {
            form[start : start + _BLOCK_LENGTH]
            for _, form in self._forms
            for start in range(len(form) - _BLOCK_LENGTH + 1)
        }
        self._mask = mask
        self._pattern = pattern
        self._max_length = longest

    def text(self, text: str) -> str:
        """Return a text without secrets: unchanged if it has none, decoded if escapes hid one."""
        if not self._is_suspect(text):
            return text
        if len(text) > self._max_length:
            return self._mask
        shown = form = text
        for _ in range(_MAX_DECODINGS + 1):
            masked = self._masked(form)
            if masked != form:
                shown = form = masked
            decoded = _decoded(form)
            if decoded == form:
                break
            form = decoded
        return shown

    def json(self, value: Any) -> Any:
        """Return parsed JSON without secrets in values and names of fields; just the mask if it is too long."""
        texts = "\n".join(_texts(value, _MIN_PIECE_LENGTH))
        if not self._is_suspect(texts):
            return value
        return self._mask if len(texts) > self._max_length else self._rebuilt(value)

    def error(self, error: RerankError) -> None:
        """Redact the attributes of an error that a server may have filled."""
        error.message = self.text(error.message)
        error.args = (error.message,)
        error.code = error.code and self.text(error.code)
        error.request_id = error.request_id and self.text(error.request_id)
        found = None if error.errors is None else self.json(list(error.errors))
        error.errors = tuple(found) if is_array(found) else None

    def _rebuilt(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if is_object(value):
            return {self.text(name): self._rebuilt(inner) for name, inner in value.items()}
        if is_array(value):
            return [self._rebuilt(inner) for inner in value]
        return value

    def _is_suspect(self, text: str) -> bool:
        """Return whether the text may contain a secret. This fast check runs for every response, in microseconds."""
        layers = _layers(text) if len(text) <= self._max_length else (text,)
        return any(map(self._has_block, layers))

    def _has_block(self, text: str) -> bool:
        if self._pattern is not None and self._pattern.search(text):
            return True
        folded = _folded(text)
        # With this step every piece of a secret contains at least one whole block.
        steps = range(0, len(folded) - _BLOCK_LENGTH + 1, self._min_piece - _BLOCK_LENGTH + 1)
        return not self._blocks.isdisjoint([folded[at : at + _BLOCK_LENGTH] for at in steps])

    def _masked(self, text: str) -> str:
        folded = _folded(text)
        hidden: list[tuple[int, int]] = []
        for start, end in sorted(span for length, form in self._forms for span in _spans(folded, form, length)):
            if hidden and start <= hidden[-1][1]:
                hidden[-1] = hidden[-1][0], max(end, hidden[-1][1])
            else:
                hidden.append((start, end))
        for start, end in reversed(hidden):
            text = text[:start] + self._mask + text[end:]
        return text if self._pattern is None else self._pattern.sub(self._mask, text)

    def __repr__(self) -> str:
        return "Redactor(...)"


def _texts(value: Any, min_length: int) -> list[str]:
    """Return the texts in parsed JSON of at least `min_length` characters."""
    texts: list[str] = []
    parts = [value]
    for part in parts:
        if isinstance(part, str):
            if len(part) >= min_length:
                texts.append(part)
        elif is_object(part):
            parts += part
            parts += part.values()
        elif is_array(part):
            parts += part
    return texts


def _spans(folded: str, form: str, length: int) -> Iterator[tuple[int, int]]:
    """Return the start and end of each piece of `form`."""
    pieces = {form[start : start + length] for start in range(len(form) - length + 1)}
    return ((at, at + length) for at in range(len(folded) - length + 1) if folded[at : at + length] in pieces)


def _piece_length(secret: str) -> int:
    return max(_MIN_PIECE_LENGTH, len(secret) // 4)


def _forms(secret: str) -> set[str]:
    """Return the secret, and its part of the base64 of a longer text, for each of the three alignments."""
    forms = {secret}
    for before in range(3):
        encoded = b64encode(b"\0" * before + secret.encode()).decode()
        own = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        forms |= {own, own.translate(_URL_SAFE)}
    return forms


def _folded(text: str) -> str:
    # Servers may report host names in lower case. Only ASCII is folded, so that no position changes.
    return text.lower() if text.isascii() else text.translate(_LOWER_CASE)


def _layers(text: str) -> Iterator[str]:
    """Yield a text, and then the text with one more layer of escaping decoded each time."""
    yield text
    for _ in range(_MAX_DECODINGS):
        decoded = _decoded(text)
        if decoded == text:
            break
        text = decoded
        yield text


def _decoded(text: str) -> str:
    """Return a text with one layer of each kind of escaping decoded."""
    if "%" in text:
        text = unquote(text)
    if "&" in text:
        text = unescape(text)
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    return chr(int(digits, 16)) if digits else escape[3]
