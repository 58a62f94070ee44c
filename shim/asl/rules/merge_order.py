"""ASL301 merge-order: a merge lets defaults win over the execution's input.

Why: States.JsonMerge takes from its second argument what both have. With the defaults second,
whatever the caller passes is lost: a dry pass ran for real (I29).

Fix: merge the other way round: States.JsonMerge(defaults, input, false).

Silent: the second argument is not named default…, and no Choice tests a constant of it: then it may
be there to overwrite.

Bad:
    StartAt: Defaults
    States:
      Defaults:
        Type: Pass
        Parameters:
          defaults: {dry_run: false}
          input.$: $$.Execution.Input
        Next: Merge
      Merge:
        Type: Pass
        Parameters:
          settings.$: States.JsonMerge($.input, $.defaults, false)
        End: true

Good:
    StartAt: Defaults
    States:
      Defaults:
        Type: Pass
        Parameters:
          defaults: {dry_run: false}
          input.$: $$.Execution.Input
        Next: Merge
      Merge:
        Type: Pass
        Parameters:
          settings.$: States.JsonMerge($.defaults, $.input, false)
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl import intrinsics, paths
from shim.asl.evaluate import Evaluator
from shim.asl.graph import Node
from shim.asl.intrinsics import Argument, Call, PathArgument
from shim.asl.rules import Hit
from shim.asl.shape import Known, Object, Origin, Shape, origins
from shim.asl.subject import Subject, texts
from shim.asl.values import AslError


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each such merge."""
    for node in subject.nodes:
        for key, text in texts(node.state):
            if node.jsonata or not key.endswith(".$") or "States.JsonMerge" not in text:
                continue
            try:
                calls = list(intrinsics.calls(intrinsics.parse(text)))
            except AslError:  # not ours to report
                continue
            for call in calls:
                if call.name == "States.JsonMerge" and len(call.arguments) == 3:
                    yield from _hits(subject, node, call)


def _hits(subject: Subject, node: Node, call: Call) -> Iterator[Hit]:
    first, second = call.arguments[:2]
    for evaluator in subject.trace.evaluators(node.path):
        given, over = (_shape(evaluator, argument) for argument in (first, second))
        if Origin.INPUT not in origins(given) or Origin.INPUT in origins(over):
            continue
        if _default(second) and not _default(first):
            yield Hit(node.path, call.text, NAMED)
        elif isinstance(over, Object) and over.rest is None:
            for name, slot in over.slots.items():
                choice = isinstance(slot.shape, Known) and _decided(subject, name)
                if choice:
                    yield Hit(node.path, call.text, TESTED.format(name=name, choice=choice))


NAMED = "what the defaults hold wins over the execution's input"
TESTED = "{name} is the same whatever the input says, and {choice} tests it"


def _shape(evaluator: Evaluator, argument: Argument) -> Shape:
    text = argument.text if isinstance(argument, Call | PathArgument) else None
    return evaluator.expression(text)


def _default(argument: Argument) -> bool:
    if not isinstance(argument, PathArgument):
        return False
    steps = paths.parse(argument.text).steps
    return bool(steps) and str(steps[-1] if steps else "").lower().startswith("default")


def _decided(subject: Subject, name: str) -> str:
    """Return a Choice whose variable of that name is one constant on every way to it."""
    for node in subject.nodes:
        if node.kind != "Choice" or node.jsonata:
            continue
        for key, text in texts(node.state):
            if key == "Variable" and text.rpartition(".")[2] == name:
                found = [e.expression(text) for e in subject.trace.evaluators(node.path)]
                if found and all(isinstance(shape, Known) for shape in found):
                    return node.path
    return ""
