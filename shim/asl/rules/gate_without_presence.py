"""ASL302 gate-without-is-present: a skip gate whose flag may be missing.

Why: A comparison with a field that is not there does not count as false: the execution fails with
States.Runtime. Nobody passes every flag in every input.

Fix: test `IsPresent: true` first, in an And, or merge the input over defaults that hold the flag.

Silent: a state before has set the flag, or the flag's name does not hold `skip`; a test of
IsPresent anywhere in the same rule counts.

Bad:
    StartAt: Gate
    States:
      Gate:
        Type: Choice
        Choices:
          - Variable: $.skip_parity
            BooleanEquals: true
            Next: Done
        Default: Work
      Work:
        Type: Pass
        Next: Done
      Done:
        Type: Succeed

Good:
    StartAt: Gate
    States:
      Gate:
        Type: Choice
        Choices:
          - And:
              - {Variable: $.skip_parity, IsPresent: true}
              - {Variable: $.skip_parity, BooleanEquals: true}
            Next: Done
        Default: Work
      Work:
        Type: Pass
        Next: Done
      Done:
        Type: Succeed
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shim.asl.rules import Hit
from shim.asl.shape import Presence
from shim.asl.subject import Subject, texts
from shim.asl.walk import sequence

WHY = "an input without this field ends the execution here, with States.Runtime"


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each flag that only the input can hold."""
    for node in subject.nodes:
        if node.kind != "Choice" or node.jsonata:
            continue
        for rule in sequence(node.state.get("Choices")):
            for variable in dict.fromkeys(t for key, t in texts(rule) if key == "Variable"):
                seen = subject.trace.reads.get((node.path, variable), {})
                missing = {Presence.UNWRITTEN, Presence.NEVER} & set(seen)
                if missing and "skip" in variable.lower() and not _guarded(rule, variable):
                    yield Hit(node.path, variable, WHY)


def _guarded(rule: Any, variable: str) -> bool:
    if isinstance(rule, dict):
        if rule.get("Variable") == variable and "IsPresent" in rule:
            return True
        return any(_guarded(item, variable) for item in rule.values())
    return isinstance(rule, list) and any(_guarded(item, variable) for item in rule)
