"""The built definitions executed: how a command can end, and what the execution makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.children import alive, until
from tests.executions import DAY, GIVEN, SOON, STAGES, definition, ends, failed_well, stages
from tests.lab.stepfunctions import INPUT, Engine
from tests.machines import WEEKLY

RUNNING = ("Pending", "InProgress", "Delayed", "Cancelling")
ENDED: list[dict[str, Any]] = [
    *({"Status": status} for status in ("Cancelled", "TimedOut", "Failed")),
    *(
        {"Status": "TimedOut", "StatusDetails": details}
        for details in ("DeliveryTimedOut", "Delivery Timed Out", "ExecutionTimedOut")
    ),
    *(
        {"Status": "Failed", "StatusDetails": details}
        for details in ("Undeliverable", "Terminated", "InvalidPlatform", "AccessDenied")
    ),
    {"Status": "Failed", "StatusDetails": "RateExceeded", "ResponseCode": -1},
    {"Status": "Terminated"},
]


def test_every_status_of_ssm_has_its_way(lab: Engine) -> None:
    """I27: those that run are waited for, those that ended stop the pipeline."""
    text = definition(lab)
    arns = {}
    for status in RUNNING:
        answers = [{"Status": status, "ResponseCode": -1}] * 2
        done = {"Status": "Success", "ResponseCode": 0}
        arns[status] = lab.start(text, GIVEN, answers={"parity": [[*answers, done]]})
    for status, found in ends(lab, arns):
        assert found.status == "SUCCEEDED", (status, found)
        assert found.states.count("ParityCount") == 2
        assert stages(found) == list(STAGES)
    arns = {}
    for answer in ENDED:
        given = {"ResponseCode": 1, **answer}
        arns[json.dumps(answer)] = lab.start(text, GIVEN, answers={"parity": [[given]]})
    for _, found in ends(lab, arns):
        failed_well(found, "parity")
        assert "cancelCommand" not in found.actions()


def test_a_status_that_nobody_knows_is_cancelled_and_fails(lab: Engine) -> None:
    """I27: it may still run, so it is not left behind."""
    found = lab.run(
        definition(lab), GIVEN, answers={"backtest": [[{"Status": "Odd", "ResponseCode": -1}]]}
    )
    failed_well(found, "backtest")
    assert found.error == "Overdue"
    assert found.actions().count("cancelCommand") == 1


@pytest.mark.parametrize(
    ("script", "error"),
    [("exit 1", "Failed"), ("exit 124", "Failed"), ("exit 137", "ExecutionTimedOut"),
     ("kill -9 $$", "ExecutionTimedOut"), ("exit 65", "Failed")],
)  # fmt: skip
def test_a_stage_that_fails_stops_all_that_needs_it(lab: Engine, script: str, error: str) -> None:
    """I16, I32: nothing after it is sent, and the execution's error is the stage's."""
    found = lab.run(definition(lab), GIVEN, stages={"parity": script})
    failed_well(found, "parity")
    assert found.error == error
    assert stages(found) == ["backtest", "parity"]


def test_75_is_sent_again_with_the_same_date_and_doubled_waits(lab: Engine) -> None:
    """A stage that was reclaimed twice, then ended well: one date, one name, three commands."""
    count = lab.folder / "reclaimed"
    script = f"echo x >>{count}; [ $(wc -l <{count}) -gt 2 ] || exit 75"
    found = lab.run(definition(lab, tries=4, poll="5m"), INPUT, stages={"parity": script})
    assert found.status == "SUCCEEDED"
    assert stages(found) == ["backtest", *["parity"] * 3, "evaluator"]
    assert len({(ran.run_date, ran.execution_id) for ran in found.ran}) == 1
    waits = [data["work"] for name, data in found.entered if name == "ParityBackoff"]
    assert [(work["tries"], work["backoff"]) for work in waits] == [(1, 300), (2, 600)]
    again = [data["work"] for name, data in found.entered if name == "Parity"]
    assert [work["polls"] for work in again] == [0, 0, 0]


def test_75_for_ever_fails_after_the_tries_of_the_table(lab: Engine) -> None:
    """Bounded: the last one is a failure like any other."""
    text = definition(lab, tries=3, backoff="10s")
    found = lab.run(text, GIVEN, stages={"backtest": "exit 75"})
    failed_well(found, "backtest")
    assert stages(found) == ["backtest"] * 3
    assert "exit code 75 at try 3" in found.cause


def test_a_throttled_poll_does_not_end_the_run(lab: Engine) -> None:
    """I26, I27: nor do a throttled send, an instance that registers late, a shaky SSM."""
    found = lab.run(
        definition(lab),
        GIVEN,
        errors={
            "sendCommand backtest": [("Ssm.SsmException", 2), ("Ssm.ThrottlingException", 2)],
            "sendCommand parity": [
                ("Ssm.InvalidInstanceIdException", 2),
                ("Ssm.InvalidInstanceId", 2),
            ],
            "getCommandInvocation parity": [
                ("Ssm.SsmException", 5),
                ("Ssm.ThrottlingException", 5),
                ("Ssm.Throttling", 5),
                ("Ssm.InvocationDoesNotExist", 4),
                ("Ssm.InvocationDoesNotExistException", 3),
                ("Ssm.InternalServerErrorException", 3),
                ("States.Timeout", 2),
            ],
            "publish": [("SNS.InternalErrorException", 3)],
        },
    )
    assert found.status == "SUCCEEDED", found
    assert [ran.stage for ran in found.ran] == list(STAGES)
    assert "cancelCommand" not in found.actions()


def test_a_command_that_may_have_been_sent_is_not_sent_twice(lab: Engine) -> None:
    """SendCommand has no token: after a lost answer the stage fails instead of running twice."""
    text = definition(lab)
    errors = ("States.Timeout", "Ssm.InternalServerErrorException", "Ssm.SdkClientException")
    arns = {
        error: lab.start(text, GIVEN, errors={"sendCommand parity": [(error, 1)]})
        for error in errors
    }
    for error, found in ends(lab, arns):
        failed_well(found, "parity")
        assert found.error == error
        assert stages(found).count("parity") == 1


REFUSED = "Ssm.AccessDeniedException"


@pytest.mark.slow
def test_the_handler_is_reached_from_every_state_that_can_fail(lab: Engine) -> None:
    """I30: with the stage, the error and its cause, at each stage and for each call."""
    text = definition(lab, **SOON)
    odd = [[{"Status": "Odd", "ResponseCode": -1}]]
    for_ever = [[{"Status": "InProgress", "ResponseCode": -1}]]
    arns = {}
    for stage in STAGES:
        for action in ("sendCommand", "getCommandInvocation"):
            errors = {f"{action} {stage}": [(REFUSED, 99)]}
            arns[stage, action] = lab.start(text, GIVEN, errors=errors)
        errors = {f"cancelCommand {stage}": [(REFUSED, 99)]}
        arns[stage, "cancel"] = lab.start(text, GIVEN, answers={stage: odd}, errors=errors)
        arns[stage, "overdue"] = lab.start(text, GIVEN, answers={stage: for_ever})
        arns[stage, "ended"] = lab.start(text, GIVEN, stages={stage: "exit 1"})
    wanted = {"cancel": "Overdue", "overdue": "Overdue", "ended": "Failed"}
    for (stage, how), found in ends(lab, arns):
        failed_well(found, stage)
        assert found.error == wanted.get(how, REFUSED), (stage, how)
        cancels = found.actions(stage).count("cancelCommand")
        assert bool(cancels) == (how in ("getCommandInvocation", "cancel", "overdue")), (stage, how)
        assert found.actions().count("publish") == 1


def test_a_message_that_cannot_be_sent_changes_no_outcome(lab: Engine) -> None:
    """I30: a failed run fails with the stage's error, a good one stays good."""
    text = definition(lab)
    errors = {"publish": [("SNS.AuthorizationErrorException", 99)]}
    bad = lab.run(text, GIVEN, stages={"parity": "exit 3"}, errors=errors)
    assert (bad.status, bad.error, bad.states[-1]) == ("FAILED", "Failed", "PipelineFailed")
    assert "parity" in bad.cause
    good = lab.run(text, GIVEN, errors=errors)
    assert (good.status, good.states[-1]) == ("SUCCEEDED", "Complete")


