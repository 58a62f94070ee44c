"""A dataclass out of decoded JSON, with the types that it declares and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from shim.errors import shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: type(value) is int,
    "dict[str, str]": lambda value: (
        isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    ),
    "tuple[str, ...]": lambda value: (
        isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    ),
}


def build(made: type[T], values: Mapping[str, Any], **done: Any) -> T:
    """Return the dataclass of these values; a list becomes a tuple, `done` is taken unchecked.

    Raises TypeError for a field that is missing, unknown or of another type.
    """
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for field in dataclasses.fields(made):
        if field.name in done:
            continue
        if field.name not in given:
            raise TypeError(f"{field.name} is missing")
        if not CHECKS[str(field.type)](given[field.name]):
            raise TypeError(f"{field.name} is {shown(given[field.name])}, which is no {field.type}")
    return made(**given, **done)
