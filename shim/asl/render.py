r"""The lines that AWS sends to an instance, for every state that sends an SSM command.

What stands in the text is shown as it arrives: `commands` as it is, `commands.$` evaluated, from
the state's input as `flow` follows it. What only a run can decide stands as `<where it comes
from>`; nothing is guessed. Two readings of `\'` are kept (`values.Reading`); a line on which they
differ is one that should not be written so.

Not evaluated, and shown as written: JSONata (`<JSONata {% … %}>`), variables (`<$name>`), SSM's own
`{{ssm:…}}`, and `${…}` that CloudFormation replaces at deployment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shim.asl.flow import Flow
from shim.asl.template import Filler
from shim.asl.values import AslError, Reading, Text, Unknown, Value
from shim.asl.walk import sends_command, walk

JSONATA = "the commands are made by JSONata, which is not evaluated here"


@dataclass(frozen=True)
class Line:
    """One element of `commands`: texts, and holes for what only a run can decide."""

    parts: tuple[str | Unknown, ...]

    @property
    def text(self) -> str:
        """The text, each hole as its placeholder `<…>`."""
        return Text(self.parts).text

    @property
    def holes(self) -> tuple[str, ...]:
        """The labels of what is not decided."""
        return tuple(part.label for part in self.parts if isinstance(part, Unknown))

    def filled(self, word: str) -> str:
        """Return the text with a word in each hole, for a check of its syntax."""
        return "".join(part if isinstance(part, str) else word for part in self.parts)


@dataclass(frozen=True)
class Commands:
    """What one state sends.

    `state` is its path as `walk` names it; `document` the SSM document, or its placeholder;
    `documented` and `observed` the lines under each reading, in order; `problems` what would fail
    or is not evaluated; `reached` is False when this input does not lead to the state.
    """

    state: str
    document: str
    documented: tuple[Line, ...]
    observed: tuple[Line, ...]
    problems: tuple[str, ...] = ()
    reached: bool = True

    @property
    def differs(self) -> bool:
        """Whether the readings give different text."""
        return self.documented != self.observed

    def lines(self, reading: Reading = Reading.OBSERVED) -> tuple[Line, ...]:
        """Return the lines under a reading."""
        return self.documented if reading is Reading.DOCUMENTED else self.observed

    def texts(self, reading: Reading = Reading.OBSERVED) -> tuple[str, ...]:
        """Return the lines' texts under a reading."""
        return tuple(line.text for line in self.lines(reading))

    def script(self, reading: Reading = Reading.OBSERVED) -> str:
        """Return the script that SSM makes of the lines: each ended by a newline."""
        return "".join(f"{text}\n" for text in self.texts(reading))


@dataclass(frozen=True)
class Rendering:
    """All commands of a definition, in the order of its text, and what would fail elsewhere."""

    commands: tuple[Commands, ...]
    problems: tuple[str, ...]


def extract_commands(
    state: Mapping[str, Any],
    data: Value = Unknown("$"),  # noqa: B008  # frozen
    context: Mapping[str, Value] | None = None,
    *,
    name: str = "state",
    query_language: str = "JSONPath",
) -> Commands | None:
    """Return the lines that one state sends to SSM; None if it sends no command.

    `data` is the state's input, `context` the context object; without them every path in the
    commands is a hole, `<$.run_date>`. Raises AslError for data that nests too deep.
    """
    if not sends_command(state):
        return None
    whole = {"QueryLanguage": query_language}
    given = context_object() if context is None else dict(context)
    flows = [Flow(whole, given, reading) for reading in Reading]
    try:
        fillers = [flow.filler(name, name, state, data) for flow in flows]
        return _commands(name, state, fillers)
    except RecursionError as error:
        raise AslError("the state or its input nests too deep") from error


def render(
    definition: Mapping[str, Any],
    input: Value = None,  # the States Language's own word for it
    start_time: str | None = None,
    name: str | None = None,
) -> Rendering:
    """Return what every state of a definition sends to SSM in one execution.

    `input` is the execution's input, `{}` if None, as StartExecution has it; `start_time` is text
    such as `2026-05-17T23:59:59.000Z`; without it or `name` they are holes. A state that this
    input does not lead to is shown with what reaches it when no Choice is decided. Raises AslError
    for a definition or an input that nests too deep.
    """
    data = {} if input is None else input
    context = context_object(data, start_time, name)
    try:
        taken = {r: Flow.run(definition, context, r, data) for r in Reading}
        senders = [(path, state) for path, state in walk(definition) if sends_command(state)]
        every = taken
        if any(path not in flow.inputs for flow in taken.values() for path, _ in senders):
            every = {r: Flow.run(definition, context, r, data, decides=False) for r in Reading}
        found = []
        for path, state in senders:
            fillers = []
            for reading in Reading:
                flow = taken[reading] if path in taken[reading].inputs else every[reading]
                raw = flow.inputs.get(path, Unknown(f"{path}.input"))
                filler = flow.filler(path, path.rpartition("/")[2], state, raw)
                if path not in flow.inputs:
                    filler.problems[f"{path}: no state leads to it"] = None
                fillers.append(filler)
            found.append(_commands(path, state, fillers, path in taken[reading].inputs))
    except RecursionError as error:
        raise AslError("the definition or its input nests too deep") from error
    problems = {problem: None for flow in taken.values() for problem in flow.problems}
    return Rendering(tuple(found), tuple(problems))


