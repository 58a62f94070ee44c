"""ASL204 date-lost: a state reads the run date, and a way to it has lost it.

Why: A Task, a Parallel or a Map without ResultPath replaces the whole input by its result,
OutputPath drops all but one field, an item of a Map has only its own fields: the execution fails
there, or another date is used.

Fix: keep the input with `ResultPath` (`$.result`, or null to drop the result), and pass the date to
Map items.

Silent: what replaced the input may hold the date: the result of a Lambda function, of an activity
or of JSONata, or an item that the execution's input holds.

Bad:
    StartAt: Stamp
    States:
      Stamp:
        Type: Pass
        Parameters:
          run_date.$: States.ArrayGetItem(States.StringSplit($$.Execution.StartTime, 'T'), 0)
        Next: Tell
      Tell:
        Type: Task
        Resource: arn:aws:states:::sns:publish
        Parameters:
          TopicArn: arn:aws:sns:eu-west-1:123456789012:runs
          Message: started
        Next: Send
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands.$: >-
              States.Array(States.Format('export RUN_DATE={}', $.run_date), 'bash spot_backtest.sh')
        End: true

Good:
    StartAt: Stamp
    States:
      Stamp:
        Type: Pass
        Parameters:
          run_date.$: States.ArrayGetItem(States.StringSplit($$.Execution.StartTime, 'T'), 0)
        Next: Tell
      Tell:
        Type: Task
        Resource: arn:aws:states:::sns:publish
        Parameters:
          TopicArn: arn:aws:sns:eu-west-1:123456789012:runs
          Message: started
        ResultPath: null
        Next: Send
      Send:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands.$: >-
              States.Array(States.Format('export RUN_DATE={}', $.run_date), 'bash spot_backtest.sh')
        End: true
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.script import DATE
from shim.asl.subject import Subject, lacking


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each path to the date that one way leaves empty."""
    for lack in lacking(subject):
        if DATE.fullmatch(lack.name):
            way = " → ".join(lack.way)
            why = f"on the way {way} the date is {lack.how}"
            yield Hit(lack.state, lack.text, why)
