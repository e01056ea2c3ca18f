"""The documents to rank: texts and images in the forms that callers hold, and their wire format."""

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
"""The wire format of a document: a plain string, which every server accepts, or `{"image": ...}`."""

_EXPECTED: Final = 'expected a str, a TextDocument, an ImageDocument, or a mapping with a str under "text" or "image"'
_OWN_OBJECTS: Final = "for objects of your own pass key=, as in sorted(key=)"


class TextDocument(BaseModel, frozen=True, extra="forbid", strict=True, hide_input_in_errors=True):
    """A text: `{"text": ...}`."""

    text: str


class ImageDocument(BaseModel, frozen=True, extra="forbid", strict=True, hide_input_in_errors=True):
    """An image, for models that read images: `{"image": ...}`.

    Attributes:
        image: An http or https URL, or the image's bytes in base64. The prefix of a data URI is removed, because the
            API documents only plain base64.
    """

    image: str

    @field_validator("image")
    @classmethod
    def _is_url_or_base64(cls, value: str) -> str:
        return _wire_image(value)

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Self:
        """Return the image of a file.

        Raises:
            OSError: The file cannot be read.
            pydantic.ValidationError: The file is empty.
        """
        return cls(image=base64.b64encode(Path(path).read_bytes()).decode())


Document: TypeAlias = str | TextDocument | ImageDocument | Mapping[str, Any]
"""A document without `key=`."""


class TextMapping(TypedDict):
    """A text as a literal mapping in a list."""

    text: str


class ImageMapping(TypedDict):
    """An image as a literal mapping in a list."""

    image: str


Mixed: TypeAlias = str | TextDocument | ImageDocument | TextMapping | ImageMapping
"""A document in a literal list of mixed types."""


class SequenceNotStr(Protocol[T_co]):
    """A sequence other than a str, whose characters would otherwise count as documents. Used only by type checkers.

    A str does not match, because its `__contains__` accepts only a str.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...

    def __contains__(self, value: object, /) -> bool: ...

    @overload
    def __getitem__(self, index: int, /) -> T_co: ...

    @overload
    def __getitem__(self, index: slice, /) -> Sequence[T_co]: ...


Query: TypeAlias = str | TextDocument | ImageDocument
"""A query."""


SINGLE: Final = (str, bytes, bytearray, memoryview, Mapping, BaseModel)
"""Types that are one value, although they can be iterated over."""


def listed(documents: object) -> tuple[Any, ...]:
    """Return the documents as a tuple; iterate over them only once.

    Raises:
        InvalidRequestError: They are not a sequence of documents, but one text, one mapping, a table, a set, or another
            type.
    """
    expected, kind = "documents: expected a sequence of documents, got", type(documents).__name__
    if isinstance(documents, SINGLE):
        raise InvalidRequestError(f"{expected} one {kind}; put it in a list")
    if isinstance(documents, AbstractSet | MappingView):
        raise InvalidRequestError(f"{expected} {kind}; make a list of it, whose order is fixed")
    if _is_table(documents):
        raise InvalidRequestError(
            f'{expected} a {kind}, which iterates over its column names; pass one column: df["text"].tolist()'
        )
    if is_iterable(documents):
        return tuple(documents)
    raise InvalidRequestError(f"{expected} {kind}")


def _is_table(documents: object) -> bool:
    """Return whether it is a DataFrame of any library: it has an attribute `columns`, and is not a sequence."""
    columns = getattr(documents, "columns", None)
    return columns is not None and not callable(columns) and not is_sequence(documents)


def wire_documents(
    documents: Sequence[object], *, way_out: str = _OWN_OBJECTS, decode_images: bool = True
) -> list[WireDocument]:
    """Return the wire format of each document, in order.

    Args:
        documents: The documents.
        way_out: The remedy for objects of another type, for the message.
        decode_images: Whether to validate the base64 of images. False if that was done before.

    Raises:
        InvalidRequestError: One of them is not a Document; the message names its position.
    """
    if set(map(type, documents)) <= {str}:  # fast path for the common case, in C
        return list(cast(Sequence[str], documents))
    return [
        _wire_document(document, f"documents[{i}]", way_out, decode_images=decode_images)
        for i, document in enumerate(documents)
    ]


def wire_query(query: object) -> WireDocument:
    """Return the wire format of a query.

    Raises:
        InvalidRequestError: The query is of another type, or blank.
    """
    if not isinstance(query, str | TextDocument | ImageDocument):
        raise InvalidRequestError(f"query: expected a str, a TextDocument or an ImageDocument, got {_kind(query)}")
    wire = _wire_document(query, "query")
    if is_blank(wire):
        raise InvalidRequestError("query: it is blank; a query needs at least one visible character")
    return wire


def not_blank(documents: Sequence[WireDocument]) -> Sequence[int]:
    """Return the positions of the documents that are not blank."""
    try:
        if all(map(str.strip, cast(Sequence[str], documents))):  # fast path for the common case, in C
            return range(len(documents))
    except TypeError:  # there are images
        pass
    return [position for position, document in enumerate(documents) if not is_blank(document)]


def is_blank(document: WireDocument) -> bool:
    """Return whether a document has nothing to score."""
    return isinstance(document, str) and not document.strip()


def is_image(document: WireDocument) -> bool:
    """Return whether a document is an image."""
    return not isinstance(document, str)


def _wire_document(
    document: object, where: str, way_out: str = _OWN_OBJECTS, *, decode_images: bool = True
) -> WireDocument:
    match document:
        case str():
            # An instance of a subclass (numpy's, an enum's) is sent as plain text.
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


_MAX_NAMES: Final = 5


def _names(mapping: Mapping[Any, Any]) -> str:
    """Return the first keys of a mapping, for a message. Values stay out of messages."""
    names = [repr(name)[:40] for name in islice(mapping, _MAX_NAMES)]
    more = ", ..." if len(mapping) > len(names) else ""
    return f", but {', '.join(names)}{more}" if names else ""


def _kind(value: object) -> str:
    return type(value).__name__
