"""ASL201 date-not-exported: a launch without the run date exported before it.

Why: The stage then asks its own clock, and a run that crosses midnight is split between two dates
(I01). A variable that is set and not exported reaches no program.

Fix: put `States.Format('export RUN_DATE={}', $.run_date)` right before the launch.

Silent: no command is a launch (`spot_….sh`, `python -m shim`, or what another state runs after it
got the date), the run date is named anywhere before it in another way (`--date`, `env RUN_DATE=…`,
a file of that name), or a whole line before it is a path or JSONata.

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
              - cd /opt/pipeline
              - bash spot_backtest.sh --only-stages=parity
        End: true

Good:
    StartAt: Stamp
    States:
      Stamp:
        Type: Pass
        Parameters:
          stamp.$: States.ArrayGetItem(States.StringSplit($$.Execution.StartTime, 'T'), 0)
        Next: Send
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands.$: >-
              States.Array(States.Format('export RUN_DATE={}', $.stamp), 'bash spot_backtest.sh')
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.script import DATE, Command, Script
from shim.asl.subject import Subject


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for the first such launch of each state."""
    scripts = [(sender, sender.script) for sender in subject.senders]
    programs = {_last(script) for _, script in scripts if _dated(script)} - {""}
    for sender, script in scripts:
        if not script.readable:
            continue
        launches = script.launches or [
            command for command in script.commands if command.program in programs
        ]
        for launch in launches[:1]:
            why = _wrong(script, launch)
            if why:
                yield Hit(sender.path, script.shown(launch.text), why)


def _dated(script: Script) -> bool:
    return any(DATE.fullmatch(a.name) and a.exported for a in script.assignments)


def _last(script: Script) -> str:
    """Return what the last command of a script runs, if that is a script or a module."""
    commands = [command for command in script.commands if not command.inside]
    return commands[-1].program if commands else ""


def _wrong(script: Script, launch: Command) -> str:
    if not script.names_date(0, launch.end):
        later = script.names_date(launch.end, len(script.text.encode()))
        return LATE if later else MISSING
    before = [a for a in script.assignments if DATE.fullmatch(a.name) and a.start < launch.end]
    if not before or any(a.exported for a in before):
        return ""
    # Named in one more place: it may get to the program in a way that is not seen here.
    named = DATE.findall(script.text.encode()[: launch.end].decode(errors="replace"))
    return PLAIN if len(named) == len(before) else ""


MISSING = "no line before the launch names the run date: the stage would ask its own clock"
LATE = "the run date is named only after the launch: the stage would ask its own clock"
PLAIN = "RUN_DATE is set and not exported: no program sees it"
