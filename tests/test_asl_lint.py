"""The engine and the command of `shim asl lint`: which rules run, on what files, how it prints."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from shim.asl import lint, rules
from shim.asl.lint_command import lint_command
from shim.errors import ShimError, UsageError
from tests.entry import ROOT

OURS = ROOT / "infrastructure" / "step_function.json"
BAD = {
    "StartAt": "Send",
    "States": {
        "Send": {
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:ssm:sendCommand",
            "Parameters": {
                "DocumentName": "AWS-RunShellScript",
                "Parameters": {"commands": ["set -o pipefail", "bash spot_backtest.sh"]},
            },
            "End": True,
        }
    },
}


def run(*words: str, given: str | None = None) -> Result:
    """Run the command, as the group that it is put into does."""
    return CliRunner().invoke(lint_command, words, input=given)


def refused(*words: str, given: str | None = None) -> str:
    """Return the message with which the command refuses its arguments."""
    result = run(*words, given=given)
    assert isinstance(result.exception, ShimError), result.output
    assert result.exception.code == 2
    return str(result.exception)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    """A file with two findings."""
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(BAD, indent=2))
    return str(path)


def codes(text: str, name: str = "file") -> list[str]:
    """Return the codes of what all rules but shellcheck's find in a file's text."""
    chosen = [rule for rule in rules.every() if rule.code != "ASL505"]
    return [finding.rule for finding in lint.lint(text.encode(), name, chosen)]


def test_a_clean_definition_exits_0_and_prints_nothing() -> None:
    """What is generated here is linted in CI by this very command."""
    result = run(str(OURS))
    assert (result.exit_code, result.stdout) == (0, "")


def test_findings_exit_1_and_say_what_why_and_what_to_do(bad: str) -> None:
    """One block each: file and line, rule, state, text; then why and the fix."""
    result = run(bad)
    assert result.exit_code == 1
    first, why, fix, second, *_ = result.stdout.splitlines()
    assert first.startswith(f"{bad}:4: ASL201 Send: bash spot_backtest.sh")
    assert why.startswith("    why: no line before the launch names the run date")
    assert fix.startswith("    fix: put ")
    assert second.startswith(f"{bad}:4: ASL502 Send: set -o pipefail")


def test_json_has_every_field_of_a_finding(bad: str) -> None:
    """For other programs: an array, empty when nothing was found."""
    found = json.loads(run(bad, "--format", "json").stdout)
    assert [set(item) for item in found] == [
        {"rule", "file", "state", "text", "why", "fix", "line"}
    ] * 2
    assert found[0]["file"] == bad
    assert (found[0]["state"], found[0]["line"]) == ("Send", 4)
    assert json.loads(run(str(OURS), "--format", "json").stdout) == []


def test_github_annotations_escape_what_would_end_them(bad: str) -> None:
    """A colon or a comma in a property, a line break or a percent sign in the message."""
    finding = lint.Finding("ASL1", "a,b:c%.json", "S", "50 %\nmore", "why: so", "do", 7)
    assert lint.as_github([finding]) == (
        "::error file=a%2Cb%3Ac%25.json,line=7,title=ASL1 S::50 %25%0Amore%0Awhy: so%0Ado\n"
    )
    lines = run(bad, "--format", "github").stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"::error file={bad},line=4,title=ASL") for line in lines)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["ASL201", "ASL502"]),
        (("--select", "ASL2"), ["ASL201"]),
        (("--select", "ASL201,ASL5"), ["ASL201", "ASL502"]),
        (("--select", "asl2", "--select", "ASL502"), ["ASL201", "ASL502"]),
        (("--ignore", "ASL5"), ["ASL201"]),
        (("--ignore", "ASL"), []),
        (("--select", "ALL", "--ignore", "ASL201"), ["ASL502"]),
        (("--select", "ASL5", "--ignore", "ASL502"), []),
        (("--select", "ASL502", "--ignore", "ASL5"), ["ASL502"]),
    ],
)
def test_rules_are_chosen_by_prefix_and_the_longer_one_wins(
    bad: str, options: tuple[str, ...], expected: list[str]
) -> None:
    """As ruff does it."""
    result = run(bad, "--format", "json", *options)
    assert [item["rule"] for item in json.loads(result.stdout)] == expected
    assert result.exit_code == bool(expected)


def test_a_rule_that_does_not_exist_is_refused(bad: str) -> None:
    """A misspelt prefix must not pass as «nothing was found»."""
    assert refused(bad, "--select", "ASL210") == (
        "'ASL210' is no rule and no prefix of one (set by --select); did you mean ASL205?"
    )
    assert "set by --ignore" in refused(bad, "--ignore", "E501")
    assert "set by --explain" in refused("--explain", "E501")


def test_a_rule_explains_itself_by_code_or_name() -> None:
    """With its reason and both examples, and no file is needed."""
    for name in ("ASL303", "asl303", "skip-too-far"):
        result = run("--explain", name)
        assert result.exit_code == 0
        assert result.stdout.startswith("## ASL303 skip-too-far\n")
        assert "**Bad**" in result.stdout
        assert "**Good**" in result.stdout


def test_without_a_file_there_is_nothing_to_lint() -> None:
    """Two things are said: what is wrong, and what to do."""
    assert refused() == "no file to lint; name state machines or templates, or - for stdin"


def test_a_file_that_holds_no_definition_is_refused(tmp_path: Path) -> None:
    """So a wrong path does not pass as «nothing was found»."""
    path = tmp_path / "x.yaml"
    path.write_text("Resources: {}\n")
    assert "holds no state machine" in refused(str(path))
    assert "holds no state machine" in refused("-", given="{}")


def test_stdin_and_several_files_are_linted_together(bad: str) -> None:
    """The findings stand in the order of the files."""
    result = run(bad, "-", "--format", "json", given=json.dumps(BAD))
    files = [item["file"] for item in json.loads(result.stdout)]
    assert files == [bad, bad, "-", "-"]


SAM = """\
Resources:
  Weekly:
    Type: AWS::Serverless::StateMachine
    Properties:
      Definition:
        StartAt: Send
        States:
          Send:
            Type: Task
            Resource: !Sub arn:${AWS::Partition}:states:::aws-sdk:ssm:sendCommand
            Parameters:
              DocumentName: AWS-RunShellScript
              InstanceIds: [!Ref Instance]
              Parameters:
                commands: [set -o pipefail, make]
            End: true
