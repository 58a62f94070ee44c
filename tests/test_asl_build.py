"""The definition that is built from the table: what its text holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shim.asl import build, table
from shim.pipeline import load, parse
from tests.machines import (
    OURS,
    WEEKLY,
    built,
    every_machine,
    every_table,
    read,
    states,
    targets,
    text_of,
)

CALL = re.compile(r"States\.\w+\(")
LITERAL = re.compile(r"'([^']*)'")
EIGHT = (
    *("morning-enrich", "data-weekly", "rag-ingestion", "predictor-training"),
    *("drift-detection", "backtester", "parity", "evaluator"),
)


def sends(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the states that send a command, by name."""
    found = states(definition)
    return {n: s for n, s in found.items() if s.get("Resource", "").endswith(":sendCommand")}


@every_table
def test_the_file_is_what_the_table_says(path: Path) -> None:
    """Built twice it is the same, and the checked-in file is that."""
    assert text_of(path) == build.written(built(path)) == build.written(built(path))
    assert json.loads(text_of(path)) == built(path)


@every_table
def test_no_literal_holds_a_quote_or_a_backslash(path: Path) -> None:
    """I02: so a literal is the same text to ASL, to JSON and to the shell."""
    text = text_of(path)
    assert "\\" not in text
    for line in text.splitlines():
        rest = LITERAL.sub("", line)
        assert "'" not in rest
        for literal in LITERAL.findall(line):
            assert CALL.search(line), f"a quote outside of a call: {line}"
            assert not set(literal) & set("\"'\\")
            assert not set(literal.replace("{}", "")) & set("{}")


@every_table
def test_every_state_says_in_one_line_what_it_is_for(path: Path) -> None:
    """A comment on each, and names that AWS takes."""
    for name, state in states(built(path)).items():
        assert re.fullmatch(r"[^\n]{10,110}\.", state["Comment"]), name
        assert len(name) <= 80


@every_table
def test_every_state_is_reached_and_leads_somewhere(path: Path) -> None:
    """No state is left over, and none is missing; the names are one to a state."""
    definition = built(path)
    names = [name for machine in every_machine(definition) for name in machine["States"]]
    assert len(names) == len(set(names))
    for machine in every_machine(definition):
        reached: set[str] = set()
        open_: list[str] = [machine["StartAt"]]
        while open_:
            name = open_.pop()
            if name not in reached:
                reached.add(name)
                open_ += targets(machine["States"][name])
        assert reached == set(machine["States"])


@every_table
def test_the_outer_timeouts_are_larger_than_the_inner(path: Path) -> None:
    """I28: stage < executionTimeout < polls < execution, all within what AWS takes."""
    definition = built(path)
    machine = table.parse(load(path))
    total = 0
    for row in machine.rows:
        state = sends(definition)[row.stage.state]["Parameters"]
        inner = int(state["Parameters"]["executionTimeout"][0])
        assert 5 <= row.stage.timeout < inner <= 172800
        assert 30 <= state["TimeoutSeconds"] <= 2592000
        rules = states(definition)[f"{row.stage.state}Status"]["Choices"]
        limit = next(
            test["NumericLessThan"]
            for rule in rules
            for test in rule.get("And", ())
            if test.get("Variable") == "$.work.polls"
        )
        budget = limit * machine.poll
        assert inner + state["TimeoutSeconds"] < budget
        total += budget if len(next(s for s in machine.steps if row in s)) == 1 else 0
    assert total * machine.tries < definition["TimeoutSeconds"] <= 31536000
    for name, state in states(definition).items():
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] == 60, name


@every_table
def test_both_names_of_an_unregistered_invocation_are_retried(path: Path) -> None:
    """I26: the error comes with and without `Exception`; throttling waits longer each time."""
    for name, state in states(built(path)).items():
        if not state.get("Resource", "").endswith(":getCommandInvocation"):
            continue
        retried = {error: r for r in state["Retry"] for error in r["ErrorEquals"]}
        for error in ("InvocationDoesNotExist", "Throttling", "InternalServerError"):
            for end in ("", "Exception"):
                assert retried[f"Ssm.{error}{end}"]["MaxAttempts"] >= 10, name
        throttled = retried["Ssm.ThrottlingException"]
        assert throttled is retried["Ssm.SsmException"]
        assert (throttled["BackoffRate"], throttled["JitterStrategy"]) == (2.0, "FULL")


@every_table
def test_every_error_of_a_task_has_a_way(path: Path) -> None:
    """I30: each Task and Parallel catches all, and puts it where the next state reads it."""
    for name, state in states(built(path)).items():
        if state["Type"] in ("Task", "Parallel"):
            (catch,) = state["Catch"]
            assert catch["ErrorEquals"] == ["States.ALL"], name
            assert catch["ResultPath"] in ("$.error", None), name


@every_table
def test_nothing_stamps_a_date_a_second_time(path: Path) -> None:
    """One reading of StartTime, none of a state's clock, and no result over the root: a redrive
    goes on with the data it has."""
    definition = built(path)
    text = text_of(path)
    assert text.count("$$.Execution.StartTime") == 1
    assert "EnteredTime" not in text
    assert "date " not in " ".join(str(s["Parameters"]) for s in sends(definition).values())
    for name, state in definition["States"].items():
        if state["Type"] in ("Task", "Pass", "Parallel") and name not in (
            "InitializeInput",
            "MergeInput",
        ):
            assert state["ResultPath"] not in ("$", "$.run_date"), name
            assert "OutputPath" not in state


def test_the_weekly_pipeline_is_eight_rows() -> None:
    """Eight spot states, two of them in a Parallel that keeps the root."""
    definition = built(WEEKLY)
    names = [row["name"] for row in read(WEEKLY)["stage"]]
    assert names == list(EIGHT)
    assert len(sends(definition)) == len(EIGHT)
    (parallel,) = (s for s in definition["States"].values() if s["Type"] == "Parallel")
    assert parallel["ResultPath"] == "$.branches"
    starts = [branch["StartAt"] for branch in parallel["Branches"]]
    assert starts == ["DriftDetectionGate", "BacktesterGate"]


@every_table
def test_a_gate_skips_its_stage_and_nothing_else(path: Path) -> None:
    """I15: it leads to the next step; a switch that is missing is false."""
    machine = table.parse(load(path))
    found = states(built(path))
    for row in machine.rows:
        gate = found[f"{row.stage.state}Gate"]
        (rule,) = gate["Choices"]
        present, true = rule["And"]
        assert present == {"Variable": f"$.{row.skip}", "IsPresent": True}
        assert true == {"Variable": f"$.{row.skip}", "BooleanEquals": True}
        assert "-" not in row.skip
        succeeded = found[f"{row.stage.state}Status"]["Choices"][0]
        assert succeeded["StringEquals"] == "Success"
        assert rule["Next"] == succeeded["Next"]


def test_a_table_of_many_stages_makes_hundreds_of_states() -> None:
    """From a table of 25 stages."""
    found = read(OURS)
    found["state_machine"] = {"poll": "5m", "tries": 2, "before": ["cd /x"]}
    found["stage"] = [
        {"name": f"stage-{number}", "command": ["x"], "timeout": "1h"} for number in range(25)
    ]
    definition = build.definition(table.parse(parse(found, OURS)))
    text = build.written(definition)
    assert len(states(definition)) > 300
    assert json.loads(text) == definition
