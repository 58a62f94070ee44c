"""Executions of the built definitions, for the tests that run them; `lab` is their engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.lab.stepfunctions import INPUT, Engine, Execution
from tests.machines import OURS, WEEKLY, built, read

STAGES = ("backtest", "parity", "evaluator")
EIGHT = tuple(row["name"] for row in read(WEEKLY)["stage"])
DAY = "2026-05-17"
GIVEN = {**INPUT, "run_date": DAY}
# With a stage of 30 s: three polls, each after 300 ms here, until it is overdue.
SOON: dict[str, Any] = {"delivery": "30s", "poll": "5m"}


def definition(lab: Engine, path: Path = OURS, **section: Any) -> str:
    """Return a definition whose scripts work in the lab's folder instead of the instance's."""
    return json.dumps(document(lab, path, **section))


def document(lab: Engine, path: Path = OURS, **section: Any) -> dict[str, Any]:
    """Return the same as data; the section of the table changed as it says."""
    for name in ("weekly.env", "spot-backtest.env"):
        (lab.folder / name).write_text("RUN_DATE=1999-01-01\n")
    before = [
        f"cd {lab.folder}" if line.startswith("cd ") else line.replace("/etc/", f"{lab.folder}/")
        for line in read(path)["state_machine"]["before"]
    ]
    stage = {"timeout": 30} if section == SOON else {}
    return built(path, {"before": before, **section}, **stage)


def stages(execution: Execution) -> list[str]:
    """Return the stages whose command was sent, in order."""
    return [str(call["slug"]) for call in execution.calls if call["action"] == "sendCommand"]


def ends(lab: Engine, arns: Mapping[Any, str]) -> Iterator[tuple[Any, Execution]]:
    """Return executions that run side by side, each when it has ended."""
    for key, arn in arns.items():
        yield key, lab.end(arn)


def failed_well(execution: Execution, stage: str) -> None:
    """I16, I30: the handler was reached, could read all, told of the stage, and nothing ran on."""
    assert (execution.status, execution.states[-2:]) == (
        "FAILED",
        ["HandleFailure", "PipelineFailed"],
    )
    (message,) = set(execution.messages)
    assert message[0] == "Pipeline failed"
    assert f"Execution {execution.name} of run date {DAY} failed at {stage}: " in message[1]
    assert stage in execution.cause
    assert stages(execution)[-1] == stage
    assert "NotifyComplete" not in execution.states
