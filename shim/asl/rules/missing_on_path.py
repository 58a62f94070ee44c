"""ASL305 missing-on-path: a state reads a field that one way to it does not carry.

Why: The failure handler itself failed, because $.error or the topic was not there on one of the
ways to it; nobody was told of the failure (I30).

Fix: set the field on each way (a Pass before the handler; ResultPath in each Catch), or read the
context object.

Silent: only the execution's input can hold the field, and no Catch writes it; or the field is in
the result of a Lambda function or an activity.

Bad:
    StartAt: Work
    States:
      Work:
        Type: Task
        Resource: arn:aws:states:::lambda:invoke
        Parameters: {FunctionName: work}
        ResultPath: null
        Catch:
          - ErrorEquals: [States.ALL]
            ResultPath: $.error
            Next: Tell
        Next: Check
      Check:
        Type: Choice
        Choices:
          - {Variable: $.ready, BooleanEquals: true, Next: Done}
        Default: Tell
      Tell:
        Type: Task
        Resource: arn:aws:states:::sns:publish
        Parameters:
          TopicArn: arn:aws:sns:eu-west-1:123456789012:runs
          Message.$: $.error.Cause
        Next: Failed
      Failed:
        Type: Fail
      Done:
        Type: Succeed

Good:
    StartAt: Work
    States:
      Work:
        Type: Task
        Resource: arn:aws:states:::lambda:invoke
        Parameters: {FunctionName: work}
        ResultPath: null
        Catch:
          - ErrorEquals: [States.ALL]
            ResultPath: $.error
            Next: Tell
        Next: Check
      Check:
        Type: Choice
        Choices:
          - {Variable: $.ready, BooleanEquals: true, Next: Done}
        Default: NotReady
      NotReady:
        Type: Pass
        Result: {Error: NotReady, Cause: the input says that it is not ready}
        ResultPath: $.error
        Next: Tell
      Tell:
        Type: Task
        Resource: arn:aws:states:::sns:publish
        Parameters:
          TopicArn: arn:aws:sns:eu-west-1:123456789012:runs
          Message.$: $.error.Cause
        Next: Failed
      Failed:
        Type: Fail
      Done:
        Type: Succeed
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.rules import Hit
from shim.asl.script import DATE
from shim.asl.subject import Subject, lacking


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each path that one way leaves empty; the run date has a rule of its own."""
    for lack in lacking(subject):
        kind = subject.graph.nodes[lack.state].kind
        gate = kind == "Choice" and "skip" in lack.text.lower()
        if not DATE.fullmatch(lack.name) and not gate:
            way = " → ".join(lack.way)
            why = f"on the way {way} the field is {lack.how}"
            yield Hit(lack.state, lack.text, why)
