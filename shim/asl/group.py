"""The states of one stage: skip it or send its command, follow it to its end, say why it failed."""

from __future__ import annotations

import math

from shim.asl.states import (
    CANCEL_COMMAND,
    CANCEL_RETRY,
    DETAILS,
    ENDED,
    GET_INVOCATION,
    POLL_RETRY,
    RUNNING,
    SEND_COMMAND,
    SEND_RETRY,
    State,
    choice,
    equals,
    is_true,
    literals,
    passes,
    task,
    text,
    wait,
)
from shim.asl.table import Row, StateMachine

AGAIN = 75  # reclaimed, no capacity, or busy: the same command with the same date, later
SLACK = 300  # seconds: SSM notices the end of its own timeouts before the polls run out


def polls(row: Row, machine: StateMachine) -> int:
    """Return how often a command is asked for: longer than SSM delivers and runs it (I28)."""
    return math.ceil((machine.delivery + row.execution_timeout + SLACK) / machine.poll)


def commands(row: Row, machine: StateMachine) -> str:
    """Return the call that makes the lines SSM runs.

    The lines work under any sh. The execution's name may hold quotes and parentheses, so it
    travels in base64, which no shell can misread, in a here-document: a pipe would hide a failure.
    Backquotes, and not $( and ), because one interpreter counts parentheses within literals.
    """
    launch = text(f"{row.launch}{{}}", "$.mode.suffix") if machine.dry_run else text(row.launch)
    return literals(
        text("set -e"),
        *(text(line) for line in machine.before),
        text("EXECUTION_ID=`base64 -d <<NAME"),
        "States.Base64Encode($$.Execution.Name)",
        text("NAME"),
        text("`"),
        text("export EXECUTION_ID"),
        text("export RUN_DATE={}", "$.run_date"),
        launch,
    )


def stage_states(
    row: Row, machine: StateMachine, following: str, handler: str | None
) -> dict[str, State]:
    """Return the states of one stage, its first one first.

    `following` is where a stage that was skipped or succeeded leads. `handler` is where a failed
    one leads; None in a branch, which ends there and never fails, so that no other branch is
    aborted with its command running.
    """
    stage, name = row.stage.name, row.stage.state
    gate, prepare, waiting, poll, status, count, backoff, again, ended, overdue, cancel, failed = (
        f"{name}{end}"
        for end in ("Gate", "Prepare", "Wait", "Poll", "Status", "Count", "Backoff", "Again",
                    "Ended", "Overdue", "Cancel", "Failed")
    )  # fmt: skip
    invocation = {"CommandId.$": "$.command.id", "InstanceId.$": "$.ec2_instance_id"}
    limit = polls(row, machine)
    return {
        gate: choice(
            f"Skips {stage}, and nothing else, if {row.skip} is true; missing is false.",
            [{**is_true(f"$.{row.skip}"), "Next": following}],
            prepare,
        ),
        prepare: passes(
            "Counts from the start: tries, polls, and the seconds before the next try.",
            name,
            Result={"tries": 1, "polls": 0, "backoff": machine.backoff},
            ResultPath="$.work",
        ),
        name: task(
            f"Sends the command of {stage}, with the one date right before the launch line.",
            SEND_COMMAND,
            {
                "DocumentName": "AWS-RunShellScript",
                "InstanceIds.$": "States.Array($.ec2_instance_id)",
                "Comment.$": "$$.Execution.Name",
                "TimeoutSeconds": machine.delivery,
                "Parameters": {
                    "commands.$": commands(row, machine),
                    "executionTimeout": [str(row.execution_timeout)],
                },
            },
            waiting,
            SEND_RETRY,
            (failed, "$.error"),
            ResultSelector={"id.$": "$.Command.CommandId"},
            ResultPath="$.command",
        ),
        waiting: wait("Leaves the command its time.", poll, Seconds=machine.poll),
        poll: task(
            "Asks for the command; an invocation is unknown in its first seconds.",
            GET_INVOCATION,
            invocation,
            status,
            POLL_RETRY,
            (cancel, "$.error"),
            ResultSelector={
                "Status.$": "$.Status",
                "StatusDetails.$": "$.StatusDetails",
                "ResponseCode.$": "$.ResponseCode",
            },
            ResultPath="$.result",
        ),
        status: choice(
            "Every status of SSM has its way; one that SSM does not document is overdue.",
            [
                {**equals("$.result.Status", "Success"), "Next": following},
                {
                    "And": [
                        equals("$.result.Status", "Failed"),
                        equals("$.result.ResponseCode", AGAIN),
                        {"Variable": "$.work.tries", "NumericLessThan": machine.tries},
                    ],
                    "Next": backoff,
                },
                {
                    "Or": [
                        *(equals("$.result.Status", status) for status in ENDED),
                        *(equals("$.result.StatusDetails", detail) for detail in DETAILS),
                    ],
                    "Next": ended,
                },
                {
                    "And": [
                        {"Or": [equals("$.result.Status", status) for status in RUNNING]},
                        {"Variable": "$.work.polls", "NumericLessThan": limit},
                    ],
                    "Next": count,
                },
            ],
            overdue,
        ),
        count: passes(
            f"Counts the polls; more than {limit} would be longer than SSM lets it run.",
            waiting,
            Parameters={
                "tries.$": "$.work.tries",
                "polls.$": "States.MathAdd($.work.polls, 1)",
                "backoff.$": "$.work.backoff",
            },
            ResultPath="$.work",
        ),
        backoff: wait(
            f"Exit {AGAIN}: reclaimed, no capacity, or busy; waits before it is sent again.",
            again,
            SecondsPath="$.work.backoff",
        ),
        again: passes(
            "The next try: the same command and date, and twice the wait before another.",
            name,
            Parameters={
                "tries.$": "States.MathAdd($.work.tries, 1)",
                "polls": 0,
                "backoff.$": "States.MathAdd($.work.backoff, $.work.backoff)",
            },
            ResultPath="$.work",
        ),
        ended: passes(
            "Says how the command ended, in the form of an error that was caught.",
            failed,
            Parameters={
                "Error.$": "$.result.StatusDetails",
                "Cause.$": text(
                    "SSM command {} on {} ended as {} with exit code {} at try {}",
                    "$.command.id",
                    "$.ec2_instance_id",
                    "$.result.Status",
                    "$.result.ResponseCode",
                    "$.work.tries",
                ),
            },
            ResultPath="$.error",
        ),
        overdue: passes(
            "Says that the command did not end in its time, or has a status nobody knows.",
            cancel,
            Parameters={
                "Error": "Overdue",
                "Cause.$": text(
                    "SSM command {} on {} is {} after {} polls",
                    "$.command.id",
                    "$.ec2_instance_id",
                    "$.result.Status",
                    "$.work.polls",
                ),
            },
            ResultPath="$.error",
        ),
        cancel: task(
            "Cancels the command, which may still run; what was wrong with it stays the error.",
            CANCEL_COMMAND,
            {
                "CommandId.$": "$.command.id",
                "InstanceIds.$": "States.Array($.ec2_instance_id)",
            },
            failed,
            CANCEL_RETRY,
            (failed, None),
            ResultPath=None,
        ),
        failed: _failed(row, handler),
    }


