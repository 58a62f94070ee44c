"""What stands before the stages, refuses a wrong input there, and tells afterwards how it ended."""

from __future__ import annotations

from shim.asl.states import (
    PUBLISH,
    PUBLISH_RETRY,
    State,
    choice,
    equals,
    fails,
    is_true,
    passes,
    task,
    text,
)
from shim.asl.table import StateMachine

HANDLER = "HandleFailure"
DONE = "NotifyComplete"
NEEDED = ("ec2_instance_id", "sns_topic_arn")


def beginning(machine: StateMachine, following: str) -> dict[str, State]:
    """Return the states that make the input whole and refuse a wrong one before anything runs."""
    states = {
        "InitializeInput": passes(
            "The defaults, and the date of StartTime, which is one for the whole execution.",
            "MergeInput",
            Parameters={
                "defaults": {
                    **machine.defaults,
                    "run_date.$": (
                        "States.ArrayGetItem(States.StringSplit($$.Execution.StartTime, 'T'), 0)"
                    ),
                },
                "input.$": "$$.Execution.Input",
            },
        ),
        "MergeInput": passes(
            "The input wins over the defaults: what stands last in JsonMerge does.",
            "IsRunDateText",
            Parameters={"merged.$": "States.JsonMerge($.defaults, $.input, false)"},
            OutputPath="$.merged",
        ),
        "IsRunDateText": choice(
            "A run date by hand may be anything; only a text can be a date.",
            [{"Variable": "$.run_date", "IsString": True, "Next": "FormatRunDate"}],
            "InvalidRunDate",
        ),
        "FormatRunDate": passes(
            "Makes a timestamp of the date, because ASL can check one.",
            "CheckRunDate",
            Parameters={"midnight.$": text("{}T00:00:00Z", "$.run_date")},
            ResultPath="$.check",
        ),
        "CheckRunDate": choice(
            "Nothing but a date passes: this text reaches a shell. Week dates and 20260517 do not.",
            [
                {
                    "And": [
                        {"Variable": "$.check.midnight", "IsTimestamp": True},
                        {"Variable": "$.run_date", "StringMatches": "*-*-*"},
                        {"Not": {"Variable": "$.run_date", "StringMatches": "*W*"}},
                    ],
                    "Next": "CheckInput",
                }
            ],
            "InvalidRunDate",
        ),
        "CheckInput": choice(
            "What every later path reads is there, and every switch that is there is a boolean.",
            [
                {
                    "Or": [
                        *(rule for name in NEEDED for rule in _missing(f"$.{name}")),
                        *(_no_switch(f"$.{name}") for name in _switches(machine)),
                    ],
                    "Next": "InvalidInput",
                }
            ],
            "ChooseMode" if machine.dry_run else following,
        ),
        "InvalidRunDate": fails(
            "Nothing was started.",
            Error="InvalidRunDate",
            CausePath=(
                "States.Format('run_date of the input is {}; give a date as 2026-05-17, or none',"
                " States.JsonToString($.run_date))"
            ),
        ),
        "InvalidInput": fails(
            "Nothing was started.",
            Error="InvalidInput",
            Cause=(
                f"{' and '.join(NEEDED)} must be texts, in the input or the defaults of the table;"
                f" {', '.join(_switches(machine))} must be true or false where they are given"
            ),
        ),
    }
    if machine.dry_run:
        states |= _modes(machine.dry_run, following)
    return states


def _modes(suffix: str, following: str) -> dict[str, State]:
    """Return the states that choose between two constants, so that no input is pasted (I39)."""

    def mode(comment: str, value: str) -> State:
        return passes(comment, following, Result={"suffix": value}, ResultPath="$.mode")

    return {
        "ChooseMode": choice(
            "A dry pass only if dry_run is true; the input chooses, it gives no text.",
            [{**is_true("$.dry_run"), "Next": "DryPass"}],
            "RealPass",
        ),
        "DryPass": mode("What every launch line ends with in a dry pass.", f" {suffix}"),
        "RealPass": mode("What every launch line ends with otherwise.", ""),
    }


def _switches(machine: StateMachine) -> list[str]:
    return ["dry_run"] * bool(machine.dry_run) + [row.skip for row in machine.rows]


def _missing(variable: str) -> list[State]:
    return [
        {"Variable": variable, "IsPresent": False},
        {"Not": {"Variable": variable, "IsString": True}},
        equals(variable, ""),
    ]


def _no_switch(variable: str) -> State:
    return {
        "And": [
            {"Variable": variable, "IsPresent": True},
            {"Not": {"Variable": variable, "IsBoolean": True}},
        ]
    }


def ending() -> dict[str, State]:
    """Return the states that tell how it ended."""
    return {
        DONE: task(
            "Tells that every stage ended well; a failure to tell does not undo that.",
            PUBLISH,
            {
                "TopicArn.$": "$.sns_topic_arn",
                "Subject": "Pipeline complete",
                "Message.$": text(
                    "Execution {} of run date {} is complete.", "$$.Execution.Name", "$.run_date"
                ),
            },
            "Complete",
            PUBLISH_RETRY,
            ("Complete", None),
            ResultPath=None,
        ),
        "Complete": {"Type": "Succeed", "Comment": "Every stage that was not skipped succeeded."},
        HANDLER: task(
            "Tells what failed; every path to it carries $.failure, and a failure to tell is none.",
            PUBLISH,
            {
                "TopicArn.$": "$.sns_topic_arn",
                "Subject": "Pipeline failed",
                "Message.$": text(
                    "Execution {} of run date {} failed at {}: {}: {}",
                    "$$.Execution.Name",
                    "$.run_date",
                    "$.failure.stage",
                    "$.failure.error",
                    "$.failure.cause",
                ),
            },
            "PipelineFailed",
            PUBLISH_RETRY,
            ("PipelineFailed", None),
            ResultPath=None,
        ),
        "PipelineFailed": fails(
            "Ends the execution with the error of the stage.",
            ErrorPath="$.failure.error",
            CausePath=text("{}: {}", "$.failure.stage", "$.failure.cause"),
        ),
    }
