"""Every rule of `shim asl lint`: its own examples, what else it finds, and where it is silent."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from shim.asl import lint_docs, rules
from shim.asl.files import Found
from shim.asl.lint import Finding, lint, lint_definition
from shim.asl.rules import Rule
from tests.entry import ROOT

Definition = dict[str, Any]
SEND = "arn:aws:states:::aws-sdk:ssm:sendCommand"
EXPORT = "export RUN_DATE=2026-05-17"
LAUNCH = "bash spot_backtest.sh"


def codes(data: str) -> list[str]:
    """Return the codes of what is found in a text."""
    return [finding.rule for finding in lint(data.encode(), "definition.yaml")]


def send(commands: list[str] | str, **fields: Any) -> dict[str, Any]:
    """Return a state that sends commands: a list, or the text of an intrinsic function."""
    key = "commands.$" if isinstance(commands, str) else "commands"
    parameters = {"DocumentName": "AWS-RunShellScript", "Parameters": {key: commands}}
    following = {} if "Next" in fields else {"End": True}
    return {"Type": "Task", "Resource": SEND, "Parameters": parameters, **following, **fields}


def machine(**states: dict[str, Any]) -> Definition:
    """Return a definition that starts with the first of these states."""
    return {"StartAt": next(iter(states)), "States": states}


def found(definition: Definition, *select: str) -> list[Finding]:
    """Return what is found in a definition by some rules, or by all but shellcheck's."""
    chosen = [r for r in rules.every() if r.code in select or (not select and r.code != "ASL505")]
    return lint_definition(Found("", definition), chosen=chosen)


def in_script(*lines: str) -> list[str]:
    """Return the codes of what is found in a state that sends these lines."""
    return [finding.rule for finding in found(machine(Send=send(list(lines))))]


@pytest.mark.parametrize("rule", rules.every(), ids=lambda rule: rule.code)
def test_the_bad_example_of_a_rule_gives_its_finding_and_no_other(rule: Rule) -> None:
    """I02, I15, I16, I24, I26, I27, I28, I29, I30, I39: each has a rule, and the docs show it."""
    if rule.code == "ASL505" and shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not on PATH")
    assert codes(rule.bad) == [rule.code]


@pytest.mark.parametrize("rule", rules.every(), ids=lambda rule: rule.code)
def test_the_good_example_of_a_rule_gives_no_finding(rule: Rule) -> None:
    """What the documentation recommends passes every rule."""
    assert codes(rule.good) == []


def test_every_module_of_a_rule_is_registered_once() -> None:
    """A rule that is written and not listed would never run."""
    folder = ROOT / "shim" / "asl" / "rules"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(rules.MODULES)
    every = rules.every()
    assert len({rule.code for rule in every}) == len({rule.name for rule in every}) == len(every)


def test_the_documentation_is_the_docstrings() -> None:
    """docs/lint.md is `python -m shim.asl.lint_docs`; a rule changed without it fails here."""
    assert (ROOT / "docs" / "lint.md").read_text() == lint_docs.documentation()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([LAUNCH], ["ASL201"]),
        ([EXPORT, LAUNCH], []),
        ([LAUNCH, EXPORT], ["ASL201"]),
        (["RUN_DATE=2026-05-17", LAUNCH], ["ASL201"]),
        (["RUN_DATE=2026-05-17", "export RUN_DATE", LAUNCH], []),
        (["set -a", "RUN_DATE=2026-05-17", LAUNCH], []),
        (["set -a", "set +a", "RUN_DATE=2026-05-17", LAUNCH], ["ASL201"]),
        ([f"RUN_DATE=2026-05-17 {LAUNCH}"], []),
        ([f"env RUN_DATE=2026-05-17 {LAUNCH}"], []),
        ([f"{LAUNCH} --date=2026-05-17"], []),
        ([f"timeout 2h {LAUNCH}"], ["ASL201"]),
        (["nohup /opt/pipeline/spot_data-weekly.sh &"], ["ASL201"]),
        (["python -m shim capture --slug a --log b -- make"], ["ASL201"]),
        ([f"su - ec2-user -c 'cd x && {LAUNCH}'"], ["ASL201"]),
        ([f"su - ec2-user -c 'export RUN_DATE=2026-05-17; {LAUNCH}'"], []),
        # not launches
        (["chmod +x spot_backtest.sh", "ls spot_backtest.sh"], []),
        (["echo bash spot_backtest.sh"], []),
        (["cat <<'END'", LAUNCH, "END"], []),
    ],
)
def test_a_launch_needs_the_run_date_exported_before_it(
    lines: list[str], expected: list[str]
) -> None:
    """Whatever runs the launcher, and however the date reaches it."""
    assert in_script(*lines) == expected


