"""Type guards for untrusted values, in a form that all type checkers understand, and integer checks."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, SupportsIndex, TypeAlias, TypeGuard, cast

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether parsed JSON is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Return whether parsed JSON is an array."""
    return isinstance(value, list)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether a value is a mapping."""
    return isinstance(value, Mapping)


def is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    """Return whether a value is iterable."""
    return isinstance(value, Iterable)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Return whether a value is a sequence."""
    return isinstance(value, Sequence)


def as_integer(value: object) -> int | None:
    """Return an integer of any type, such as numpy's, as an int; None for other values, including bool."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:
        return None


def _checked_integer(value: object) -> int:
    number = as_integer(value)
    if number is None:
        raise PydanticCustomError("int_type", "expected an integer, got {kind}", {"kind": type(value).__name__})
    return number


PositiveInteger: TypeAlias = Annotated[int, BeforeValidator(_checked_integer), Field(ge=1)]
"""A pydantic field for a count."""
