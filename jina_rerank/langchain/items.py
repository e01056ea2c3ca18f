"""Inputs and results for LangChain: Documents with their scores, or positions."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeAlias, TypedDict

from langchain_core.documents import Document

from .._typeguards import is_array, is_object
from ..documents import Document as Rankable
from ..errors import InvalidRequestError
from ..models import RerankResponse

Item: TypeAlias = str | Document | Mapping[str, Any]
"""A document of `rerank`: a text, a Document, or a mapping with "text" or "image"."""


class Ranked(TypedDict):
    """One result of `rerank`."""

    index: int
    relevance_score: float


def only_documents(documents: Sequence[Any]) -> Sequence[Any]:
    """Return the Documents to compress.

    Raises:
        InvalidRequestError: An item is not a Document, and has no metadata to return its score in.
    """
    if isinstance(documents, str):
        return documents  # the client raises the error
    listed = list(documents)
    for position, document in enumerate(listed):
        if not isinstance(document, Document):
            raise InvalidRequestError(
                f"documents[{position}]: expected a Document, got {type(document).__name__}; wrap texts in "
                "Document(page_content=text), or call rerank(), which takes texts"
            )
    return listed


def text_of(item: Item) -> Rankable:
    return item.page_content if isinstance(item, Document) else item


def image_or_text(item: Item) -> Rankable:
    image = item.metadata.get("image") if isinstance(item, Document) else None
    return {"image": image} if isinstance(image, str) and image else text_of(item)


def scored(document: Document, score: float) -> Document:
    metadata = {**_copied(document.metadata), "relevance_score": score}
    return document.model_copy(update={"metadata": metadata})


def _copied(value: Any) -> Any:
    """Return a deep copy that shares the objects that cannot be copied, such as locks and open files."""
    try:
        return deepcopy(value)
    except Exception:  # noqa: BLE001  # copying a user's object may raise anything
        if is_object(value):
            return {key: _copied(inner) for key, inner in value.items()}
        if is_array(value):
            return [_copied(inner) for inner in value]
        return value


def ranked(response: RerankResponse[Any]) -> list[Ranked]:
    return [{"index": result.index, "relevance_score": result.relevance_score} for result in response.results]