def test_what_one_state_runs_with_the_date_another_runs_with_it_too() -> None:
    """A launcher of any name is known by the state that gives it the date."""
    dated = send([EXPORT, "python /opt/jobs/train.py"], Next="Other", ResultPath=None)
    assert [
        f.state for f in found(machine(One=dated, Other=send(["python /opt/jobs/train.py"])))
    ] == ["Other"]
    assert found(machine(One=dated, Other=send(["python /opt/jobs/clean.py"]))) == []


def test_commands_that_are_a_path_are_not_judged_by_their_text() -> None:
    """Nobody knows what they do; that they come from the input is another rule's finding."""
    assert [f.rule for f in found(machine(Send=send("$.lines")))] == ["ASL102"]
    asked = send(f"States.Array($.setup, '{LAUNCH}')")
    assert "ASL201" not in [f.rule for f in found(machine(Send=asked))]


@pytest.mark.parametrize(
    "line",
    [
        *("export RUN_DATE=`date +%F`", 'export RUN_DATE="$(TZ=UTC date +%F)"'),
        *("export RUN_DATE=${RUN_DATE:-$(date -u +%F)}", "export RUN_DATE=$(/bin/date +%F)"),
        *("day=$(date +%F); export RUN_DATE=${day}", "export RUN_DATE=$(printf '%(%F)T' -1)"),
        f"{LAUNCH} --date=$(date +%F)",
    ],
)
def test_a_run_date_of_the_shell_s_clock_is_found(line: str) -> None:
    """I01: directly, as a default, by way of a variable, as an option."""
    codes = in_script(line, LAUNCH) if "RUN_DATE" in line else in_script(line)
    assert "ASL203" in codes


@pytest.mark.parametrize(
    "line", ["stamp=$(date +%s)", "echo $(date)", "date", "export LOG=/var/log/$(date +%F).log"]
)
def test_a_clock_that_does_not_name_the_run_is_no_finding(line: str) -> None:
    """Only the run date is carried."""
    assert in_script(line, EXPORT, LAUNCH) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("make | tee log", ["ASL501"]),
        ("make 2>&1 | tee log", ["ASL501"]),
        ("(cd x; make) | tee log", ["ASL501"]),
        ("echo done | tee log", []),
        ("size=$(du -s . | cut -f1)", []),
        ("if make | grep -q error; then exit 1; fi", []),
        ("if true; then make | tee log; fi", ["ASL501"]),
        ("while read -r x; do make | tee log; done", ["ASL501"]),
        ("make | tee log || exit 1", []),
        ("make | tee log; exit ${PIPESTATUS[0]}", ["ASL502"]),
        ("bash -c 'set -o pipefail; make | tee log'", []),
    ],
)
def test_a_pipe_whose_status_nobody_looks_at_is_found(line: str, expected: list[str]) -> None:
    """I03: and no other pipe."""
    assert in_script(line) == expected


def test_pipefail_counts_from_where_it_is_set() -> None:
    """I03: what stands before it is not helped."""
    assert in_script("#!/bin/bash", "make | tee a", "set -o pipefail", "make | tee b") == ["ASL501"]
    assert in_script("#!/usr/bin/env bash", "set -euo pipefail", "make | tee b") == []
    assert in_script("#!/usr/bin/python3", "print(1) | 2") == []