"""


def template(value: Any) -> str:
    """Return a CloudFormation template in JSON that has a value as DefinitionString."""
    machine = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"DefinitionString": value},
    }
    return json.dumps({"Resources": {"Weekly": machine}})


def test_a_definition_is_found_in_templates_of_every_form() -> None:
    """An object in SAM; text, Fn::Sub with and without its map, Fn::Join in CloudFormation."""
    text = json.dumps(BAD)
    one, two = text[:40], text[40:]
    for found in (
        template(text),
        template({"Fn::Sub": text}),
        template({"Fn::Sub": [text, {"a": "b"}]}),
        template({"Fn::Join": ["", [one, two]]}),
    ):
        assert codes(found) == ["ASL201", "ASL502"]
    assert codes(SAM) == ["ASL502"]
    (finding,) = lint.lint(SAM.encode(), "sam.yaml", lint.choose(["ASL502"], []))
    assert finding.state == "Resources.Weekly.Properties.Definition: Send"
    assert finding.line == 8


def test_two_definitions_in_one_file_are_told_apart() -> None:
    """Each finding names where in the file its definition stands."""
    text = json.dumps({"a": BAD, "b": BAD})
    found = lint.lint(text.encode(), "x.json", lint.choose(["ASL502"], []))
    assert [finding.state for finding in found] == ["a: Send", "b: Send"]
    assert [finding.line for finding in found] == [0, 0]


@pytest.mark.parametrize("missing", ["bash", "shellcheck"])
def test_a_program_that_is_missing_is_said(
    bad: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, with the rule that was not checked; and not where this rule was not wanted."""
    other = {"bash": "shellcheck", "shellcheck": "bash"}[missing]
    program = tmp_path / "bin" / other
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '[]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    rule = {"bash": "ASL504", "shellcheck": "ASL505"}[missing]
    assert run(bad).stderr == f"asl lint: {rule} was not checked: {missing} is not on PATH\n"
    assert run(bad, "--ignore", rule).stderr == ""


def test_a_shellcheck_that_fails_is_not_taken_for_a_clean_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash, a bad option of an old version: nothing may hide in it."""
    program = tmp_path / "shellcheck"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ShimError, match="broken"):
        lint.lint(json.dumps(BAD).encode(), "x.json")


def test_no_script_is_run_by_linting_it(tmp_path: Path) -> None:
    """bash and shellcheck read; whatever a stranger's definition holds, nothing of it runs."""
    mark = tmp_path / "mark"
    definition = copy.deepcopy(BAD)
    inner = definition["States"]["Send"]["Parameters"]["Parameters"]  # type: ignore[index]
    inner["commands"] = [f"touch {mark}", f"x=$(touch {mark})", f"`touch {mark}`"]
    codes(json.dumps(definition))
    lint.lint(json.dumps(definition).encode(), "x")
    assert not mark.exists()


def stages(count: int) -> dict[str, Any]:
    """Return a definition like ours with so many states, its stages one after another."""
    ours = json.loads(OURS.read_text())
    names = list(ours["States"])
    first, last = names.index("BacktestGate"), names.index("ParityGate")
    group = {name: ours["States"].pop(name) for name in names[first:last]}
    number, following = 0, "ParityGate"
    while len(ours["States"]) < count:
        number += 1
        renamed = json.dumps(group).replace("ParityGate", "#").replace("Backtest", f"S{number}x")
        ours["States"] |= json.loads(
            renamed.replace("skip_backtest", f"skip_s{number}").replace("#", following)
        )
        following = f"S{number}xGate"
    whole = json.dumps(ours["States"]).replace('"BacktestGate"', json.dumps(following))
    return {**ours, "States": json.loads(whole)}


def test_a_definition_of_hundreds_of_states_has_no_finding_either() -> None:
    """Ours, with its group of states repeated."""
    assert codes(json.dumps(stages(300))) == []


def test_what_nests_too_deep_is_refused() -> None:
    """A hostile file ends in a sentence, not in a traceback."""
    around = '{"StartAt": "A", "States": {"A": {"Type": "Parallel", "Branches": ['
    for depth in (50, 100, 150, 400, 2000):
        text = around * depth + '{"StartAt": "A", "States": {}}' + "]}}}" * depth
        result = run("-", given=text)
        assert result.exit_code == 0 or isinstance(result.exception, UsageError), result.exception
    assert "too deep" in refused("-", given=text)


def test_the_command_has_the_options_that_the_documents_name() -> None:
    """The group that it is attached to shows them."""
    names = {name for option in lint_command.params for name in option.opts}
    assert {"--format", "--select", "--ignore", "--explain"} < names
    assert isinstance(lint_command, click.Command)
