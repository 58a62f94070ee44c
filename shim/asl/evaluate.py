"""What the templates of a state yield on one way to it, whatever the execution's input is.

`intrinsics.evaluate` computes one execution; this keeps where each value comes from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from shim.asl import intrinsics, paths
from shim.asl.arrival import LOST, Arrival
from shim.asl.graph import Node
from shim.asl.intrinsics import Call, Constant, PathArgument, String
from shim.asl.join import join, merge
from shim.asl.shape import (
    INPUT,
    NOTHING_KNOWN,
    Array,
    Known,
    Object,
    Opaque,
    Origin,
    Presence,
    Shape,
    Slot,
    known_safe,
    literal,
    mixed,
    origins,
    read,
)
from shim.asl.template import is_jsonata
from shim.asl.values import AslError

# Whatever goes in, no character that comes out of these means anything to a shell.
HARMLESS = {
    *("States.ArrayContains", "States.ArrayLength", "States.Base64Encode", "States.Hash"),
    *("States.MathAdd", "States.MathRandom", "States.UUID"),
}


Seen = Callable[[str, Presence], None]


class Evaluator:
    """Fills templates for a state at `path`; `seen` is told of each path that is read."""

    def __init__(self, path: str, arrival: Arrival, seen: Seen, jsonata: bool = False) -> None:
        self.path = path
        self.arrival = arrival
        self.shape = arrival.shape
        self.seen = seen
        self.jsonata = jsonata
        self.missing = False
        """Whether a path was read that names nothing, so that the state fails."""

    def template(self, value: Any) -> Shape:
        """Return what Parameters, ItemSelector or ResultSelector yield."""
        if isinstance(value, dict):
            slots: dict[str, Slot] = {}
            for key, item in value.items():
                if key.endswith(".$") and not self.jsonata:
                    slots[key[:-2]] = Slot(self.expression(item))
                else:
                    slots[key] = Slot(self.template(item))
            return Object(slots)
        if isinstance(value, list):
            return Array(tuple(map(self.template, value)))
        if self.jsonata and is_jsonata(value):
            return LOST
        return literal(value)

    def expression(self, text: Any) -> Shape:
        """Return what a path or an intrinsic function yields."""
        if not isinstance(text, str):
            return LOST
        try:
            return self.read(text) if text.startswith("$") else self._call(intrinsics.parse(text))
        except AslError:  # `render` reports it; here it only means that nothing is known
            return LOST

    def read(self, text: str) -> Shape:
        """Return what a path names. Raises AslError for a text that is none."""
        path = paths.parse(text)
        if path.steps is None or path.root not in ("$", "$$"):
            return Opaque(f"{self.path}|{text}", origins(self.shape) | NOTHING_KNOWN)
        if path.root == "$$":
            return self._context(path.steps, text)
        shape, presence = read(self.shape, path.steps, self.arrival.refined)
        self.missing = self.missing or presence is Presence.NEVER
        self.seen(text, presence)
        return shape

    def _context(self, steps: tuple[str | int, ...], text: str) -> Shape:
        refined = self.arrival.refined
        if steps[:2] == ("Execution", "Input"):
            return read(Object(rest=INPUT), steps[2:], refined)[0]
        if steps[:3] == ("Map", "Item", "Value"):
            return read(self.arrival.item, steps[3:], refined)[0]
        if steps == ("State", "EnteredTime"):
            return Opaque(f"{self.path}|entered", frozenset({Origin.ENTERED}), safe=True)
        if steps == ("Execution", "StartTime"):
            return Opaque(text, frozenset({Origin.START}), safe=True)
        named = steps in (("Execution", "Name"), ("Execution", "Id"))
        return read(
            Opaque(text, frozenset({Origin.NAME}) if named else NOTHING_KNOWN), (), refined
        )[0]

    def _call(self, call: Call) -> Shape:
        given = [self._argument(call, index) for index in range(len(call.arguments))]
        name = call.name
        label = f"{self.path}|{call.text}"
        if name == "States.Format" and call.arguments:
            template = call.arguments[0]
            if isinstance(template, String):
                texts = intrinsics.slots(template.raw)
                parts: list[str | Shape] = [texts[0]]
                for value, text in zip(given[1:], texts[1:], strict=False):
                    parts += [value, text]
                return mixed(tuple(parts))
        if name == "States.Array":
            return Array(tuple(given))
        if name == "States.JsonMerge" and len(given) == 3:
            return merge(given[0], given[1], label)
        if name == "States.ArrayGetItem" and len(given) == 2:
            items, index = given
            if isinstance(index, Known) and isinstance(index.value, int):
                return read(items, (index.value,), self.arrival.refined)[0]
        if name == "States.StringToJson" and given and isinstance(given[0], Known):
            try:
                return literal(json.loads(str(given[0].value)))
            except ValueError:
                return LOST
        whole = frozenset().union(*map(origins, given)) if given else frozenset()
        # The pieces of a safe text are safe; what is decoded or printed as JSON need not be.
        pieces = name == "States.StringSplit" and known_safe(given[0])
        return Opaque(label, whole, safe=name in HARMLESS or pieces)

    def _argument(self, call: Call, index: int) -> Shape:
        argument = call.arguments[index]
        if isinstance(argument, Call):
            return self._call(argument)
        if isinstance(argument, PathArgument):
            return self.read(argument.text)
        if isinstance(argument, Constant):
            return Known(argument.value)
        if call.name == "States.Format" and index == 0:
            return Known(argument.raw)
        return Known(intrinsics.unescape(argument.raw, call.name == "States.Array"))


# Integrations whose results are an answer of AWS: an object with capitalised names.
ANSWERS = re.compile(r":states:::(aws-sdk:[\w-]+|sns|sqs|dynamodb|lambda|ecs|batch|states|glue):")


def answer(node: Node) -> Shape:
    """Return a Task's result: an answer of AWS has capitalised names, else nothing is known."""
    result = Opaque(f"{node.path}|result", frozenset({Origin.RESULT}))
    if ANSWERS.search(node.resource) and not node.resource.endswith(".waitForTaskToken"):
        return Object(rest=result, pascal=True)
    return result


def item_of(node: Node, evaluator: Evaluator) -> Shape:
    """Return what any item of a Map is."""
    if node.jsonata or "ItemReader" in node.state:
        return LOST
    items = evaluator.expression(node.state.get("ItemsPath", "$"))
    if isinstance(items, Array) and items.items:
        item = items.items[0]
        for other in items.items[1:]:
            item = join(item, other, f"{node.path}|item")
        return item
    return items.at(0) if isinstance(items, Opaque) else LOST
