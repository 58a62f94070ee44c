"""ASL501 pipe-without-pipefail: a pipe whose first command may fail unseen.

Why: The status of a pipe is that of its last command: `stage | tee log` succeeded for weeks while
the stage failed (I03).

Fix: write to the log through a wrapper that returns the command's status (`python -m shim
capture`), or begin with `#!/bin/bash` and `set -o pipefail`.

Silent: the status is looked at otherwise (a condition, `||`, `$(…)`, PIPESTATUS), the first
commands only print, or the script cannot be parsed or is not for a shell.

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
            commands:
              - make backtest | tee /var/log/backtest.log
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
            commands:
              - "#!/bin/bash"
              - set -eo pipefail
              - make backtest | tee /var/log/backtest.log
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shim.asl.rules import Hit
from shim.asl.script import Script, judged, plain
from shim.asl.subject import Subject

if TYPE_CHECKING:
    from tree_sitter import Node


PRINTING = frozenset({"echo", "printf", "true", "yes", "cat", ":"})
SHELLS = frozenset({"sh", "bash", "dash", "ksh", "zsh"})
WHY = "the status of the pipe is its last command's: what fails before it goes unseen"


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each such pipe."""
    for sender in subject.senders:
        script = sender.script
        if not script.readable or script.interpreter not in SHELLS or "PIPESTATUS" in script.text:
            continue
        start = _pipefail(script)
        for node in script.nodes:
            if node.type != "pipeline" or node.start_byte > start or judged(node):
                continue
            if not all(_prints(child) for child in node.named_children[:-1]):
                yield Hit(sender.path, script.shown((node.text or b"").decode()), WHY)


def _pipefail(script: Script) -> int:
    """Return from where on pipefail holds."""
    for command in script.commands:
        if command.name == "set" and "pipefail" in command.words and "+o" not in command.words:
            return command.start
    return len(script.text.encode()) + 1


def _prints(node: Node) -> bool:
    """Return whether nothing that matters can fail in a command."""
    while node.type == "redirected_statement" and node.named_children:
        node = node.named_children[0]
    name = node.child_by_field_name("name") if node.type == "command" else None
    return name is not None and plain(name) in PRINTING
