"""Decoded JSON with the types that are declared for it, and no others.

What others wrote is read here: a document that is one, fields that hold what they must.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NoReturn,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from shim.errors import shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
DEEPEST = 100  # levels of a document; a launch record, which holds a plan, has six
LARGEST = 1 << 63  # of an integer
UNIONS = (Union, type(int | None))  # Optional[X], X | None
CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: type(value) is int and -LARGEST <= value < LARGEST,
    "dict[str, str]": lambda value: (
        isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    ),
    "tuple[str, ...]": lambda value: (
        isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    ),
}


@dataclass(frozen=True)
class Rule:
    """What a value must be beside its type; `says` is what it is then called."""

    says: str
    holds: Callable[[Any], bool]


def _moment(text: str) -> bool:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    # Not the first and last years: they cannot be turned into another zone.
    return moment.tzinfo is not None and 1 < moment.year < 9999


Moment = Annotated[str, Rule("time with a zone", _moment)]
Count = Annotated[int, Rule("number from 0", lambda value: value >= 0)]
Code = Annotated[int, Rule("exit code", lambda value: 0 <= value <= 255)]  # wait(2)
# pid_t of kill(2); 0 and less are groups there.
Pid = Annotated[int, Rule("process id", lambda value: 0 < value < 1 << 31)]


def document(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a text; a byte order mark before it is skipped.

    Raises ValueError for all else: its message goes on after «the record».
    """
    try:
        found = json.loads(
            body.decode("utf-8-sig"),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004  for what a text holds
    if _deep(found):
        raise ValueError("is nested too deeply")
    return found


def check(shape: type, values: Mapping[str, Any]) -> None:
    """Raise TypeError for the first field that a TypedDict does not allow; unknown ones may be."""
    for wrong in faults(shape, values).values():
        raise TypeError(wrong)


def faults(shape: type, values: Mapping[str, Any]) -> dict[str, str]:
    """Return, by field, what a TypedDict does not allow, in words."""
    found = {}
    for name, kind in get_type_hints(shape, include_extras=True).items():
        # Not __required_keys__, which misses the Required that stands in a postponed annotation.
        required = get_origin(kind) is Required
        if name in values:
            if why := _fault(get_args(kind)[0] if required else kind, values[name]):
                found[name] = f"{name} {why}"
        elif required or getattr(shape, "__total__", True):
            found[name] = f"{name} is missing"
    return found


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


def _fault(kind: Any, value: Any) -> str | None:
    """Return what is wrong with a value in words that follow its name, None for nothing."""
    if is_typeddict(kind) and isinstance(value, dict):
        return next((f"is an object whose {wrong}" for wrong in faults(kind, value).values()), None)
    return None if _holds(kind, value) else f"is {shown(value)}, which is no {_says(kind)}"


def _holds(kind: Any, value: Any) -> bool:
    if is_typeddict(kind):
        return isinstance(value, dict) and not faults(kind, value)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _holds(inner[0], value) and all(rule.holds(value) for rule in inner[1:])
    if origin in UNIONS:
        return any(_holds(one, value) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is list:
        return isinstance(value, list) and all(_holds(inner[0], one) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_holds(inner[1], one) for one in value.values())
    if kind is float:  # NaN and infinity are no JSON; what is larger is no price and no duration
        return type(value) in (int, float) and abs(value) < 1e15
    if kind is int:
        return CHECKS["int"](value)
    return kind is Any or type(value) is kind


def _says(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return str(inner[-1].says)
    if origin in (*UNIONS, Literal):
        return " or ".join(_says(one) for one in inner)
    if origin is list:
        return f"list of {_says(inner[0])}"
    if origin is dict or is_typeddict(kind):
        return "object"
    names = {str: "text", float: "number", int: "integer", bool: "boolean", type(None): "null"}
    return names.get(kind, str(kind))


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    return found if abs(found := float(text)) < float("inf") else _no_number(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Which of two values of one name counts, no two readers agree on."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{shown(name)} is there twice")
            seen.add(name)
    return found


def _deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
    return bool(level)


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