def context_object(
    input: Value = Unknown("$$.Execution.Input"),  # noqa: B008  # frozen
    start_time: str | None = None,
    name: str | None = None,
) -> dict[str, Value]:
    """Return the context object; what is not given is Unknown.

    Source: docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html
    """
    fields: dict[str, tuple[str, ...]] = {
        "Execution": ("Id", "RoleArn", "RedriveCount", "RedriveTime"),
        "State": ("EnteredTime", "Name", "RetryCount"),
        "StateMachine": ("Id", "Name"),
        "Task": ("Token",),
    }
    context: dict[str, Value] = {
        group: {field: Unknown(f"$$.{group}.{field}") for field in names}
        for group, names in fields.items()
    }
    execution: dict[str, Value] = {
        **{field: Unknown(f"$$.Execution.{field}") for field in fields["Execution"]},
        "Input": input,
        "Name": Unknown("$$.Execution.Name") if name is None else name,
        "StartTime": Unknown("$$.Execution.StartTime") if start_time is None else start_time,
    }
    return {**context, "Execution": execution}


def _commands(
    path: str, state: Mapping[str, Any], fillers: Sequence[Filler], reached: bool = True
) -> Commands:
    lines: dict[Reading, tuple[Line, ...]] = {}
    problems: dict[str, list[Reading]] = {}
    document = ""
    for filler in fillers:
        document, lines[filler.reading], found = _sent(path, state, filler)
        for problem in found:
            problems.setdefault(problem, []).append(filler.reading)
    told = (
        problem if len(readings) == len(Reading) else f"{problem} ({readings[0].value} reading)"
        for problem, readings in problems.items()
    )
    return Commands(
        *(path, document, lines[Reading.DOCUMENTED], lines[Reading.OBSERVED]),
        *(tuple(told), reached),
    )


def _sent(
    path: str, state: Mapping[str, Any], filler: Filler
) -> tuple[str, tuple[Line, ...], dict[str, None]]:
    """Return the SSM document, the lines and the problems of one state under one reading."""
    field = "Arguments" if filler.jsonata else "Parameters"
    if not filler.jsonata:
        where = f"{path}.InputPath"
        filler.data = filler.selected(state.get("InputPath", "$"), filler.data, where)
    template = state.get(field)
    if isinstance(template, dict):
        # Only what is shown: a path to the instance that is not in the input is nobody's line.
        template = {
            key: item
            for key, item in template.items()
            if key.removesuffix(".$") in ("Parameters", "DocumentName")
        }
        inner = template.get("Parameters")
        if isinstance(inner, dict):
            template["Parameters"] = {
                key: item for key, item in inner.items() if key.removesuffix(".$") == "commands"
            }
    request = filler.data if template is None else filler.fill(template, f"{path}.{field}")
    document = _field(request, "DocumentName")
    commands = _field(_field(request, "Parameters"), "commands")
    lines: tuple[Line, ...] = ()
    if isinstance(commands, list):
        lines = tuple(_line(path, index, item, filler) for index, item in enumerate(commands))
    elif isinstance(commands, Unknown):
        lines = (Line((commands,)),)
    elif commands is not None:
        filler.problems[f"{path}: the commands are not an array: SSM would refuse them"] = None
    else:
        filler.problems[f"{path}: no commands are in the parameters"] = None
    if any(hole.startswith("JSONata") for line in lines for hole in line.holes):
        filler.problems[f"{path}: {JSONATA}"] = None
    title = document.text if isinstance(document, Unknown | Text) else document
    return title if isinstance(title, str) else "", lines, filler.problems


def _field(value: Value, name: str) -> Value:
    if isinstance(value, Unknown):
        return value.at(name)
    return value.get(name) if isinstance(value, dict) else None


def _line(path: str, index: int, item: Value, filler: Filler) -> Line:
    if isinstance(item, str):
        return Line((item,))
    if isinstance(item, Text):
        return Line(item.parts)
    if isinstance(item, Unknown):
        return Line((item,))
    filler.problems[f"{path}: command {index + 1} is not text: SSM would refuse it"] = None
    return Line((Unknown(f"{path}.commands[{index}]"),))
