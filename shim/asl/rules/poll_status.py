"""ASL402 poll-status: a status of an SSM invocation that has no route, or the wrong one.

Why: Delayed was treated as a failure although the command was about to run (I27). SSM documents
Pending, InProgress, Delayed, Success, Cancelled, TimedOut, Failed and Cancelling.

Fix: lead Pending, InProgress and Delayed (and Cancelling) back to the poll, Success on, the others
to the failure handler.

Silent: no Choice after the poll is decided by the status (a Lambda function may look at it, or
JSONata), what follows asks anew with a command that runs no stage, or the poll is not of
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
          - ErrorEquals: [States.ALL]
            MaxAttempts: 5
        Next: Status
      Status:
        Type: Choice
        Choices:
          - {Variable: $.poll.Status, StringEquals: Success, Next: Done}
          - {Variable: $.poll.Status, StringEquals: Pending, Next: Pause}
          - {Variable: $.poll.Status, StringEquals: InProgress, Next: Pause}
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
          - ErrorEquals: [States.ALL]
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
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.after import After
from shim.asl.graph import Node
from shim.asl.rules import Hit
from shim.asl.subject import Subject

# docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html, Status
WAITING = ("Pending", "InProgress", "Delayed")
ENDED = ("Success", "Failed", "TimedOut", "Cancelled")


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each poll and each status that goes wrong."""
    for node in subject.nodes:
        if node.polls and subject.trace.at(node.path):
            statuses = (*WAITING, "Cancelling", *ENDED)
            afters = {status: subject.after(node.path, status) for status in statuses}
            if len({frozenset(after.reached) for after in afters.values()}) > 1:
                yield from _hits(subject, node, afters)


def _hits(subject: Subject, node: Node, afters: dict[str, After]) -> Iterator[Hit]:
    for status, after in afters.items():
        if after.stuck:
            yield Hit(after.stuck, status, "no rule of this Choice holds then: the execution fails")
        elif status in WAITING and _left(subject, node, after):
            yield Hit(node.path, status, "the command is not over, and it is not asked for again")
        elif status in ENDED and _only_waits(subject, node, after):
            yield Hit(node.path, status, "the command is over, and it is asked for again and again")


def _left(subject: Subject, node: Node, after: After) -> bool:
    """Return whether the poll is left, and not to ask anew with a command that runs no stage."""
    probes = {s.path for s in subject.senders if not s.stage} & after.reached.keys()
    return node.path not in after.reached and not probes


def _only_waits(subject: Subject, node: Node, after: After) -> bool:
    """Return whether nothing but the same poll can follow."""
    reached = [subject.graph.nodes[path] for path in after.reached]
    ways_out = [n for n in reached if n.fails or n.ends or n.sends]
    return node.path in after.reached and not ways_out
