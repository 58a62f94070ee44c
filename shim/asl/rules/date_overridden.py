"""ASL205 date-overridden: an environment file is read after the run date was exported.

Why: A .env that holds an old RUN_DATE, or is written by another run, then replaces the date that
the state machine carries (I25).

Fix: read the file first, then export the date; or make it `readonly` before.

Silent: the file's name does not say that it is an environment (`.env`, `environment`), or the date
is set again or readonly.

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
              - export RUN_DATE=2026-05-17
              - . /opt/pipeline/.env
              - bash spot_backtest.sh
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
              - . /opt/pipeline/.env
              - export RUN_DATE=2026-05-17
              - bash spot_backtest.sh
        End: true
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.script import DATE
from shim.asl.subject import Subject

FILE = re.compile(r"(^|[/._-])env(ironment)?([._-]\w+)*$")
WHY = "a RUN_DATE in this file replaces the one that was exported before"


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each file that is read between the last export and the launch."""
    for sender in subject.senders:
        script = sender.script
        dates = [a for a in script.assignments if DATE.fullmatch(a.name)]
        if not script.readable or not dates or not script.launches or "readonly" in script.text:
            continue
        launch = script.launches[0]
        last = max((a.start for a in dates if a.start < launch.start), default=launch.start)
        for command in script.commands:
            sourced = command.name in (".", "source") and len(command.words) > 1
            between = last < command.start < launch.start and not command.inside
            if sourced and between and FILE.search(command.words[1]):
                yield Hit(sender.path, script.shown(command.text), WHY)
