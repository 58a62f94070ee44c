"""ASL404 timeout-order: an outer timeout that ends before an inner one.

Why: The state machine then gives up while the command still runs on the instance, unwatched, and
the next attempt meets it (I28).

Fix: make the outer budget larger: TimeoutSeconds of the definition > TimeoutSeconds +
executionTimeout of a command.

Silent: one of the values comes from the input or a result, or is not set.

Bad:
    StartAt: Send
    TimeoutSeconds: 14400
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

DELIVERY = 3600  # when TimeoutSeconds is not set


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each command that may outlive what waits for it."""
    outer = subject.definition.get("TimeoutSeconds")
    for path, budget in budgets(subject):
        if not isinstance(budget.execution, str) or not budget.execution.isdigit():
            continue
        execution = int(budget.execution)
        delivery = budget.delivery if isinstance(budget.delivery, int) else 0
        whole = execution + delivery
        if isinstance(outer, int) and outer <= whole:
            text = f"TimeoutSeconds {outer} of the definition"
            why = f"a command of this state may last {delivery} + {execution} seconds"
            yield Hit(path, text, why)
        node = subject.graph.nodes[path]
        own = node.state.get("TimeoutSeconds")
        waits = node.resource.endswith(".waitForTaskToken")
        if waits and isinstance(own, int) and own <= execution:
            why = f"the command may run for {execution} seconds"
            yield Hit(path, f"TimeoutSeconds {own} of the state", why)
    for node in subject.nodes:
        own, beat = node.state.get("TimeoutSeconds"), node.state.get("HeartbeatSeconds")
        if isinstance(own, int) and isinstance(beat, int) and beat >= own:
            why = "a heartbeat must be smaller than the timeout of its state"
            yield Hit(node.path, f"HeartbeatSeconds {beat}, TimeoutSeconds {own}", why)
