"""ASL303 skip-too-far: skipping one stage also skips a later one.

Why: A stage that was skipped on purpose took later stages with it, which nobody noticed for weeks
(I15).

Fix: let the gate lead to where the skipped stage's success leads: the gate of the next stage.

Silent: the gate has no command of its own before the next gate (then it is a gate of several
stages), or the later stage has no gate of its own (then it may be a part of this one).

Bad:
    StartAt: Defaults
    States:
      Defaults:
        Type: Pass
        Result: {skip_backtest: false, skip_parity: false}
        Next: GateBacktest
      GateBacktest:
        Type: Choice
        Choices:
          - {Variable: $.skip_backtest, BooleanEquals: true, Next: Done}
        Default: Backtest
      Backtest:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - make backtest
        ResultPath: null
        Next: GateParity
      GateParity:
        Type: Choice
        Choices:
          - {Variable: $.skip_parity, BooleanEquals: true, Next: Done}
        Default: Parity
      Parity:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - make parity
        Next: Done
      Done:
        Type: Succeed

Good:
    StartAt: Defaults
    States:
      Defaults:
        Type: Pass
        Result: {skip_backtest: false, skip_parity: false}
        Next: GateBacktest
      GateBacktest:
        Type: Choice
        Choices:
          - {Variable: $.skip_backtest, BooleanEquals: true, Next: GateParity}
        Default: Backtest
      Backtest:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - make backtest
        ResultPath: null
        Next: GateParity
      GateParity:
        Type: Choice
        Choices:
          - {Variable: $.skip_parity, BooleanEquals: true, Next: Done}
        Default: Parity
      Parity:
        Type: Task
        Resource: arn:aws:states:::aws-sdk:ssm:sendCommand
        Parameters:
          InstanceIds: [i-0123456789abcdef0]
          DocumentName: AWS-RunShellScript
          Parameters:
            commands:
              - make parity
        Next: Done
      Done:
        Type: Succeed
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shim.asl.graph import Node
from shim.asl.rules import Hit
from shim.asl.subject import Subject
from shim.asl.walk import mapping, sequence


def check(subject: Subject) -> Iterator[Hit]:
    """Return a hit for each gate that jumps over another one."""
    graph = subject.graph
    gates = {node.path: gate for node in subject.nodes if (gate := _gate(subject, node))}
    for path, (flag, skipped, run) in gates.items():
        others = {other for other, gate in gates.items() if gate[0] != flag}
        own = graph.reach([run], {skipped, path, *others})
        if not any(graph.nodes[state].sends for state in own):
            continue
        passed = graph.reach([run], {skipped, path})
        later = graph.reach([skipped])
        for other in gates:
            if other in others and other in passed and other not in later:
                why = f"with it true the execution goes to {skipped} and never comes to {other}"
                yield Hit(path, flag, why)
                break


def _gate(subject: Subject, node: Node) -> tuple[str, str, str] | None:
    """Return a gate's flag, where a skip leads, and where the stage begins."""
    if node.kind != "Choice" or node.jsonata:
        return None
    run = subject.graph.target(node, node.state.get("Default"))
    rules = [mapping(rule) for rule in sequence(node.state.get("Choices"))]
    if len(rules) != 1 or run is None:
        return None
    flag = _flag(rules[0])
    skipped = subject.graph.target(node, rules[0].get("Next"))
    return (flag, skipped, run) if flag and skipped is not None else None


def _flag(rule: Any) -> str:
    """Return the flag that is true when a rule holds; empty if that is not so plain."""
    parts = [mapping(part) for part in sequence(rule.get("And"))] or [rule]
    flags = [
        str(part.get("Variable"))
        for part in parts
        if part.get("BooleanEquals") is True and "skip" in str(part.get("Variable")).lower()
    ]
    rest = [p for p in parts if "BooleanEquals" not in p and p.get("IsPresent") is not True]
    return flags[0] if len(flags) == 1 and len(parts) - len(rest) >= 1 and not rest else ""
