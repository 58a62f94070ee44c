"""ASL503 exit-trap: an inline EXIT trap beside a log capture.

Why: A trap's last command becomes the script's status and hides the stage's (I03), it reads the log
before what writes it has ended, and it never runs when SSM ends the command with SIGKILL (I05).

Fix: leave the log to the wrapper: `python -m shim capture --slug … --log … -- …` ships it whatever
happens.

Silent: nothing in the script captures a log (`shim capture`, `tee`, `exec >`), or it cannot be
parsed.

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
              - trap cleanup EXIT
              - export RUN_DATE=2026-05-17
              - python -m shim capture --slug b --log /var/log/b.log -- bash spot_backtest.sh
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
              - export RUN_DATE=2026-05-17
              - python -m shim capture --slug b --log /var/log/b.log -- bash spot_backtest.sh
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.script import Script
from shim.asl.subject import Subject

SIGNALS = ("EXIT", "0")
WHY = "the trap's status replaces the stage's, and SIGKILL, with which SSM ends a command, skips it"


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each such trap."""
    for sender in subject.senders:
        script = sender.script
        if not script.readable or not _captures(script):
            continue
        for command in script.commands:
            words = command.words
            sets = command.name == "trap" and len(words) > 2 and words[1] not in ("", "-")
            if sets and not command.inside and any(w.upper() in SIGNALS for w in words[2:]):
                yield Hit(sender.path, script.shown(command.text), WHY)


def _captures(script: Script) -> bool:
    if any(c.name == "tee" or {"-m", "shim", "capture"} <= set(c.words) for c in script.commands):
        return True
    return any(
        node.type == "redirected_statement" and (node.text or b"").startswith(b"exec ")
        for node in script.nodes
    )
