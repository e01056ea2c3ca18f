"""What can be ranked: texts and images, in the forms a caller may hold them, and their form on the wire."""

import base64
import binascii
from collections.abc import Iterator, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeAlias, TypedDict, TypeVar, cast, overload

from pydantic import BaseModel, field_validator

from ._typeguards import is_iterable, is_mapping, is_sequence
from .errors import InvalidRequestError

T_co = TypeVar("T_co", covariant=True)

WireDocument: TypeAlias = str | dict[str, str]
"""A document as it is sent: a bare string, which every server takes, or `{"image": ...}`."""

_EXPECTED: Final = 'expected a str, a TextDocument, an ImageDocument, or a mapping with a str under "text" or "image"'
_OWN_OBJECTS: Final = "for objects of your own pass key=, as in sorted(key=)"


class TextDocument(BaseModel, frozen=True, extra="forbid", strict=True, hide_input_in_errors=True):
    """A text: `{"text": ...}`."""

    text: str


class ImageDocument(BaseModel, frozen=True, extra="forbid", strict=True, hide_input_in_errors=True):
    """An image, for models that read images: `{"image": ...}`.

    Attributes:
        image: An http or https URL, or the image's bytes in base64. The prefix of a data URI is taken off, since
            the API documents bare base64 alone.
    """

    image: str

    @field_validator("image")
    @classmethod
    def _is_url_or_base64(cls, value: str) -> str:
        return _wire_image(value)

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Self:
        """Reads an image file.

        Raises:
            OSError: The file cannot be read.
            pydantic.ValidationError: The file is empty.
        """
        return cls(image=base64.b64encode(Path(path).read_bytes()).decode())


Document: TypeAlias = str | TextDocument | ImageDocument | Mapping[str, Any]
"""Every form in which a document can be given without `key=`."""


class TextMapping(TypedDict):
    """A mapping that is a document, as it is written inline among others."""

    text: str


class ImageMapping(TypedDict):
    """A mapping that is an image, as it is written inline among others."""

    image: str


Mixed: TypeAlias = str | TextDocument | ImageDocument | TextMapping | ImageMapping
"""The forms of documents in an inline list that mixes them."""


