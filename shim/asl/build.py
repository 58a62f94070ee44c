"""A state machine from the table: one date, stamped or given once and checked, in every stage.

Pure: `definition` returns the ASL as data, `written` its text. No literal holds a quote, a
backslash or a brace that is not a field, so that ASL, JSON and a shell read the same text (I02).
"""

from __future__ import annotations

import json
from typing import Any

from shim.asl.frame import DONE, HANDLER, beginning, ending
from shim.asl.group import parallel_states, polls, stage_states
from shim.asl.states import State
from shim.asl.table import Row, StateMachine
from shim.errors import PipelineError, shown

WIDTH = 110  # columns of the text
LONGEST = 31536000  # seconds: a standard execution lives a year
# An execution ends as failed at 25,000 events; one poll with its wait and its count makes 11:
# docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
MOST_EVENTS = 25000
POLL_EVENTS = 11
OTHER_EVENTS = 60  # of one try's other states, with some retries
CALL = 10  # seconds that a poll may take beside its wait
MARGIN = 3600  # seconds: for the retries of the APIs


def definition(machine: StateMachine) -> State:
    """Return the state machine. Raises PipelineError when AWS could not run it to its end."""
    events, seconds = _budget(machine)
    if events > MOST_EVENTS:
        raise PipelineError(
            f"polling all stages to their timeouts makes {events} events, AWS allows {MOST_EVENTS}",
            "raise poll, or lower tries or the stages' timeouts",
        )
    if seconds > LONGEST:
        raise PipelineError(
            f"all stages together may take {seconds} s, AWS allows {LONGEST}",
            "lower tries, backoff or the stages' timeouts",
        )
    firsts = [*(_first(number, step) for number, step in enumerate(machine.steps, 1)), DONE]
    parts = [beginning(machine, firsts[0])]
    for step, first, following in zip(machine.steps, firsts, firsts[1:], strict=False):
        if len(step) == 1:
            parts.append(stage_states(step[0], machine, following, HANDLER))
        else:
            parts.append(parallel_states(step, machine, first, following, HANDLER))
    parts.append(ending())
    _check_names(parts)
    return {
        "Comment": "Made from the table by shim asl build: edit that. One execution, one run date.",
        "StartAt": "InitializeInput",
        "TimeoutSeconds": seconds,
        "States": {name: state for part in parts for name, state in part.items()},
    }


def written(document: State) -> str:
    """Return a definition's text; what fits a line stands on one, but never two states."""
    return f"{_pretty(document, 0, 2)}\n"


def _budget(machine: StateMachine) -> tuple[int, int]:
    """Return how many events and seconds an execution may need, every stage at its worst (I28)."""
    waits = sum(machine.backoff * 2**number for number in range(machine.tries - 1))
    events, seconds = OTHER_EVENTS, MARGIN
    for step in machine.steps:
        counts = [polls(row, machine) + 1 for row in step]
        events += machine.tries * sum(POLL_EVENTS * count + OTHER_EVENTS for count in counts)
        seconds += machine.tries * max(counts) * (machine.poll + CALL) + waits
    return events, seconds


def _first(number: int, step: tuple[Row, ...]) -> str:
    return f"{step[0].stage.state}Gate" if len(step) == 1 else f"Parallel{number}"


def _check_names(parts: list[dict[str, State]]) -> None:
    seen: set[str] = set()
    for part in parts:
        names = list(part)
        for state in part.values():
            names += [name for branch in state.get("Branches", ()) for name in branch["States"]]
        for name in names:
            if name in seen:
                raise PipelineError(
                    f"two states would be called {shown(name)}", "change a state in the table"
                )
            seen.add(name)


def _pretty(value: Any, indent: int, apart: int, taken: int = 0) -> str:
    """Return JSON: what fits a line of which `taken` is used, but is not `apart`, stands on one."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or (
        apart < 0 and indent + taken + len(line) + len(",") <= WIDTH
    ):
        return line
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    pairs = value.items() if isinstance(value, dict) else (("", item) for item in value)
    items = []
    for key, item in pairs:
        head = f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(value, dict) else ""
        items.append(f"{head}{_pretty(item, indent + 2, apart - 1, len(head))}")
    inner = f",\n{' ' * (indent + 2)}".join(items)
    return f"{opening}\n{' ' * (indent + 2)}{inner}\n{' ' * indent}{closing}"
