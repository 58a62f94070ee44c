"""What is known of a value on one path: its fields, where it comes from, whether a shell is safe.

`values` has what one execution computes; this has what holds for every execution, whatever its
input, which is what a lint may claim. Whatever is in doubt is said to be in doubt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, TypeAlias


class Origin(StrEnum):
    """Where a value comes from."""

    INPUT = "the execution's input"
    NAME = "the execution's name"
    START = "the execution's start"
    ENTERED = "the clock of one state"
    RESULT = "a task's result"
    UNKNOWN = "what is not evaluated here"


class Presence(IntEnum):
    """Whether a path names something, on one way through the definition; later ones are worse.

    UNWRITTEN: no state on the way has set it, so only the execution's input can hold it.
    """

    SURE = 0
    DOUBT = 1
    UNWRITTEN = 2
    NEVER = 3


@dataclass(frozen=True)
class Known:
    """A text, a number, true, false or null that is the same in every execution."""

    value: bool | int | float | str | None


@dataclass(frozen=True)
class Opaque:
    """Any value; equal ids mean the same value. `safe`: no character of it means a thing to sh."""

    id: str
    origins: frozenset[Origin]
    safe: bool = False

    def at(self, step: str | int) -> Opaque:
        """Return a field or an element of it."""
        name = f"[{step}]" if isinstance(step, int) else f".{step}"
        return Opaque(f"{self.id}{name}", self.origins, self.safe)


@dataclass(frozen=True)
class Mixed:
    """A text made of constants and of values."""

    parts: tuple[str | Opaque, ...]


@dataclass(frozen=True)
class Slot:
    """A field: its shape, and whether it is surely there.

    `proven` says that no state has set it: a Choice has seen that the input holds it.
    """

    shape: Shape
    sure: bool = True
    proven: bool = False


@dataclass(frozen=True)
class Object:
    """An object: its known fields, and what others come from (None: it has no others).

    `pascal` says that the others begin with a capital, as the results of AWS do:
    docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
    """

    slots: Mapping[str, Slot] = field(default_factory=dict)
    rest: Opaque | None = None
    pascal: bool = False


@dataclass(frozen=True)
class Array:
    """An array: its items if their number is known, else `many`, which is what any of them is."""

    items: tuple[Shape, ...] = ()
    many: Shape | None = None


Shape: TypeAlias = "Known | Opaque | Mixed | Object | Array"
Refined: TypeAlias = Mapping[str, "Known | Opaque"]
"""What Choices have proven of values, by their ids."""

INPUT = Opaque("input", frozenset({Origin.INPUT}))
NOTHING_KNOWN = frozenset({Origin.UNKNOWN})


def literal(value: Any) -> Shape:
    """Return the shape of JSON that stands in a definition."""
    if isinstance(value, dict):
        return Object({str(key): Slot(literal(item)) for key, item in value.items()})
    if isinstance(value, list):
        return Array(tuple(map(literal, value)))
    return Known(value)


def resolve(shape: Shape, refined: Refined) -> Shape:
    """Return a shape with what has been proven of its values, the top of it only."""
    if isinstance(shape, Opaque):
        return refined.get(shape.id, shape)
    if isinstance(shape, Mixed):
        return mixed(
            tuple(resolve(p, refined) if isinstance(p, Opaque) else p for p in shape.parts)
        )
    return shape


def mixed(parts: tuple[str | Shape, ...]) -> Known | Mixed:
    """Return the text that States.Format makes of constants and scalars."""
    flat: list[str | Opaque] = []
    for part in parts:
        if isinstance(part, Mixed):
            flat += part.parts
        elif isinstance(part, Known):
            flat.append(part.value if isinstance(part.value, str) else _word(part.value))
        elif isinstance(part, Object | Array):
            flat.append(Opaque("", origins(part)))
        else:
            flat.append(part)
    if all(isinstance(part, str) for part in flat):
        return Known("".join(map(str, flat)))
    return Mixed(tuple(part for part in flat if part != ""))


def _word(value: bool | float | None) -> str:
    return json.dumps(value)


def origins(shape: Shape, depth: int = 6) -> frozenset[Origin]:
    """Return where the texts in a value come from, those that a shell may read apart included."""
    if isinstance(shape, Opaque):
        return shape.origins
    inner: list[Shape] = []
    if isinstance(shape, Mixed):
        inner = [part for part in shape.parts if isinstance(part, Opaque)]
    elif isinstance(shape, Array):
        inner = [*shape.items, *([shape.many] if shape.many is not None else [])]
    elif isinstance(shape, Object):
        inner = [slot.shape for slot in shape.slots.values()]
        inner += [shape.rest] if shape.rest else []
    if depth == 0:
        return NOTHING_KNOWN if inner else frozenset()
    return frozenset().union(*(origins(part, depth - 1) for part in inner))


def read(shape: Shape, steps: tuple[str | int, ...], refined: Refined) -> tuple[Shape, Presence]:
    """Return what a path's steps name, and whether it is there."""
    presence = Presence.SURE
    for step in steps:
        shape = resolve(shape, refined)
        if isinstance(shape, Opaque):
            shape, presence = shape.at(step), max(presence, Presence.DOUBT)
        elif isinstance(shape, Object) and isinstance(step, str):
            slot = shape.slots.get(step)
            if slot is not None:
                found = Presence.SURE if slot.sure else Presence.DOUBT
                shape = slot.shape
            elif shape.rest is None or (shape.pascal and not step[:1].isupper()):
                return Opaque("", frozenset()), Presence.NEVER
            else:
                given = Origin.INPUT in shape.rest.origins
                found = Presence.UNWRITTEN if given else Presence.DOUBT
                shape = shape.rest.at(step)
            presence = max(presence, found)
        elif isinstance(shape, Array) and isinstance(step, int):
            if shape.many is not None:
                shape, presence = shape.many, max(presence, Presence.DOUBT)
                continue
            if not -len(shape.items) <= step < len(shape.items):
                return Opaque("", frozenset()), Presence.NEVER
            shape = shape.items[step]
        else:
            return Opaque("", frozenset()), Presence.NEVER
    return resolve(shape, refined), presence


def write(shape: Shape, steps: tuple[str | int, ...], value: Shape, proven: bool = False) -> Shape:
    """Return a shape with a value put at a reference path, as ResultPath does."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(shape, Opaque) and isinstance(step, str):
        shape = Object(rest=shape)
    if isinstance(shape, Object) and isinstance(step, str):
        old = shape.slots.get(step)
        if old is not None:
            inner: Shape = old.shape
        elif shape.rest is not None and not shape.pascal:
            inner = shape.rest.at(step)
        else:
            inner = Object()
        slot = Slot(
            write(inner, rest, value, proven), proven=proven and (old is None or old.proven)
        )
        return replace(shape, slots={**shape.slots, step: slot})
    if (
        isinstance(shape, Array)
        and isinstance(step, int)
        and -len(shape.items) <= step < len(shape.items)
    ):
        items = list(shape.items)
        items[step] = write(items[step], rest, value, proven)
        return Array(tuple(items))
    return Opaque("", NOTHING_KNOWN)


def known_safe(shape: Shape) -> bool:
    """Return whether no character of a value means anything to a shell, or it is a constant."""
    if isinstance(shape, Mixed):
        return all(isinstance(part, str) or part.safe for part in shape.parts)
    return isinstance(shape, Known) or (isinstance(shape, Opaque) and shape.safe)
