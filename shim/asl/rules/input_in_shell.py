"""ASL102 input-in-shell: text of the execution's input or name in a command, not validated.

Why: Whoever may start an execution may then run any command on the instance: `x; rm -rf ~`,
`$(id)`; quotes around it do not help, for the text may hold one. An execution's name may hold
quotes and parentheses (I39).

Fix: let a Choice prove it first (IsTimestamp, IsNumeric, IsBoolean, StringEquals), choose between
constants, or encode it with States.Base64Encode.

Silent: the text comes from a task's result, a variable or JSONata; a value that a Choice has
compared with constants, or proven to be a moment, a number or a boolean, counts as validated.

Bad:
    StartAt: Send
    States:
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands.$: States.Array(States.Format('make WINDOW={}', $.window))
        End: true

Good:
    StartAt: Check
    States:
      Check:
        Type: Choice
        Choices:
          - Variable: $.window
            NumericGreaterThan: 0
            Next: Send
        Default: Refused
      Refused:
        Type: Fail
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands.$: States.Array(States.Format('make WINDOW={}', $.window))
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.shape import Array, Known, Mixed, Object, Opaque, Origin, Shape, origins, read
from shim.asl.subject import Sender, Subject, request

HOSTILE = frozenset({Origin.INPUT, Origin.NAME})


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each command with such a text."""
    for sender in subject.senders:
        if sender.node.jsonata:
            continue
        for evaluator in subject.trace.evaluators(sender.path):
            whole = evaluator.template(request(sender.node))
            refined = evaluator.arrival.refined
            commands, _ = read(whole, ("Parameters", "commands"), refined)
            items = commands.items if isinstance(commands, Array) else (commands,)
            for index, item in enumerate(items):
                for origin in sorted(hostile(read(item, (), refined)[0]), key=str):
                    why = f"{origin.value} reaches the shell here, and no state validates it before"
                    yield Hit(sender.path, _shown(sender, index), why)


def hostile(shape: Shape) -> frozenset[Origin]:
    """Return from where a text holds what a shell may misread."""
    if isinstance(shape, Known):
        return frozenset()
    parts = shape.parts if isinstance(shape, Mixed) else (shape,)
    found: set[Origin] = set()
    for part in parts:
        if isinstance(part, Object | Array) or (isinstance(part, Opaque) and not part.safe):
            found |= origins(part) & HOSTILE
    return frozenset(found)


def _shown(sender: Sender, index: int) -> str:
    lines = sender.commands.observed
    return lines[index if index < len(lines) else 0].text