def _failed(row: Row, handler: str | None) -> State:
    stage = row.stage.name
    if handler is None:
        return passes(
            f"Ends the branch of {stage}, and tells what was wrong with it.",
            None,
            Parameters={
                "failed": True,
                "cause.$": text(f"{stage} failed: {{}}, {{}}.", "$.error.Error", "$.error.Cause"),
            },
        )
    return passes(
        f"Gathers what the handler tells about {stage}.",
        handler,
        Parameters={"stage": stage, "error.$": "$.error.Error", "cause.$": "$.error.Cause"},
        ResultPath="$.failure",
    )


def parallel_states(
    step: tuple[Row, ...], machine: StateMachine, name: str, following: str, handler: str
) -> dict[str, State]:
    """Return stages that run at once. A failed one lets the others end, then nothing else runs."""
    stages = " and ".join(row.stage.name for row in step)
    status, ended, broken = (f"{name}{end}" for end in ("Status", "Ended", "Broken"))
    causes = [f"$.branches[{number}].cause" for number in range(len(step))]
    rules = [equals(f"$.branches[{number}].failed", True) for number in range(len(step))]
    return {
        name: {
            "Type": "Parallel",
            "Comment": f"{stages}, at once; the root with the run date is kept beside the result.",
            "Branches": [_branch(row, machine) for row in step],
            "ResultPath": "$.branches",
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": broken}],
            "Next": status,
        },
        status: choice(
            "One that failed stops everything after it.",
            [{"Or": rules, "Next": ended}],
            following,
        ),
        ended: passes(
            "Gathers what the handler tells about all of them.",
            handler,
            Parameters={
                "stage": stages,
                "error": "StageFailed",
                "cause.$": text(" ".join("{}" for _ in causes), *causes),
            },
            ResultPath="$.failure",
        ),
        broken: passes(
            "Gathers what the handler tells about an error of no single stage.",
            handler,
            Parameters={"stage": stages, "error.$": "$.error.Error", "cause.$": "$.error.Cause"},
            ResultPath="$.failure",
        ),
    }


def _branch(row: Row, machine: StateMachine) -> State:
    done = f"{row.stage.state}Done"
    states = stage_states(row, machine, done, None)
    states[done] = passes(
        "Ends the branch.",
        None,
        Result={"failed": False, "cause": f"{row.stage.name} did not fail."},
    )
    return {"StartAt": next(iter(states)), "States": states}
