"""ASL403 timeout-range: a timeout of an SSM command that is not what it says.

Why: SSM takes executionTimeout from 5 to 172800 seconds and silently uses 3600 for anything else,
or when it is missing; TimeoutSeconds is only for the delivery, 30 to 2592000. A job of four hours
was killed after one (I28).

Fix: set executionTimeout (a list with one text of digits) and TimeoutSeconds, both within their
ranges.

Silent: a value comes from the input or a result; a missing executionTimeout is found only where
another timeout of the definition shows that more than an hour is meant.

Bad:
    StartAt: Send
    TimeoutSeconds: 300000
    States:
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          TimeoutSeconds: 600
          Parameters:
            executionTimeout: ["200000"]
            commands:
              - make backtest
        End: true

Good:
    StartAt: Send
    TimeoutSeconds: 20000
    States:
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          TimeoutSeconds: 600
          Parameters:
            executionTimeout: ["14400"]
            commands:
              - make backtest
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.subject import Subject, budgets

# docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html, "timeouts"
EXECUTION = range(5, 172_801)
DELIVERY = range(30, 2_592_001)
DEFAULT = 3600


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each such timeout."""
    outer = subject.definition.get("TimeoutSeconds")
    for path, budget in budgets(subject):
        execution, delivery = budget.execution, budget.delivery
        if execution is None and budget.closed:
            larger = [n for n in (delivery, outer) if isinstance(n, int) and n > DEFAULT]
            if larger:
                why = f"SSM kills the command after {DEFAULT} seconds; {larger[0]} are meant"
                yield Hit(path, "no executionTimeout", why)
        elif isinstance(execution, str | int) and _seconds(execution) not in EXECUTION:
            why = f"SSM takes 5 to 172800 seconds, in digits, and silently uses {DEFAULT} instead"
            yield Hit(path, f"executionTimeout {execution}", why)
        if isinstance(delivery, str | int) and _seconds(delivery) not in DELIVERY:
            why = "SSM takes 30 to 2592000 seconds for the delivery and refuses anything else"
            yield Hit(path, f"TimeoutSeconds {delivery}", why)


def _seconds(value: str | int) -> int:
    return int(value) if str(value).isascii() and str(value).isdigit() else -1