@pytest.mark.parametrize(
    "line",
    [
        *("set -euo pipefail", "a=(1 2)", 'echo "${a[0]}"', "[[ -f x ]]", "cat <<< x", "source x"),
        *("diff <(ls a) <(ls b)", "function f { :; }", "echo $'a'"),
    ],
)
def test_what_dash_refuses_is_found_unless_the_first_line_names_bash(line: str) -> None:
    """I24: SSM runs sh."""
    assert in_script(line) == ["ASL502"]
    assert in_script("#!/bin/bash", line) == []


def test_a_first_line_that_is_a_hole_may_name_an_interpreter() -> None:
    """I24: then nobody knows who runs the script."""
    definition = machine(Send=send("States.Array($.first, 'set -o pipefail')"))
    assert found(definition, "ASL502") == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["trap 'rm -f x' EXIT", "make | tee log || exit 1"], ["ASL503"]),
        (["trap cleanup 0", "exec > /var/log/x 2>&1", "make"], ["ASL503"]),
        (["trap cleanup EXIT", "make"], []),
        (["trap - EXIT", "make | tee log || exit 1"], []),
        (["trap cleanup TERM", "make | tee log || exit 1"], []),
    ],
)
def test_an_exit_trap_is_found_only_beside_a_log_capture(
    lines: list[str], expected: list[str]
) -> None:
    """I03, I05: the trap's status replaces the stage's."""
    assert in_script(*lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([EXPORT, "source ./.env", LAUNCH], ["ASL205", "ASL502"]),
        ([EXPORT, ". /etc/weekly.env", LAUNCH], ["ASL205"]),
        ([EXPORT, ". venv/bin/activate", LAUNCH], []),
        ([EXPORT, "readonly RUN_DATE", ". ./.env", LAUNCH], []),
        (['old="$RUN_DATE"', EXPORT, ". ./.env", "RUN_DATE=$old", LAUNCH], []),
    ],
)
def test_an_environment_file_after_the_export_is_found(
    lines: list[str], expected: list[str]
) -> None:
    """I25: unless the date is set again, or cannot be."""
    assert in_script(*lines) == expected


def validated(rule: dict[str, Any], command: str, **before: dict[str, Any]) -> list[str]:
    """Return what is found when a Choice stands before a command."""
    check = {"Type": "Choice", "Choices": [{**rule, "Next": "Send"}], "Default": "No"}
    last = send(command)
    states = {**before, "Check": check, "Send": last, "No": {"Type": "Fail"}}
    return [finding.rule for finding in found(machine(**states), "ASL102")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"IsTimestamp": True}, []),
        ({"IsTimestamp": False}, ["ASL102"]),
        ({"IsString": True}, ["ASL102"]),
        ({"IsPresent": True}, ["ASL102"]),
        ({"IsNumeric": True}, []),
        ({"NumericLessThan": 9}, []),
        ({"BooleanEquals": False}, []),
        ({"StringEquals": "weekly"}, []),
        ({"StringMatches": "week*"}, ["ASL102"]),
        ({"StringMatches": "weekly"}, []),
        ({"StringLessThan": "z"}, ["ASL102"]),
    ],
)
def test_a_choice_validates_what_no_shell_can_misread(
    rule: dict[str, Any], expected: list[str]
) -> None:
    """I39: a moment, a number, a boolean, a constant; not any text."""
    command = "States.Array(States.Format('make X={}', $.x))"
    assert validated({"Variable": "$.x", **rule}, command) == expected
    negated = {"Not": {"Not": {"Variable": "$.x", **rule}}}
    assert validated(negated, command) == expected
    either = {"Or": [{"Variable": "$.x", **rule}, {"Variable": "$.y", "IsString": True}]}
    assert validated(either, command) == ["ASL102"]


