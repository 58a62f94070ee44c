"""ASL304 failure-continues: after a failed stage a later one is sent.

Why: The evaluator promoted settings from a backtest that had failed, because the failure had been
turned into a warning (I16).

Fix: route Failed, TimedOut, Cancelled and every Catch of a stage to the failure handler and a Fail
state.

Silent: the states between decide on what is not in the definition's text, the poll does not name a
command that a state of it sent, or the later command launches no stage (a clean-up).

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
          - {Variable: $.poll.Status, StringEquals: Success, Next: Parity}
          - {Variable: $.poll.Status, StringEquals: Failed, Next: Parity}
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
      Parity:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - export RUN_DATE=2026-05-17
              - bash spot_backtest.sh
        Next: Done
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
          - {Variable: $.poll.Status, StringEquals: Success, Next: Parity}
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
      Parity:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - export RUN_DATE=2026-05-17
              - bash spot_backtest.sh
        Next: Done
      Done:
        Type: Succeed
"""

from __future__ import annotations

from collections.abc import Iterator

from shim.asl.after import After
from shim.asl.graph import Node
from shim.asl.rules import Hit
from shim.asl.shape import Opaque
from shim.asl.subject import Subject, request

ENDED = ("Failed", "TimedOut", "Cancelled")
OWNER = "|result.Command.CommandId"


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each poll whose failure leads on, and each Catch that does."""
    stages = {sender.path for sender in subject.senders if sender.stage}
    for node in subject.nodes:
        owner = _owner(subject, node) if node.polls else None
        if owner is None:
            continue
        onward = _sent(subject.after(node.path, "Success"), stages - {owner})
        for status in ENDED:
            after = subject.after(node.path, status)
            both = [path for path in _sent(after, stages - {owner}) if path in onward]
            if both:
                why = f"{both[0]} is sent although the stage before it ended as {status}"
                yield Hit(node.path, " → ".join(after.reached[both[0]]), why)
                break
        for failing in dict.fromkeys((owner, node.path)):
            after = subject.after_error(failing)
            both = [path for path in _sent(after, stages - {owner}) if path in onward]
            if both:
                why = f"{both[0]} is sent although {failing} failed and its error was caught"
                yield Hit(failing, " → ".join(after.reached[both[0]]), why)


def _sent(after: After, stages: set[str]) -> list[str]:
    return [path for path in after.reached if path in stages]


def _owner(subject: Subject, node: Node) -> str | None:
    """Return the state that sent the command which a poll asks for; None unless it is one."""
    expression = request(node).get("CommandId.$")
    found: set[str] = set()
    for evaluator in subject.trace.evaluators(node.path):
        shape = evaluator.expression(expression)
        if not isinstance(shape, Opaque) or not shape.id.endswith(OWNER):
            return None
        found.add(shape.id.removesuffix(OWNER))
    return found.pop() if len(found) == 1 else None
