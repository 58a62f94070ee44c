"""ASL401 poll-retry: a poll of SSM that does not retry what passes by itself.

Why: An invocation does not exist in the first seconds after it was sent, and the error comes with
and without the suffix `Exception` (I26); a throttled poll killed a run whose command was well
(I27).

Fix: retry Ssm.InvocationDoesNotExist, Ssm.InvocationDoesNotExistException and
Ssm.ThrottlingException with backoff, or States.TaskFailed.

Silent: a Catch of the error leads back to the poll, or the poll is not of
aws-sdk:ssm:getCommandInvocation.

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
              - bash spot_backtest.sh
        ResultPath: $.sent
        Next: Poll
      Poll:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:getCommandInvocation
        Parameters:
          CommandId.$: $.sent.Command.CommandId
          InstanceId: i-0123456789abcdef0
        ResultPath: $.poll
        Retry:
          - ErrorEquals: [Ssm.InvocationDoesNotExistException]
            MaxAttempts: 5
        Next: Status
      Status:
        Type: Choice
        Choices:
          - {Variable: $.poll.Status, StringEquals: Success, Next: Done}
          - {Variable: $.poll.Status, StringEquals: Pending, Next: Pause}
          - {Variable: $.poll.Status, StringEquals: InProgress, Next: Pause}
          - {Variable: $.poll.Status, StringEquals: Delayed, Next: Pause}
          - {Variable: $.poll.Status, StringEquals: Cancelling, Next: Pause}
        Default: Failed
      Pause:
        Type: Wait
        Seconds: 30
        Next: Poll
      Failed:
        Type: Fail
      Done:
        Type: Succeed

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
              - bash spot_backtest.sh
        ResultPath: $.sent
        Next: Poll
      Poll:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:getCommandInvocation
        Parameters:
          CommandId.$: $.sent.Command.CommandId
          InstanceId: i-0123456789abcdef0
        ResultPath: $.poll
        Retry:
          - ErrorEquals:
              - Ssm.InvocationDoesNotExist
              - Ssm.InvocationDoesNotExistException
              - Ssm.ThrottlingException
            IntervalSeconds: 5
            MaxAttempts: 5
            BackoffRate: 2
        Next: Status
      Status:
        Type: Choice
        Choices:
          - {Variable: $.poll.Status, StringEquals: Success, Next: Done}
          - {Variable: $.poll.Status, StringEquals: Pending, Next: Pause}
          - {Variable: $.poll.Status, StringEquals: InProgress, Next: Pause}
          - {Variable: $.poll.Status, StringEquals: Delayed, Next: Pause}
          - {Variable: $.poll.Status, StringEquals: Cancelling, Next: Pause}
        Default: Failed
      Pause:
        Type: Wait
        Seconds: 30
        Next: Poll
      Failed:
        Type: Fail
      Done:
        Type: Succeed
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.graph import Node, catchers
from shim.asl.rules import Hit
from shim.asl.subject import Subject
from shim.asl.walk import State, mapping, sequence

# docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html and, for
# throttling, CommonErrors.html beside it; how Step Functions names errors:
# docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
NEEDED = (
    ("Ssm.InvocationDoesNotExist",),
    ("Ssm.InvocationDoesNotExistException",),
    ("Ssm.ThrottlingException", "Ssm.Throttling", "Ssm.SsmException", "ThrottlingException"),
)
ALL = ("States.ALL", "States.TaskFailed")


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each poll, with the errors that it lacks."""
    for node in subject.nodes:
        if node.polls:
            lacking = [names[0] for names in NEEDED if not _handled(subject, node, names)]
            if lacking:
                yield Hit(node.path, ", ".join(lacking), WHY)


WHY = "the error passes by itself, and one of it ends the stage although its command runs"


def _handled(subject: Subject, node: Node, names: tuple[str, ...]) -> bool:
    for retrier in map(mapping, sequence(node.state.get("Retry"))):
        if _matches(retrier, names):
            return bool(retrier.get("MaxAttempts", 3))
    for catcher in catchers(node.state):
        if _matches(catcher, names):
            target = subject.graph.target(node, catcher.get("Next"))
            return target is not None and node.path in subject.graph.reach([target])
    return False


def _matches(handler: State, names: tuple[str, ...]) -> bool:
    return not {*names, *ALL}.isdisjoint(map(str, sequence(handler.get("ErrorEquals"))))