def test_a_text_is_validated_by_what_was_made_of_it() -> None:
    """I39: a date by the timestamp that ends in it, and only the text that went into it."""
    made = {
        "Type": "Pass",
        "Parameters": {"stamp.$": "States.Format('{}T00:00:00Z', $.x)"},
        "ResultPath": "$.made",
        "Next": "Check",
    }
    rule = {"Variable": "$.made.stamp", "IsTimestamp": True}
    good = "States.Array(States.Format('make X={}', $.x))"
    other = "States.Array(States.Format('make X={}', $.other))"
    assert validated(rule, good, Make=made) == []
    assert validated(rule, other, Make=made) == ["ASL102"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("States.Base64Encode($.x)", []),
        ("States.Hash($.x, 'SHA-256')", []),
        ("States.UUID()", []),
        ("States.MathAdd($.x, 1)", []),
        ("$$.Execution.StartTime", []),
        ("States.ArrayGetItem(States.StringSplit($$.Execution.StartTime, 'T'), 0)", []),
        ("$$.Execution.Name", ["ASL102"]),
        ("$$.Execution.Input.x", ["ASL102"]),
        ("States.ArrayGetItem(States.StringSplit($.x, ','), 0)", ["ASL102"]),
        ("States.JsonToString($.x)", ["ASL102"]),
        ("$.x[0].y", ["ASL102"]),
    ],
)
def test_what_is_derived_from_the_input_is_as_hostile_as_it(
    expression: str, expected: list[str]
) -> None:
    """I39: unless the function lets nothing through that means something to a shell."""
    definition = machine(Send=send(f"States.Array(States.Format('make X={{}}', {expression}))"))
    assert [finding.rule for finding in found(definition, "ASL102")] == expected


def test_a_task_s_result_is_not_the_input() -> None:
    """I39: what a function returned is its author's; the rule says so and is silent."""
    call = {
        **{"Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:ask"},
        "Next": "Send",
    }
    definition = machine(Ask=call, Send=send("States.Array(States.Format('make X={}', $.x))"))
    assert found(definition, "ASL102") == []


STAMP = {
    "Type": "Pass",
    "Parameters": {"run_date.$": "$$.Execution.StartTime"},
    "Next": "Work",
}
LATER = send("States.Array(States.Format('export RUN_DATE={}', $.run_date))")


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        ({"Type": "Pass"}, []),
        ({"Type": "Pass", "Result": {}}, ["ASL204"]),
        ({"Type": "Pass", "Result": {}, "ResultPath": "$.x"}, []),
        ({"Type": "Pass", "OutputPath": None}, ["ASL204"]),
        ({"Type": "Pass", "InputPath": None}, ["ASL204"]),
        ({"Type": "Pass", "Parameters": {"a": 1}}, ["ASL204"]),
        ({"Type": "Wait", "Seconds": 1}, []),
        ({"Type": "Task", "Resource": SEND}, ["ASL204"]),
        ({"Type": "Task", "Resource": SEND, "ResultPath": None}, []),
        ({"Type": "Task", "Resource": SEND, "ResultSelector": {"a.$": "$.Command"}}, ["ASL204"]),
        # a function may return the date
        ({"Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:1:function:f"}, []),
        ({"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken"}, []),
        ({"Type": "Task", "QueryLanguage": "JSONata", "Resource": SEND, "Output": "{% $x %}"}, []),
    ],
)
def test_a_date_is_lost_where_its_place_is_taken(work: dict[str, Any], expected: list[str]) -> None:
    """By a result whose form is known; where it is not, nothing is claimed."""
    definition = machine(Stamp=STAMP, Work={**work, "Next": "Send"}, Send=LATER)
    assert [finding.rule for finding in found(definition, "ASL204")] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["ASL204"]),
        ({"ResultPath": "$.both"}, []),
        ({"ResultPath": None}, []),
        ({"ResultSelector": {"run_date.$": "$[0].run_date"}}, []),
        ({"OutputPath": "$[0]"}, []),
        ({"OutputPath": "$[1]"}, ["ASL204"]),
    ],
)
def test_a_parallel_keeps_the_date_only_with_a_place_for_its_result(
    fields: dict[str, Any], expected: list[str]
) -> None:
    """Its result is an array of what its branches gave out."""
    one = machine(A={"Type": "Pass", "End": True})
    two = machine(B={"Type": "Pass", "Result": {}, "End": True})
    work = {"Type": "Parallel", "Branches": [one, two], "Next": "Send", **fields}
    definition = machine(Stamp=STAMP, Work=work, Send=LATER)
    assert [finding.rule for finding in found(definition, "ASL204")] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ItemSelector": {"run_date.$": "$.run_date"}}, []),
        ({"ItemSelector": {"item.$": "$$.Map.Item.Value"}}, ["ASL204"]),
        ({"ItemsPath": "$.items"}, ["ASL204"]),
        ({"ItemsPath": "$$.Execution.Input.items"}, []),
    ],
)
def test_an_item_of_a_map_has_only_what_it_is_given(
    fields: dict[str, Any], expected: list[str]
) -> None:
    """Items that the input holds may have the date."""
    made = {"Type": "Pass", "Result": [{"name": "a"}, {"name": "b"}], "ResultPath": "$.items"}
    work = {"Type": "Map", "ItemProcessor": machine(Send=LATER), "End": True, **fields}
    definition = machine(Stamp={**STAMP, "Next": "Make"}, Make={**made, "Next": "Work"}, Work=work)
    assert [finding.rule for finding in found(definition, "ASL204")] == expected


