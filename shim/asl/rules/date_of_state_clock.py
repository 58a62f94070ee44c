"""ASL202 date-of-state-clock: the run date is taken from the clock of one state.

Why: $$.State.EnteredTime is the time at which this state was entered, so each state, each retry and
each redrive has another one, and after midnight another date (I01). $now() in JSONata is the same.

Fix: take it once from $$.Execution.StartTime, which is constant for an execution, and carry it.

Silent: the value goes anywhere but into a field or a variable that is named run_date, runDate or
RUN_DATE, or `--date`.

Bad:
    StartAt: Stamp
    States:
      Stamp:
        Type: Pass
        Parameters:
          run_date.$: States.ArrayGetItem(States.StringSplit($$.State.EnteredTime, 'T'), 0)
        End: true

Good:
    StartAt: Stamp
    States:
      Stamp:
        Type: Pass
        Parameters:
          run_date.$: States.ArrayGetItem(States.StringSplit($$.Execution.StartTime, 'T'), 0)
          entered.$: $$.State.EnteredTime
        End: true
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from shim.asl.evaluate import Evaluator
from shim.asl.graph import Node
from shim.asl.rules import Hit
from shim.asl.script import DATE
from shim.asl.shape import Array, Mixed, Object, Opaque, Origin, Shape, origins
from shim.asl.subject import Subject, request, texts

CLOCK = re.compile(r"\$states\.context\.State\.EnteredTime|\$now\(|\$millis\(")
NAMED = re.compile(r"(run_?date=|--date[= ])['\"]?\Z", re.IGNORECASE)
WHY = "the clock of one state names the run: another state, retry or redrive has another date"


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each field, variable or option that gets such a date."""
    for node in subject.nodes:
        if node.jsonata:
            for key, text in texts(node.state):
                if CLOCK.search(text) and (DATE.fullmatch(key) or DATE.search(text)):
                    yield Hit(node.path, text, WHY)
            continue
        if "EnteredTime" not in subject.text:
            continue
        for evaluator in subject.trace.evaluators(node.path):
            yield from _hits(node, evaluator)


def _hits(node: Node, evaluator: Evaluator) -> Iterator[Hit]:
    written = evaluator.template(request(node))
    place = str(node.state.get("ResultPath", "")).rpartition(".")[2]
    if node.kind == "Pass" and DATE.fullmatch(place) and _clocked(written):
        yield Hit(node.path, f"ResultPath {node.state['ResultPath']}", WHY)
    yield from _in(node, written, request(node))


def _in(node: Node, shape: Shape, source: object) -> Iterator[Hit]:
    if isinstance(shape, Object) and isinstance(source, dict):
        for key, slot in shape.slots.items():
            text = source.get(f"{key}.$")
            if text is None:
                yield from _in(node, slot.shape, source.get(key))
            elif DATE.fullmatch(key) and _clocked(slot.shape):
                # A copy of a date was found where it was made.
                if not DATE.fullmatch(str(text).rpartition(".")[2]):
                    yield Hit(node.path, f"{key}.$: {text}", WHY)
            elif isinstance(slot.shape, Array):
                for item in slot.shape.items:
                    yield from _line(node, item)


def _line(node: Node, item: Shape) -> Iterator[Hit]:
    if isinstance(item, Mixed):
        for before, part in zip(item.parts, item.parts[1:], strict=False):
            named = isinstance(before, str) and NAMED.search(before)
            if named and isinstance(part, Opaque) and _entered(part):
                yield Hit(node.path, f"{before}<$$.State.EnteredTime>", WHY)


def _clocked(shape: Shape) -> bool:
    return not isinstance(shape, Object) and Origin.ENTERED in origins(shape)


def _entered(part: Opaque) -> bool:
    # A date that was stamped in a field of its own is found there.
    return Origin.ENTERED in part.origins
