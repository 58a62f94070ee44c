"""Our definition broken on purpose: each way is caught by a rule of lint, or listed as not to be.

What only an execution can catch is in `ONLY_EXECUTION`; tests/test_asl_broken.py executes them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from shim.asl import rules
from shim.asl.files import Found
from shim.asl.lint import Finding, lint_definition
from tests.entry import ROOT

OURS = json.loads((ROOT / "infrastructure" / "step_function.json").read_text())
WEEKLY = json.loads((ROOT / "examples" / "weekly" / "step_function.json").read_text())
Definition = dict[str, Any]
Mutation = Callable[[Definition], None]
EXPORT = "States.Format('export RUN_DATE={}', $.run_date)"
LINES = "commands.$"


def findings(definition: Definition) -> list[Finding]:
    """Return what lint finds; shellcheck has mutations of its own."""
    chosen = [rule for rule in rules.every() if rule.code != "ASL505"]
    return lint_definition(Found("", definition), chosen=chosen)


def state(name: str, change: Callable[[dict[str, Any]], None]) -> Mutation:
    """Change one state."""
    return lambda definition: change(definition["States"][name])


def put(name: str, **fields: Any) -> Mutation:
    """Set fields of one state."""
    return state(name, lambda found: found.update(fields))


def drop(name: str, field: str) -> Mutation:
    """Remove a field of one state."""

    def change(found: dict[str, Any]) -> None:
        del found[field]

    return state(name, change)


def text(name: str, old: str, new: str, times: int = 1) -> Mutation:
    """Replace a text in one state, wherever it stands there; it must be there."""

    def change(definition: Definition) -> None:
        whole = json.dumps(definition["States"][name])
        before, after = json.dumps(old)[1:-1], json.dumps(new)[1:-1]
        assert before in whole, f"{old} is not in {name}"
        definition["States"][name] = json.loads(whole.replace(before, after, times))

    return change


def line(new: str, name: str = "Backtest") -> Mutation:
    """Put one more line before the export."""
    return text(name, EXPORT, f"{new}, {EXPORT}")


def both(*mutations: Mutation) -> Mutation:
    """Apply several."""

    def change(definition: Definition) -> None:
        for mutation in mutations:
            mutation(definition)

    return change


def launch_first(definition: Definition) -> None:
    """Put the export behind the launch."""
    parameters = definition["States"]["Backtest"]["Parameters"]["Parameters"]
    launch = parameters[LINES].partition(f"{EXPORT}, ")[2][:-1]
    parameters[LINES] = parameters[LINES].replace(f"{EXPORT}, {launch}", f"{launch}, {EXPORT}")


def in_parallel(**fields: Any) -> Mutation:
    """Put a Parallel state before the first send."""

    def change(definition: Definition) -> None:
        inner = {"StartAt": "Rest", "States": {"Rest": {"Type": "Wait", "Seconds": 1, "End": True}}}
        definition["States"]["Both"] = {
            **{"Type": "Parallel", "Branches": [inner, inner], "Next": "Backtest"},
            **fields,
        }
        definition["States"]["BacktestPrepare"]["Next"] = "Both"

    return change


def in_map(definition: Definition) -> None:
    """Send the command once for each of two instances, without the date in the items."""
    send = copy.deepcopy(definition["States"]["Backtest"])
    following = send.pop("Next")
    del send["Catch"]
    definition["States"]["Backtest"] = {
        "Type": "Map",
        "ItemsPath": "$.items",
        "ItemSelector": {"ec2_instance_id": "i-1", "mode": {"suffix": ""}},
        "ItemProcessor": {"StartAt": "Each", "States": {"Each": {**send, "End": True}}},
        "ResultPath": "$.command",
        "Next": following,
    }


def catch(name: str, **fields: Any) -> Mutation:
    """Change the Catch of one state; None removes a field."""

    def change(found: dict[str, Any]) -> None:
        for field, value in fields.items():
            if value is None:
                del found["Catch"][0][field]
            else:
                found["Catch"][0][field] = value

    return state(name, change)


def ssm(name: str, **fields: Any) -> Mutation:
    """Set parameters of an SSM command; None removes one."""

    def change(found: dict[str, Any]) -> None:
        for field, value in fields.items():
            inner = found["Parameters"]
            inner = inner["Parameters"] if field == "executionTimeout" else inner
            if value is None:
                del inner[field]
            else:
                inner[field] = value

    return state(name, change)


def without_retry(*names: str) -> Mutation:
    """Remove the retriers of the poll that name one of these errors; all without a name."""

    def change(found: dict[str, Any]) -> None:
        found["Retry"] = [
            retrier
            for retrier in found["Retry"]
            if names and not set(names) & set(retrier["ErrorEquals"])
        ]

    return state("BacktestPoll", change)


def straight_gate(definition: Definition) -> None:
    """Let a gate compare without asking first whether the flag is there."""
    rule = {"Variable": "$.skip_backtest", "BooleanEquals": True, "Next": "ParityGate"}
    definition["States"]["BacktestGate"]["Choices"] = [rule]


def route(status: str, target: str) -> Mutation:
    """Lead one status of the first stage elsewhere, before any other rule."""

    def change(found: dict[str, Any]) -> None:
        rule = {"Variable": "$.result.Status", "StringEquals": status, "Next": target}
        found["Choices"].insert(0, rule)

    return state("BacktestStatus", change)


CAUGHT: dict[str, tuple[str, Mutation]] = {
    # text that a shell gets
    "a quote in a literal (I02)": ("ASL101", line("'echo \\'go\\''")),
    "a backslash in a literal (I02)": ("ASL101", line("'echo a\\\\b'")),
    "a suffix from the input (I39)": ("ASL102", text("Backtest", "$.mode.suffix", "$.suffix")),
    "the execution's name as it is (I39)": (
        "ASL102",
        text("Backtest", "States.Base64Encode($$.Execution.Name)", "$$.Execution.Name"),
    ),
    "the date not validated (I39)": ("ASL102", put("MergeInput", Next="CheckInput")),
    "the date only asked to be text (I39)": ("ASL102", put("IsRunDateText", Default="CheckInput")),
    "an invalid date goes on (I39)": ("ASL102", put("CheckRunDate", Default="CheckInput")),
    "a date that any text with dashes is (I39)": (
        "ASL102",
        state("CheckRunDate", lambda found: found["Choices"][0]["And"].pop(0)),
    ),
    # the run date
    "the export dropped": ("ASL201", text("Backtest", f"{EXPORT}, ", "")),
    "the date set and not exported": ("ASL201", text("Backtest", "export RUN_DATE", "RUN_DATE")),
    "the export behind the launch": ("ASL201", launch_first),
    "the date of the state's clock": (
        "ASL202",
        text("InitializeInput", "$$.Execution.StartTime", "$$.State.EnteredTime"),
    ),
    "the date of the instance's clock": (
        "ASL203",
        text("Backtest", EXPORT, "'export RUN_DATE=$(date -u +%F)'"),
    ),
    "the instance's clock, by way of a variable": (
        "ASL203",
        text("Backtest", EXPORT, "'day=$(date -u +%F)', 'export RUN_DATE=$day'"),
    ),
    "an environment file after the export (I25)": (
        "ASL205",
        text("Backtest", EXPORT, f"{EXPORT}, '. /opt/pipeline/.env'"),
    ),
    "ResultPath of the send dropped": ("ASL204", drop("Backtest", "ResultPath")),
    "ResultPath of the poll dropped": ("ASL305", drop("BacktestPoll", "ResultPath")),
    "OutputPath on the way": ("ASL204", put("BacktestWait", OutputPath="$.command")),
    "InputPath on the way": ("ASL204", put("BacktestWait", InputPath="$.command")),
    "a Parallel without ResultPath": ("ASL204", in_parallel()),
    "a Map without the date": ("ASL204", in_map),
    "a Pass that replaces the input": ("ASL204", put("BacktestPrepare", ResultPath="$")),
    # ways through the definition
    "the merge swapped (I29)": (
        "ASL301",
        text("MergeInput", "$.defaults, $.input", "$.input, $.defaults"),
    ),
    "a gate without IsPresent": ("ASL302", straight_gate),
    "a gate that jumps a stage (I15)": (
        "ASL303",
        state("BacktestGate", lambda f: f["Choices"][0].update(Next="EvaluatorGate")),
    ),
    "a gate that jumps to the end (I15)": (
        "ASL303",
        state("BacktestGate", lambda f: f["Choices"][0].update(Next="NotifyComplete")),
    ),
    "Failed goes on (I16)": ("ASL304", route("Failed", "ParityGate")),
    "TimedOut goes on (I16)": ("ASL304", route("TimedOut", "ParityGate")),
    "an ended command goes on (I16)": ("ASL304", put("BacktestEnded", Next="ParityGate")),
    "an error of the send goes on (I16)": ("ASL304", catch("Backtest", Next="ParityGate")),
    "an error of the poll goes on (I16)": ("ASL304", catch("BacktestPoll", Next="ParityGate")),
    "a Catch that keeps no input (I30)": ("ASL305", catch("Backtest", ResultPath=None)),
    "a Catch that keeps no error (I30)": ("ASL305", catch("Backtest", ResultPath="$.other")),
    "a way to the handler without an error (I30)": (
        "ASL305",
        put("BacktestStatus", Default="BacktestFailed"),
    ),
    "the handler reached without what it reads (I30)": (
        "ASL305",
        put("BacktestEnded", Next="HandleFailure"),
    ),
    # SSM
    "no retry at the poll (I26)": ("ASL401", without_retry()),
    "no retry of an unknown invocation (I26)": (
        "ASL401",
        without_retry("Ssm.InvocationDoesNotExist"),
    ),
    "one name of it dropped (I26)": (
        "ASL401",
        text("BacktestPoll", "Ssm.InvocationDoesNotExistException", "Ssm.Other"),
    ),
    "no retry of throttling (I27)": ("ASL401", without_retry("Ssm.ThrottlingException")),
    "Delayed is a failure (I27)": ("ASL402", route("Delayed", "BacktestEnded")),
    "Pending is a success (I27)": ("ASL402", route("Pending", "ParityGate")),
    "a status without a route (I27)": ("ASL402", drop("BacktestStatus", "Default")),
    "Cancelled polls on (I27)": ("ASL402", route("Cancelled", "BacktestWait")),
    "executionTimeout out of range (I28)": ("ASL403", ssm("Backtest", executionTimeout=["200000"])),
    "executionTimeout in words (I28)": ("ASL403", ssm("Backtest", executionTimeout=["2h"])),
    "executionTimeout dropped (I28)": ("ASL403", ssm("Backtest", executionTimeout=None)),
    "a delivery of ten seconds (I28)": ("ASL403", ssm("Backtest", TimeoutSeconds=10)),
    "an outer timeout of an hour (I28)": (
        "ASL404",
        lambda definition: definition.update(TimeoutSeconds=3600),
    ),
    # the shell
    "the launch into a pipe (I03)": (
        "ASL501",
        text("Backtest", "--only-stages=backtest{}", "--only-stages=backtest{} | tee /tmp/log"),
    ),
    "pipefail under sh (I24)": ("ASL502", text("Backtest", "'set -e'", "'set -eo pipefail'")),
    "an array under sh (I24)": ("ASL502", line("'stages=(backtest parity)'")),
    "an EXIT trap (I03)": ("ASL503", line("'trap cleanup EXIT'")),
    "an if without its end": ("ASL504", line("'if true; then'")),
}

ONLY_EXECUTION: dict[str, Mutation] = {
    "the dry pass and the real one swapped": both(
        put("DryPass", Result={"suffix": ""}), put("RealPass", Result={"suffix": " --dry-run"})
    ),
    "the wrong stage on the launch line": text(
        "Backtest", "--only-stages=backtest", "--only-stages=parity"
    ),
    "a gate that asks for another stage's flag": text(
        "BacktestGate", "$.skip_backtest", "$.skip_evaluator", 9
    ),
    "tries that are never counted": text(
        "BacktestAgain", "States.MathAdd($.work.tries, 1)", "$.work.tries"
    ),
    "no backoff before the next try": put("BacktestAgain", Next="BacktestWait"),
    "an overdue command is not cancelled": put("BacktestOverdue", Next="BacktestFailed"),
    "a failure that tells nobody": put("BacktestFailed", Next="PipelineFailed"),
    "exit 75 is not sent again": state("BacktestStatus", lambda found: found["Choices"].pop(1)),
}


def test_our_definitions_have_no_finding() -> None:
    """Both that are generated here: the three stages, and the weekly pipeline with its Parallel."""
    assert findings(OURS) == []
    assert findings(WEEKLY) == []


@pytest.mark.parametrize("name", CAUGHT)
def test_lint_catches_a_broken_definition(name: str) -> None:
    """I02, I15, I16, I24, I25, I26, I27, I28, I29, I30, I39: by the rule that is for it."""
    code, mutation = CAUGHT[name]
    broken = copy.deepcopy(OURS)
    mutation(broken)
    assert broken != OURS
    found = findings(broken)
    assert code in {finding.rule for finding in found}, found


@pytest.mark.parametrize("name", ONLY_EXECUTION)
def test_lint_is_silent_where_only_an_execution_tells(name: str) -> None:
    """Each is a definition that is right in itself, and not the one that the table asks for."""
    broken = copy.deepcopy(OURS)
    ONLY_EXECUTION[name](broken)
    assert broken != OURS
    assert findings(broken) == []


def test_a_failure_inside_of_a_parallel_is_followed_out_of_it() -> None:
    """I16: branches that swallow their failure, and a state after them that does not look."""
    broken = copy.deepcopy(WEEKLY)
    broken["States"]["Parallel5Status"]["Choices"][0]["Next"] = "ParityGate"
    found = {(finding.rule, finding.state) for finding in findings(broken)}
    assert ("ASL304", "Parallel5[0]/DriftDetectionPoll") in found
    assert ("ASL304", "Parallel5[1]/BacktesterPoll") in found


def test_there_are_enough_mutations() -> None:
    """Thirty at least, and every rule but shellcheck's is the one that catches some."""
    assert len(CAUGHT) >= 30
    assert {code for code, _ in CAUGHT.values()} == {
        rule.code for rule in rules.every() if rule.code != "ASL505"
    }
