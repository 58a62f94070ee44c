"""Two values made one: merged as States.JsonMerge does, or joined where either may be meant."""

from __future__ import annotations

from shim.asl.shape import Array, Object, Opaque, Shape, Slot, known_safe, origins


def merge(first: Shape, second: Shape, label: str) -> Shape:
    """Return the shallow merge of two objects: what the second has wins."""
    first, second = (_as_object(shape) for shape in (first, second))
    if not isinstance(first, Object) or not isinstance(second, Object):
        return Opaque(label, origins(first) | origins(second))
    slots: dict[str, Slot] = {}
    for name in [*first.slots, *(name for name in second.slots if name not in first.slots)]:
        one, other = first.slots.get(name), second.slots.get(name)
        if other is not None and other.sure:
            slots[name] = other
        elif other is not None or (second.rest is not None and one is not None):
            over = other.shape if other is not None else second.rest
            under = one.shape if one is not None else first.rest
            sure = one is not None and one.sure
            both = (
                origins(over) | (origins(under) if under else frozenset()) if over else frozenset()
            )
            slots[name] = Slot(Opaque(f"{label}.{name}", both), sure)
        elif one is not None:
            slots[name] = one
    rests = [rest for rest in (first.rest, second.rest) if rest is not None]
    rest = rests[0] if rests else None
    if len(rests) == 2 and rests[0] != rests[1]:
        rest = Opaque(f"{label}.rest", rests[0].origins | rests[1].origins)
    return Object(slots, rest, first.pascal and second.pascal)


def _as_object(shape: Shape) -> Shape:
    return Object(rest=shape) if isinstance(shape, Opaque) else shape


def join(one: Shape, other: Shape, label: str) -> Shape:
    """Return what holds whichever of two values is meant; `one` itself if the other adds no doubt.

    `label` becomes the id of a value that is either.
    """
    if one is other:
        return one
    if isinstance(one, Object) and isinstance(other, Object):
        return _joined_object(one, other, label)
    if one == other:
        return one
    if isinstance(one, Array) and isinstance(other, Array):
        alike = len(one.items) == len(other.items) and one.many is None and other.many is None
        if alike:
            pairs = enumerate(zip(one.items, other.items, strict=True))
            return Array(tuple(join(left, right, f"{label}[{i}]") for i, (left, right) in pairs))
    safe = known_safe(one) and known_safe(other)
    new_value = Opaque(label, origins(one) | origins(other), safe)
    if isinstance(one, Opaque) and isinstance(other, Opaque) and one.id == other.id:
        return Opaque(one.id, new_value.origins, safe)
    return new_value


def _joined_object(one: Object, other: Object, label: str) -> Object:
    slots: dict[str, Slot] = {}
    for name in {**one.slots, **other.slots}:
        left, right = one.slots.get(name), other.slots.get(name)
        same = left is not None and left is right
        slots[name] = left if same and left else _joined_slot(one, other, name, f"{label}.{name}")
    rests = [shape.rest for shape in (one, other) if shape.rest is not None]
    rest = rests[0] if rests else None
    if len(rests) == 2 and rests[0] != rests[1]:
        joined = join(rests[0], rests[1], f"{label}.rest")
        rest = joined if isinstance(joined, Opaque) else None
    pascal = one.pascal and other.pascal
    kept = rest is one.rest and pascal is one.pascal and len(slots) == len(one.slots)
    if kept and all(slot is one.slots.get(name) for name, slot in slots.items()):
        return one
    return Object(slots, rest, pascal)


def _joined_slot(one: Object, other: Object, name: str, label: str) -> Slot:
    """Return a field that one of two objects may lack: then it is in doubt."""
    left, right = one.slots.get(name), other.slots.get(name)
    there = left or right
    assert there is not None  # noqa: S101  # the name is a field of one of them
    if left is not None and right is not None:
        shape = join(left.shape, right.shape, label)
        new = Slot(shape, left.sure and right.sure, left.proven and right.proven)
    else:
        rest = (other if right is None else one).rest
        shape = there.shape if rest is None else join(there.shape, rest.at(name), label)
        new = Slot(shape, False, there.proven)
    if left is None or (new.sure, new.proven) != (left.sure, left.proven):
        return new
    return left if shape is left.shape or shape == left.shape else new