class SequenceNotStr(Protocol[T_co]):
    """A list, a tuple, or any other sequence but a str, whose characters nobody means to rank.

    A str does not fit, because `in` takes nothing but a str there. For type checkers alone.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...

    def __contains__(self, value: object, /) -> bool: ...

    @overload
    def __getitem__(self, index: int, /) -> T_co: ...

    @overload
    def __getitem__(self, index: slice, /) -> Sequence[T_co]: ...


Query: TypeAlias = str | TextDocument | ImageDocument
"""Every form in which a query can be given."""


SINGLE: Final = (str, bytes, bytearray, memoryview, Mapping, BaseModel)
"""What is one thing, and no sequence of things, though it can be iterated over."""


def listed(documents: object) -> tuple[Any, ...]:
    """The documents, taken once.

    Raises:
        InvalidRequestError: They are no sequence of documents, but one text, one mapping, a table, a set, or nothing of
            the kind.
    """
    expected, kind = "documents: expected a sequence of documents, got", type(documents).__name__
    if isinstance(documents, SINGLE):
        raise InvalidRequestError(f"{expected} one {kind}; put it in a list")
    if isinstance(documents, AbstractSet | MappingView):
        raise InvalidRequestError(f"{expected} {kind}; make a list of it, whose positions stay what they are")
    if _is_table(documents):
        raise InvalidRequestError(
            f'{expected} a {kind}, which iterates over its column names; pass one column: df["text"].tolist()'
        )
    if is_iterable(documents):
        return tuple(documents)
    raise InvalidRequestError(f"{expected} {kind}")


def _is_table(documents: object) -> bool:
    """Return whether it is a DataFrame, of whichever library: what has columns as data, and is no plain sequence."""
    columns = getattr(documents, "columns", None)
    return columns is not None and not callable(columns) and not is_sequence(documents)


def wire_documents(
    documents: Sequence[object], *, way_out: str = _OWN_OBJECTS, decode_images: bool = True
) -> list[WireDocument]:
    """Return the wire form of each document, in order.

    Args:
        documents: The documents.
        way_out: What a caller with objects of another kind can do.
        decode_images: Whether to check the base64 of images. Not needed if that was done before.

    Raises:
        InvalidRequestError: One of them is not a Document; the message names its position.
    """
    if set(map(type, documents)) <= {str}:  # the common case, at the speed of C
        return list(cast(Sequence[str], documents))
    return [
        _wire_document(document, f"documents[{i}]", way_out, decode_images=decode_images)
        for i, document in enumerate(documents)
    ]


def wire_query(query: object) -> WireDocument:
    """The wire form of the query.

    Raises:
        InvalidRequestError: It is of another type, or blank.
    """
    if not isinstance(query, str | TextDocument | ImageDocument):
        raise InvalidRequestError(f"query: expected a str, a TextDocument or an ImageDocument, got {_kind(query)}")
    wire = _wire_document(query, "query")
    if is_blank(wire):
        raise InvalidRequestError("query: it is blank; a query needs at least one visible character")
    return wire


def not_blank(documents: Sequence[WireDocument]) -> Sequence[int]:
    """The positions of the documents in which there is something to score."""
    try:
        if all(map(str.strip, cast(Sequence[str], documents))):  # the common case, at the speed of C
            return range(len(documents))
    except TypeError:  # there are images
        pass
    return [position for position, document in enumerate(documents) if not is_blank(document)]


def is_blank(document: WireDocument) -> bool:
    """Whether there is nothing in it to score."""
    return isinstance(document, str) and not document.strip()


def is_image(document: WireDocument) -> bool:
    return not isinstance(document, str)


def _wire_document(
    document: object, where: str, way_out: str = _OWN_OBJECTS, *, decode_images: bool = True
) -> WireDocument:
    match document:
        case str():
            # A subclass (numpy's, an enum's) is sent as the plain text that it is.
            return str.__str__(document)
        case TextDocument():
            return document.text
        case ImageDocument():
            return {"image": document.image}
        case _ if is_mapping(document):
            return _wire_mapping(document, where, way_out, decode_images=decode_images)
        case _:
            raise InvalidRequestError(f"{where}: {_EXPECTED}; {way_out}; got {_kind(document)}")


def _wire_mapping(document: Mapping[Any, Any], where: str, way_out: str, *, decode_images: bool) -> WireDocument:
    match document.get("text"), document.get("image"):
        case str(text), None:
            return text
        case None, str(image):
            try:
                return {"image": _wire_image(image, decode=decode_images)}
            except ValueError as error:
                reason = str(error)
            raise InvalidRequestError(f"{where}: {reason}")
        case str(), str():
            raise InvalidRequestError(f'{where}: it has both "text" and "image"; a document is one or the other')
        case _:
            pass
    for name in ("text", "image"):
        if name in document:
            found = f'"{name}" holds {_kind(document[name])}, not a str'
            raise InvalidRequestError(f'{where}: {found}; leave the document out, or give it a text ("" ranks last)')
    raise InvalidRequestError(f"{where}: {_EXPECTED}; {way_out}; this mapping has neither{_names(document)}")


def _wire_image(value: str, *, decode: bool = True) -> str:
    value = value.strip()
    if value.lower().startswith(("http://", "https://")):
        return value
    if value.startswith("data:"):
        value = value.partition(",")[2]
    if not decode:
        return value
    try:
        content = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        content = b""
    if not content:
        raise ValueError(
            "an image is an http or https URL, or its bytes in base64; for a file use ImageDocument.from_file(path)"
        )
    return value


_NAMES_SHOWN: Final = 5


def _names(mapping: Mapping[Any, Any]) -> str:
    """The keys of a mapping, as far as a person reads them. Its values stay out of messages."""
    names = [repr(name)[:40] for name in islice(mapping, _NAMES_SHOWN)]
    more = ", ..." if len(mapping) > len(names) else ""
    return f", but {', '.join(names)}{more}" if names else ""


def _kind(value: object) -> str:
    return type(value).__name__
