"""What is known once a Choice rule has held, or has not.

A comparison reads its variable, so after it the variable is there; one that only digits, true,
false or a moment can pass proves a text harmless to a shell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shim.asl import paths
from shim.asl.arrival import Arrival
from shim.asl.choice import decide
from shim.asl.evaluate import Evaluator
from shim.asl.shape import Known, Mixed, Object, Opaque, Presence, Shape, read, write
from shim.asl.values import AslError
from shim.asl.walk import mapping, sequence

MOST = 8
"""How many alternatives of one rule are kept apart."""
PROVES = re.compile(r"Is(Timestamp|Numeric|Boolean|Null)|(Numeric|Timestamp|Boolean)[A-Z]\w*")
SAYS = re.compile(r"Is[A-Z]\w*|(String|Numeric|Boolean|Timestamp)[A-Z]\w*")

Reader = Callable[[Arrival], Evaluator]


def assume(rule: Any, truth: bool, arrival: Arrival, reader: Reader) -> list[Arrival]:
    """Return the ways on which a rule is `truth`, as arrivals; none if it cannot be."""
    rule = mapping(rule)
    if "Not" in rule:
        return assume(rule["Not"], not truth, arrival, reader)
    for word, all_hold in (("And", True), ("Or", False)):
        if word in rule:
            rules = sequence(rule[word])
            if truth is all_hold:
                return _each(rules, truth, arrival, reader)
            return _one(rules, truth, arrival, reader)
    return _compared(rule, truth, arrival, reader)


def _each(rules: list[Any], truth: bool, arrival: Arrival, reader: Reader) -> list[Arrival]:
    ways = [arrival]
    for rule in rules:
        ways = [new for way in ways for new in assume(rule, truth, way, reader)]
        if len(ways) > MOST:
            return [arrival]
    return ways


def _one(rules: list[Any], truth: bool, arrival: Arrival, reader: Reader) -> list[Arrival]:
    """Return the ways on which one rule is `truth` and those before it are not."""
    found: list[Arrival] = []
    before = [arrival]
    for rule in rules:
        found += [new for way in before for new in assume(rule, truth, way, reader)]
        before = [new for way in before for new in assume(rule, not truth, way, reader)]
        if len(found) > MOST or len(before) > MOST:
            return [arrival]
    return found


def _compared(rule: Any, truth: bool, arrival: Arrival, reader: Reader) -> list[Arrival]:
    variable = rule.get("Variable")
    words = [word for word in rule if SAYS.fullmatch(word)]
    if not isinstance(variable, str) or len(words) != 1:
        return [arrival]
    word, wanted = words[0], rule[words[0]]
    try:
        path = paths.parse(variable)
        if path.root != "$" or path.steps is None:
            return [arrival]
        if word == "IsPresent":
            shape, presence = read(arrival.shape, path.steps, arrival.refined)
            return _present(arrival, path.steps, (shape, presence), wanted is truth)
        evaluator = reader(arrival)
        shape, presence = read(arrival.shape, path.steps, arrival.refined)
        evaluator.seen(variable, presence)
        if word.endswith("Path"):
            other = evaluator.expression(wanted)
            if not isinstance(other, Known):
                wanted = None
            else:
                word, wanted = word.removesuffix("Path"), other.value
    except AslError:
        return [arrival]
    if presence is Presence.NEVER:
        return []  # the execution fails there
    arrival = _there(arrival, path.steps, shape)
    if isinstance(shape, Known):
        verdict = decide({"Variable": "$", word: wanted}, shape.value, {})
        return [] if verdict is (not truth) else [arrival]
    return _refined(arrival, shape, word, wanted, truth)


def _present(
    arrival: Arrival, steps: tuple[str | int, ...], found: tuple[Shape, Presence], there: bool
) -> list[Arrival]:
    shape, presence = found
    if presence in (Presence.SURE, Presence.NEVER):
        return [arrival] if there is (presence is Presence.SURE) else []
    return [_there(arrival, steps, shape) if there else _gone(arrival, steps)]


def _there(arrival: Arrival, steps: tuple[str | int, ...], shape: Shape) -> Arrival:
    """Return an arrival whose input surely has a field."""
    if not steps or read(arrival.shape, steps, arrival.refined)[1] is Presence.SURE:
        return arrival
    return replace(arrival, shape=write(arrival.shape, steps, shape, True))


def _gone(arrival: Arrival, steps: tuple[str | int, ...]) -> Arrival:
    """Return an arrival that lacks a field which was in doubt; only at the top of the input."""
    shape = arrival.shape
    if len(steps) == 1 and isinstance(shape, Object) and str(steps[0]) in shape.slots:
        slots = {name: slot for name, slot in shape.slots.items() if name != steps[0]}
        return replace(arrival, shape=Object(slots, shape.rest, shape.pascal))
    return arrival


def _refined(arrival: Arrival, shape: Shape, word: str, wanted: Any, truth: bool) -> list[Arrival]:
    if not isinstance(shape, Opaque | Mixed):
        return [arrival]
    holds = truth
    if word.startswith("Is"):
        if not isinstance(wanted, bool):
            return [arrival]
        holds = wanted is truth
    refined = dict(arrival.refined)
    parts = [shape] if isinstance(shape, Opaque) else shape.parts
    values = [part for part in parts if isinstance(part, Opaque) and part.id]
    if isinstance(shape, Opaque) and shape.id:
        fact = f"{shape.id}?{word} {'' if word.startswith('Is') else json.dumps(wanted)}"
        known = refined.get(fact)
        if known is not None and known != Known(holds):
            return []
        refined[fact] = Known(holds)
        exact = word in ("StringEquals", "BooleanEquals") or (
            word == "StringMatches" and not any(c in str(wanted) for c in "*\\")
        )
        if holds and exact and isinstance(wanted, str | bool):
            refined[shape.id] = Known(wanted)
            return [replace(arrival, refined=refined)]
    if holds and PROVES.fullmatch(word):
        for value in values:
            refined[value.id] = replace(value, safe=True)
    return [replace(arrival, refined=refined)]
