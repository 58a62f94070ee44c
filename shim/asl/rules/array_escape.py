r"""ASL101 array-escape: a quote or a backslash in a literal of States.Array.

Why: AWS was seen to pass the backslash of \' in an argument of States.Array on to the shell,
although its documentation says that it is dropped; `trap \'…\' EXIT` then ended eight states with
exit 127 (I02).

Fix: write the line so that it needs no quote, or let States.Format make it, or send a script file.

Silent: the text cannot be parsed (AWS refuses it when the state machine is created) or is JSONata.

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
            commands.$: States.Array('set -e', 'echo \'done\'')
        End: true

Good:
    StartAt: Send
    States:
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands.$: States.Array('set -e', 'echo done')
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl import intrinsics
from shim.asl.intrinsics import String
from shim.asl.rules import Hit
from shim.asl.subject import Subject, texts
from shim.asl.values import AslError


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each such literal."""
    for node in subject.nodes:
        for key, text in texts(node.state):
            if not key.endswith(".$") or "States.Array" not in text or "\\" not in text:
                continue
            try:
                calls = list(intrinsics.calls(intrinsics.parse(text)))
            except AslError:  # not ours to report
                continue
            for call in calls:
                if call.name == "States.Array":
                    for argument in call.arguments:
                        if isinstance(argument, String) and "\\" in argument.raw:
                            yield Hit(node.path, f"'{argument.raw}'", WHY)


WHY = "its backslash may reach the shell: AWS keeps it, its documentation drops it"
