"""Every state of a definition, in order, with those inside Parallel and Map states."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

# A definition is whatever somebody wrote, so nothing in it is trusted to be of its type.
State: TypeAlias = Mapping[str, Any]
SEND = re.compile(r":aws-sdk:ssm:sendCommand(\.\w+)?\Z", re.IGNORECASE)
"""The end of the Resource of a state that sends an SSM command, in whatever case the action is:
docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html"""


def mapping(value: object) -> State:
    """Return an object of the definition, or an empty one if it is none."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return an array of the definition, or an empty one if it is none."""
    return value if isinstance(value, list) else []


def is_definition(value: object) -> bool:
    """Return whether a value looks like a state machine: it has StartAt and States."""
    return isinstance(value, dict) and "StartAt" in value and isinstance(value.get("States"), dict)


def walk(definition: State, prefix: str = "") -> Iterator[tuple[str, State]]:
    """Return each state with its path, in the order of the text, inner states after their outer.

    A path is the state's name; inside a Parallel it is `Outer[0]/Name`, with the branch's number,
    inside a Map `Outer/Name`.
    """
    for name, state in mapping(definition.get("States")).items():
        if isinstance(state, dict):
            path = f"{prefix}{name}"
            yield path, state
            for inner, machine in machines(path, state):
                yield from walk(machine, inner)


def machines(path: str, state: State) -> Iterator[tuple[str, State]]:
    """Return the machines inside a state, each with the prefix of its states' paths."""
    if state.get("Type") == "Parallel":
        for index, branch in enumerate(sequence(state.get("Branches"))):
            yield f"{path}[{index}]/", mapping(branch)
    elif state.get("Type") == "Map":
        yield f"{path}/", mapping(state.get("ItemProcessor") or state.get("Iterator"))


def language(definition: State, state: State) -> str:
    """Return a state's query language, `JSONPath` or `JSONata`: its own, else the definition's."""
    return str(state.get("QueryLanguage") or definition.get("QueryLanguage") or "JSONPath")


def sends_command(state: State) -> bool:
    """Return whether a state sends an SSM command."""
    resource = state.get("Resource")
    return isinstance(resource, str) and SEND.search(resource) is not None