def test_a_date_of_the_input_is_not_asked_for_where_no_state_stamps_one() -> None:
    """An input may be required to hold it; a way around the stamp is a finding."""
    assert found(machine(Send=LATER), "ASL204") == []
    rule = {"Variable": "$.fast", "BooleanEquals": True, "Next": "Send"}
    choice = {"Type": "Choice", "Choices": [rule], "Default": "Stamp"}
    stamp = {**STAMP, "Next": "Send"}
    definition = machine(Ask=choice, Stamp=stamp, Send=LATER)
    assert [finding.state for finding in found(definition, "ASL204")] == ["Send"]
    rule["Variable"], rule["IsPresent"] = "$.run_date", True
    del rule["BooleanEquals"]
    assert found(definition, "ASL204") == []


def test_a_loss_is_found_where_it_first_hurts_and_nowhere_after() -> None:
    """The execution does not get any further, so what it would read there is no finding."""
    lose = {"Type": "Pass", "Result": {}, "Next": "Send"}
    going = {key: value for key, value in LATER.items() if key != "End"}
    definition = machine(
        Stamp={**STAMP, "Next": "Lose"},
        Lose=lose,
        Send={**going, "ResultPath": "$.sent", "Next": "Again"},
        Again=LATER,
    )
    assert [finding.state for finding in found(definition, "ASL204")] == ["Send"]


def test_constants_that_a_choice_tests_cannot_come_from_a_merge_over_the_input() -> None:
    """I29: then the input never decides; a merge that nobody tests may be meant to overwrite."""
    text = json.dumps({"dry_run": False}).replace("{", "\\{").replace("}", "\\}")
    merge = {
        "Type": "Pass",
        "Parameters": {"in.$": f"States.JsonMerge($, States.StringToJson('{text}'), false)"},
        "OutputPath": "$.in",
        "Next": "Ask",
    }
    rule = {"Variable": "$.dry_run", "BooleanEquals": True, "Next": "End"}
    ask = {"Type": "Choice", "Choices": [rule], "Default": "End"}
    definition = machine(Merge=merge, Ask=ask, End={"Type": "Succeed"})
    assert [finding.rule for finding in found(definition)] == ["ASL301"]
    rule["Variable"] = "$.other"
    assert found(definition) == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("{% $now() %}", ["ASL202"]),
        ("{% $states.context.State.EnteredTime %}", ["ASL202"]),
        ("{% $states.context.Execution.StartTime %}", []),
    ],
)
def test_a_clock_in_jsonata_is_found_by_its_name(expression: str, expected: list[str]) -> None:
    """I01: what it yields is not evaluated; which clock it reads is in its text."""
    stamp = {"Type": "Pass", "Output": {"run_date": expression}, "End": True}
    definition = {"QueryLanguage": "JSONata", **machine(Stamp=stamp)}
    assert [finding.rule for finding in found(definition)] == expected


