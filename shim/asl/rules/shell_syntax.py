"""ASL504 shell-syntax: a script that bash cannot parse.

Why: The command fails on the instance, after everything before it was paid for.

Fix: correct the lines; `shim asl render --script DIR` writes them as files.

Silent: the first line names something else than sh, bash or dash; a hole counts as one word, a line
that is nothing but a hole as a command. When bash is missing the command says so.

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
              - if true; then make backtest
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
              - if true; then make backtest; fi
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl import shells
from shim.asl.rules import Hit
from shim.asl.subject import Subject


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each script, with the first thing that bash says."""
    scripts = {s.path: s.script for s in subject.senders if s.script.interpreter in shells.KNOWN}
    for path, message in shells.bash({p: s.text for p, s in scripts.items()}).items():
        yield Hit(path, scripts[path].shown(message), "bash -n refuses the script")
