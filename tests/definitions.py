"""State machines written by hand, for the tests of what a definition sends."""

from __future__ import annotations

from typing import Any

SEND = "arn:aws:states:::aws-sdk:ssm:sendCommand"
POLL = "arn:aws:states:::aws-sdk:ssm:getCommandInvocation"
START = "2026-05-17T23:59:59.000Z"
"""An execution's start, a second before midnight."""

TODAY = "States.ArrayGetItem(States.StringSplit($$.Execution.StartTime,'T'),0)"
RUN = "States.Array(States.Format('run {}',$.run_date))"
RUN_FLAG = "States.Array(States.Format('run {}{}',$.run_date,$.flag))"
EXPORT = "States.Array(States.Format('export RUN_DATE={}',$.run_date),'run')"
ITEM = "States.Array($$.Map.Item.Value,States.Format('{}',$$.Map.Item.Index))"
CANCEL = "States.Array(States.Format('{} {}',$.one.Command.CommandId,$.error.Cause))"


def machine(**states: Any) -> dict[str, Any]:
    """Return the definition that has these states and starts at the first."""
    return {"StartAt": next(iter(states)), "States": states}


def send(commands: object, key: str = "commands.$", **more: Any) -> dict[str, Any]:
    """Return a Task that sends commands and ends its machine, with fields added or replaced."""
    parameters = {"DocumentName": "AWS-RunShellScript", "Parameters": {key: commands}}
    return {"Type": "Task", "Resource": SEND, "Parameters": parameters, "End": True, **more}


def weekly() -> dict[str, Any]:
    """Return a pipeline: a stage that can be skipped and is polled, a Parallel, a Map, a last one.

    The input may set run_date, dry, skip_one and names. No state is called as a word of the States
    Language is, so that a test can rename them all in the text.
    """
    return machine(**_beginning(), **_one(), **_others())


def _beginning() -> dict[str, Any]:
    """Return the merge of the defaults with the input, and the choice of a constant."""
    defaults = {"run_date.$": TODAY, "dry": False, "skip_one": False, "names": ["a"]}
    return {
        "Defaults": {
            **{"Type": "Pass", "Next": "Merge"},
            "Parameters": {"defaults": defaults, "input.$": "$$.Execution.Input"},
        },
        "Merge": {
            **{"Type": "Pass", "OutputPath": "$.merged", "Next": "IsDry"},
            "Parameters": {"merged.$": "States.JsonMerge($.defaults,$.input,false)"},
        },
        "IsDry": _choice("DryRun", "RealRun", Variable="$.dry", BooleanEquals=True),
        "DryRun": _flag(" --dry-run"),
        "RealRun": _flag(""),
    }


def _one() -> dict[str, Any]:
    """Return a stage with its gate and its loop; when a poll fails, Cancel is next."""
    ids = {"CommandId.$": "$.one.Command.CommandId", "InstanceId": "i-0"}
    catch = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Cancel"}
    return {
        "SkipOne": _choice("Both", "One", Variable="$.skip_one", BooleanEquals=True),
        "One": send(RUN_FLAG, ResultPath="$.one", End=False, Next="Poll"),
        "Poll": {
            **{"Type": "Task", "Resource": POLL, "Parameters": ids, "Catch": [catch]},
            **{"ResultPath": "$.poll", "Next": "IsDone"},
        },
        "IsDone": _choice("Both", "Pause", Variable="$.poll.Status", StringEquals="Success"),
        "Pause": {"Type": "Wait", "Seconds": 30, "Next": "Poll"},
    }


def _others() -> dict[str, Any]:
    """Return what runs whether or not the first stage is skipped, and Cancel."""
    branches = [machine(Left=send(EXPORT)), machine(Right=send(EXPORT))]
    each = {"ItemsPath": "$.names", "ItemProcessor": machine(Item=send(ITEM))}
    return {
        "Both": {"Type": "Parallel", "Branches": branches, "ResultPath": None, "Next": "Each"},
        "Each": {"Type": "Map", **each, "ResultPath": None, "Next": "Last"},
        "Last": send(RUN),
        "Cancel": send(CANCEL),
    }


def _choice(then: str, default: str, **rule: Any) -> dict[str, Any]:
    return {"Type": "Choice", "Choices": [{**rule, "Next": then}], "Default": default}


def _flag(text: str) -> dict[str, Any]:
    return {"Type": "Pass", "Result": text, "ResultPath": "$.flag", "Next": "SkipOne"}