def test_a_gate_that_a_loop_leads_back_to_is_no_skip_too_far() -> None:
    """I15: and a gate of several stages, which has no command of its own, is none either."""

    def gate(flag: str, skipped: str, run: str) -> dict[str, Any]:
        present = {"Variable": flag, "IsPresent": True}
        rule = {"And": [present, {"Variable": flag, "BooleanEquals": True}], "Next": skipped}
        return {"Type": "Choice", "Choices": [rule], "Default": run}

    work = {"ResultPath": None}
    whole = machine(
        All=gate("$.skip_all", "Done", "GateA"),
        GateA=gate("$.skip_a", "GateB", "A"),
        A=send(["make a"], **work, Next="GateB"),
        GateB=gate("$.skip_b", "Done", "B"),
        B=send(["make b"], **work, Next="Done"),
        Done={"Type": "Succeed"},
    )
    assert found(whole, "ASL303") == []
    whole["States"]["GateA"] = gate("$.skip_a", "Done", "A")
    assert [finding.state for finding in found(whole, "ASL303")] == ["GateA"]


@pytest.mark.parametrize(
    ("commands", "expected"), [(["ls x"], []), ([EXPORT, LAUNCH], ["ASL402"] * 3)]
)
def test_a_probe_may_be_sent_anew_and_a_stage_may_not(
    commands: list[str], expected: list[str]
) -> None:
    """I27: a command that is not over and is sent again would run its stage twice."""
    polled = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:ssm:getCommandInvocation",
        "Parameters": {"CommandId.$": "$.sent.Command.CommandId", "InstanceId": "i-1"},
        "ResultPath": "$.poll",
        "Next": "Status",
    }
    rule = {"Variable": "$.poll.Status", "StringEquals": "Success", "Next": "Done"}
    status = {"Type": "Choice", "Choices": [rule], "Default": "Send"}
    sent = send(commands, ResultPath="$.sent", Next="Poll")
    definition = machine(Send=sent, Poll=polled, Status=status, Done={"Type": "Succeed"})
    assert [finding.rule for finding in found(definition, "ASL402")] == expected


def test_a_batch_of_a_map_has_a_form_of_its_own() -> None:
    """Its items stand in Items; what is in them is not followed."""
    work = {
        **{"Type": "Map", "ItemProcessor": machine(Send=LATER), "End": True},
        **{"ItemsPath": "$.items", "ItemBatcher": {"MaxItemsPerBatch": 2}},
    }
    made = {"Type": "Pass", "Result": {"items": [{}]}, "Next": "Work"}
    assert found(machine(Make=made, Work=work), "ASL204") == []


def test_timeouts_that_only_a_run_knows_are_not_judged() -> None:
    """I28: a value of the input may be right."""
    state = send(["make"])
    state["Parameters"]["Parameters"]["executionTimeout.$"] = "States.Array($.seconds)"
    definition = {**machine(Send=state), "TimeoutSeconds": 9000}
    assert found(definition) == []
    del state["Parameters"]["Parameters"]["executionTimeout.$"]
    assert [finding.rule for finding in found(definition)] == ["ASL403"]
    definition["TimeoutSeconds"] = 3600
    assert found(definition) == []


def test_a_document_that_is_no_shell_is_left_alone() -> None:
    """Another document's lines have another language."""
    state = send(["set -o pipefail", LAUNCH])
    state["Parameters"]["DocumentName"] = "AWS-RunPowerShellScript"
    assert found(machine(Send=state)) == []


def test_a_definition_that_is_not_one_gives_no_error() -> None:
    """Whatever somebody wrote: fields of the wrong type, states that do not exist."""
    odd: list[Any] = [None, 5, "x", [], {}, [1], {"a": []}]
    for value in odd:
        for field in ("Type", "Next", "Parameters", "Choices", "Catch", "Retry", "ResultPath"):
            state = {**send(["make"]), field: value}
            found(machine(Send=state, Other={"Type": "Choice", field: value}))
        found({"StartAt": value, "States": {"A": value}})
