"""Takes secrets out of what a server says, in whatever form it quotes them. Pure.

A server knows the key that it was sent, and may quote it: as it is, escaped for JSON or HTML, percent-encoded, in the
base64 of a whole header, cut short, or in pieces. What it says is searched field by field, after it was parsed.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import unescape
from typing import Any, Final
from urllib.parse import unquote

from ._typeguards import is_array, is_object
from .errors import RerankError

SHORTEST_SECRET: Final = 16
"""Characters. What is shorter is no secret, but what servers without keys are given, such as EMPTY, and a word."""
_SHORTEST_PIECE: Final = 12
"""Characters in a row that count as a piece of a secret; a quarter of a long one. No other text has as many."""
_BLOCK: Final = 6
"""Characters that are looked up in a first search for pieces. Few other texts have a block of a secret in them."""
_DECODINGS: Final = 3
"""How many layers of escaping are taken off."""
_LONGEST_TEXT: Final = 2**16
"""Characters up to which texts are decoded and searched piece by piece, so that no server can keep a client busy."""

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_LOWER_CASE: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_URL_SAFE: Final = str.maketrans("+/", "-_")


class Redactor:
    """Replaces secrets of at least SHORTEST_SECRET characters, and pieces of them, with a mask.

    Args:
        secrets: The words in them are to be hidden; shorter ones are left alone.
        mask: What stands in its place.
        pattern: What is a secret by its form.
        longest: Characters up to which texts are searched piece by piece.
    """

    __slots__ = ("_blocks", "_forms", "_longest", "_mask", "_pattern", "_shortest")

    def __init__(
        self,
        secrets: Iterable[str],
        *,
        mask: str = "[key]",
        pattern: re.Pattern[str] | None = None,
        longest: int = _LONGEST_TEXT,
    ) -> None:
        kept = [word for secret in secrets for word in secret.split() if len(word) >= SHORTEST_SECRET]
        self._forms = [(_piece_size(word), _folded(form)) for word in kept for form in _forms(word)]
        self._shortest = min([size for size, _ in self._forms], default=_SHORTEST_PIECE)
        self._blocks = {
            form[start : start + _BLOCK] for _, form in self._forms for start in range(len(form) - _BLOCK + 1)
        }
        self._mask = mask
        self._pattern = pattern
        self._longest = longest

    def text(self, text: str) -> str:
        """Return a text without secrets: unchanged if there are none, decoded if one was hidden by escapes."""
        if not self._is_suspect(text):
            return text
        if len(text) > self._longest:
            return self._mask
        shown = form = text
        for _ in range(_DECODINGS + 1):
            masked = self._masked(form)
            if masked != form:
                shown = form = masked
            decoded = _decoded(form)
            if decoded == form:
                break
            form = decoded
        return shown

    def json(self, value: Any) -> Any:
        """Return parsed JSON without secrets, names of fields included; the mask alone for what is too long."""
        texts = "\n".join(_texts(value, _SHORTEST_PIECE))
        if not self._is_suspect(texts):
            return value
        return self._mask if len(texts) > self._longest else self._rebuilt(value)

    def error(self, error: RerankError) -> None:
        """Take secrets out of all that a server has a say in."""
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
        """Return whether a closer look is worth its time. Every answer is searched; that must cost microseconds."""
        layers = _layers(text) if len(text) <= self._longest else (text,)
        return any(map(self._has_block, layers))

    def _has_block(self, text: str) -> bool:
        if self._pattern is not None and self._pattern.search(text):
            return True
        folded = _folded(text)
        # With these steps one block at least is whole in every piece of a secret.
        steps = range(0, len(folded) - _BLOCK + 1, self._shortest - _BLOCK + 1)
        return not self._blocks.isdisjoint([folded[at : at + _BLOCK] for at in steps])

    def _masked(self, text: str) -> str:
        folded = _folded(text)
        hidden: list[tuple[int, int]] = []
        for start, end in sorted(span for size, form in self._forms for span in _spans(folded, form, size)):
            if hidden and start <= hidden[-1][1]:
                hidden[-1] = hidden[-1][0], max(end, hidden[-1][1])
            else:
                hidden.append((start, end))
        for start, end in reversed(hidden):
            text = text[:start] + self._mask + text[end:]
        return text if self._pattern is None else self._pattern.sub(self._mask, text)

    def __repr__(self) -> str:
        return "Redactor(...)"


def _texts(value: Any, shortest: int) -> list[str]:
    """Return the texts in parsed JSON that are not too short to hide anything."""
    texts: list[str] = []
    parts = [value]
    for part in parts:
        if isinstance(part, str):
            if len(part) >= shortest:
                texts.append(part)
        elif is_object(part):
            parts += part
            parts += part.values()
        elif is_array(part):
            parts += part
    return texts


def _spans(folded: str, form: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield where pieces of `form` start and end."""
    pieces = {form[start : start + size] for start in range(len(form) - size + 1)}
    return ((at, at + size) for at in range(len(folded) - size + 1) if folded[at : at + size] in pieces)


def _piece_size(secret: str) -> int:
    return max(_SHORTEST_PIECE, len(secret) // 4)


def _forms(secret: str) -> set[str]:
    """Return the secret, and what is its own in the base64 of any text around it."""
    forms = {secret}
    for before in range(3):
        encoded = b64encode(b"\0" * before + secret.encode()).decode()
        own = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        forms |= {own, own.translate(_URL_SAFE)}
    return forms


def _folded(text: str) -> str:
    # Hosts are told in lower case. Only ASCII is folded, so that no position changes.
    return text.lower() if text.isascii() else text.translate(_LOWER_CASE)


def _layers(text: str) -> Iterator[str]:
    """Yield a text, and what it says with one layer of escaping after the other taken off."""
    yield text
    for _ in range(_DECODINGS):
        decoded = _decoded(text)
        if decoded == text:
            break
        text = decoded
        yield text


def _decoded(text: str) -> str:
    """Return a text with one layer of each kind of escaping taken off."""
    if "%" in text:
        text = unquote(text)
    if "&" in text:
        text = unescape(text)
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    return chr(int(digits, 16)) if digits else escape[3]
