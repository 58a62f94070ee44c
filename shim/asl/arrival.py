"""One way to reach a state, and what two of them have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shim.asl import paths
from shim.asl.join import join
from shim.asl.shape import (
    NOTHING_KNOWN,
    Array,
    Object,
    Opaque,
    Refined,
    Shape,
    Slot,
    resolve,
    write,
)
from shim.asl.values import AslError

LOST = Opaque("", NOTHING_KNOWN)
"""A value of which nothing is known."""


@dataclass(frozen=True)
class Arrival:
    """One way to reach a state: its input, what Choices have proven, and the last states passed.

    `item` is what `$$.Map.Item.Value` names.
    """

    shape: Shape
    refined: Refined = field(default_factory=dict)
    item: Shape = LOST
    via: tuple[str, ...] = field(default=(), compare=False)


def met(old: Arrival, new: Arrival, label: str) -> Arrival:
    """Return what holds on both of two ways."""
    one, other = _alike(old.shape, new.shape)
    refined = old.refined
    if old.refined is not new.refined and old.refined != new.refined:
        refined = {k: v for k, v in old.refined.items() if new.refined.get(k) == v}
        gone = {k: v for k, v in old.refined.items() if k not in refined}
        one = applied(one, gone)
        other = applied(other, {k: v for k, v in new.refined.items() if k not in refined})
    shape, item = join(one, other, label), join(old.item, new.item, f"{label}.item")
    unchanged = shape is old.shape and item is old.item and len(refined) == len(old.refined)
    return old if unchanged else Arrival(shape, refined, item, old.via)


def _alike(one: Shape, other: Shape) -> tuple[Shape, Shape]:
    """Return two inputs without what Choices saw in one of them, if they differ in nothing else.

    Then nothing else could tell that it is there, so it counts as not seen.
    """
    if not isinstance(one, Object) or not isinstance(other, Object) or one.rest != other.rest:
        return one, other
    if one.slots.keys() == other.slots.keys():
        return one, other
    extra = {
        name
        for name in one.slots.keys() ^ other.slots.keys()
        if (one.slots.get(name) or other.slots[name]).proven
    }
    if not extra:
        return one, other
    slots = [{k: v for k, v in shape.slots.items() if k not in extra} for shape in (one, other)]
    if slots[0] != slots[1]:
        return one, other
    seen = Object(slots[0], one.rest, one.pascal)
    return seen, seen


def applied(shape: Shape, refined: Refined) -> Shape:
    """Return a shape with all that has been proven of the values in it; itself if that is none."""
    if not refined:
        return shape
    if isinstance(shape, Object):
        slots = dict(shape.slots)
        for name, slot in shape.slots.items():
            new = applied(slot.shape, refined)
            if new is not slot.shape:
                slots[name] = Slot(new, slot.sure, slot.proven)
        changed = any(slots[name] is not slot for name, slot in shape.slots.items())
        return Object(slots, shape.rest, shape.pascal) if changed else shape
    if isinstance(shape, Array):
        return Array(tuple(applied(item, refined) for item in shape.items), shape.many)
    new = resolve(shape, refined)
    return shape if new == shape else new


def placed(raw: Shape, place: Any, result: Shape) -> Shape:
    """Apply ResultPath."""
    if place is None:
        return raw
    try:
        steps = paths.parse(str(place)).steps
    except AslError:
        return LOST
    return LOST if steps is None else write(raw, steps, result)
