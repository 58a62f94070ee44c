"""ASL203 date-of-shell-clock: the run date is taken from the clock of an instance.

Why: Three stages on three instances have three clocks; the evaluator looked for the backtest under
the next day's date (I01). A default such as ${RUN_DATE:-$(date +%F)} hides that the date did not
arrive.

Fix: export the date that the state machine carries; fail when it is empty: ${RUN_DATE:?}.

Silent: `date` names anything but the run date (a log file, say), or the script cannot be parsed.

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
              - export RUN_DATE=$(date -u +%F)
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
              - export RUN_DATE=2026-05-17
              - bash spot_backtest.sh > run-$(date +%s).log
        End: true
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.script import DATE, Script
from shim.asl.subject import Subject

CLOCK = re.compile(
    r"(?:\$\(|`)\s*(?:\w+=\S*\s+)*(?:command\s+|env\s+)?(?:/\S*/)?date(?![\w-])"
    r"|%\([^)]*\)T|\$\{?EPOCH(?:SECONDS|REALTIME)\b"
)
GIVEN = re.compile(r"(?:run_?date=|--(?:run-)?date[= ])(.*)", re.IGNORECASE | re.DOTALL)
WHY = "the clock of the instance names the run: each stage, and each retry, may get another date"


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each such assignment or option."""
    for sender in subject.senders:
        if sender.script.readable:
            for text in _clocked(sender.script):
                yield Hit(sender.path, sender.script.shown(text), WHY)


def _clocked(script: Script) -> Iterator[str]:
    clocks: set[str] = set()
    for assignment in script.assignments:
        value = assignment.value
        text = (value.text or b"").decode() if value is not None else ""
        names = set(re.findall(r"\$\{?(\w+)", text))
        if CLOCK.search(text) or names & clocks:
            clocks.add(assignment.name)
            if DATE.fullmatch(assignment.name):
                yield assignment.text
    for launch in script.launches:
        given = GIVEN.search(launch.text)
        if given and not DATE.match(given[0]):
            names = set(re.findall(r"\A['\"]?\$\{?(\w+)", given[1]))
            at_once = re.match(rf"['\"]?(?:{CLOCK.pattern})", given[1])
            if at_once or (names & clocks and not any(map(DATE.fullmatch, names))):
                yield launch.text
