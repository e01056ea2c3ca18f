"""`isinstance` for values of unknown origin, in a form whose result every type checker takes as fully known."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether parsed JSON is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether parsed JSON is an array."""
    return isinstance(value, list)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a mapping of any kind."""
    return isinstance(value, Mapping)


def is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether it can be iterated."""
    return isinstance(value, Iterable)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is a sequence of any kind."""
    return isinstance(value, Sequence)