@pytest.mark.slow
def test_a_command_that_is_overdue_is_cancelled_and_dies(lab: Engine) -> None:
    """The polls ran out, or the polling was refused: the script does not run on."""
    pids = {name: lab.folder / f"pid-{name}" for name in ("overdue", "refused")}
    text = definition(lab, **SOON)
    scripts = {name: f"echo $$ >{file}; exec sleep 300" for name, file in pids.items()}
    arns = {
        "overdue": lab.start(text, GIVEN, stages={"backtest": scripts["overdue"]}),
        "refused": lab.start(
            text,
            GIVEN,
            stages={"backtest": scripts["refused"]},
            errors={"getCommandInvocation": [("Ssm.InvocationDoesNotExist", 9), (REFUSED, 99)]},
        ),
    }
    for how, found in ends(lab, arns):
        failed_well(found, "backtest")
        assert found.error == ("Overdue" if how == "overdue" else REFUSED)
    for file in pids.values():
        until(lambda file=file: file.exists() and not alive(int(file.read_text())))


def test_a_failed_branch_lets_the_other_end_and_stops_the_rest(lab: Engine) -> None:
    """I16: no command of the other branch is left behind, and the handler is told of both."""
    text = definition(lab, WEEKLY)
    done = lab.folder / "other-branch"
    slow = f"sleep 1; echo done >{done}"
    arns = {
        "exit": lab.start(text, GIVEN, stages={"backtester": "exit 9", "drift-detection": slow}),
        "send": lab.start(text, GIVEN, errors={"sendCommand backtester": [(REFUSED, 9)]}),
        "both": lab.start(
            text, GIVEN, stages={"backtester": "exit 1", "drift-detection": "exit 2"}
        ),
    }
    for how, found in ends(lab, arns):
        assert (found.status, found.error) == ("FAILED", "StageFailed"), how
        assert found.states[-2:] == ["HandleFailure", "PipelineFailed"]
        assert not {"parity", "evaluator"} & set(stages(found))
        assert {"backtester", "drift-detection"} <= set(stages(found))
        assert "backtester failed: " in found.cause
        assert ("drift-detection did not fail." in found.cause) == (how != "both")
        assert ("exit code 2" in found.cause) == (how == "both")
        assert f"of run date {DAY} failed at" in found.messages[0][1]
    assert done.read_text() == "done\n"
