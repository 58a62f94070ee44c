"""The command `asl render`: what it prints, the scripts it writes, and what it refuses."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from shim.cli import cli
from shim.errors import UsageError
from tests.definitions import machine, send, weekly


def run(*arguments: str | Path) -> str:
    """Run `render` and return its output; what it raises is raised."""
    words = ["asl", "render", *map(str, arguments)]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_prints_each_states_lines(tmp_path: Path) -> None:
    """Numbered, under a head; twice where the readings differ."""
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(machine(A=send(r"States.Array('d=\'x\'','a','b' )"))))
    assert run(path) == (
        "# A (AWS-RunShellScript)\n"
        "  1  [documented]  d='x'\n"
        "  1  [observed]  d=\\'x\\'\n"
        "  2  a\n"
        "  3  b\n"
    )
    path.write_text(json.dumps(weekly()))
    zoned = run(path, "--start-time", "2026-05-18T01:59:59+02:00", "--input", '{"dry": true}')
    assert "  1  run 2026-05-17 --dry-run\n" in zoned


def test_scripts_are_files_for_their_owner_with_names_that_stay_inside(tmp_path: Path) -> None:
    """Two states never share a file, and what stood there before is replaced, not followed."""
    path = tmp_path / "machine.json"
    odd = {"../../x y": send(["one"], "commands"), "x y": send([r"it\'s"], "commands")}
    states = {**odd, "q": send(r"States.Array('\'')")}
    path.write_text(json.dumps({"StartAt": "q", "States": states}))
    folder, outside = tmp_path / "out", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("kept")
    (folder / "x-y.sh").symlink_to(outside)
    run(path, "--script", folder)
    run(path, "--script", folder)
    found = {file.name: file.read_text() for file in folder.iterdir()}
    assert found == {
        **{"x-y.sh": "one\n", "x-y-2.sh": "it\\'s\n"},
        **{"q.documented.sh": "'\n", "q.observed.sh": "\\'\n"},
    }
    assert {stat.S_IMODE(file.lstat().st_mode) for file in folder.iterdir()} == {0o600}
    assert outside.read_text() == "kept"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["machine.json", "out", "outside"]


YAML = """
AWSTemplateFormatVersion: 2010-09-09
Resources:
  Plain:
    Properties:
      Definition:
        StartAt: A
        States:
          A:
            Type: Task
            Resource: !Sub arn:${AWS::Partition}:states:::aws-sdk:ssm:sendCommand
            Parameters: {Parameters: {commands: [!Sub 'echo ${AWS::Region}', !Ref Bucket]}}
            End: true
  Text:
    Properties:
      DefinitionString: !Join ['', ['%s', !GetAtt Role.Arn, '%s']]
"""


def test_definitions_are_found_in_templates(tmp_path: Path) -> None:
    """As an object and as text that functions of CloudFormation make; what they replace is said."""
    head, tail = json.dumps(machine(B=send(["echo @"], "commands"))).split("@")
    path = tmp_path / "template.yaml"
    path.write_text(YAML % (head, tail))
    out = run(path)
    assert "# in Resources.Plain.Properties.Definition\n! it holds ${…}" in out
    assert "  1  echo ${AWS::Region}\n  2  ${Bucket}\n" in out
    assert "# in Resources.Text.Properties.DefinitionString\n! it holds ${…}" in out
    assert "  1  echo ${Role.Arn}\n" in out


GOOD = json.dumps(machine(A=send(["x"], "commands"))).encode()


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (b"{", (), "is not JSON"),
        (b"[1, 2]", (), "holds no state machine"),
        (b"a: [", (), "is not YAML"),
        (b"a: &x [1]\nb: *x", (), "has an alias"),
        (b"? [1]\n: 2", (), "is not YAML"),
        (b"\xff\xfe", (), "is not text in UTF-8"),
        (b'{"StartAt": "\\ud800", "States": {}}', (), "is not text in UTF-8"),
        (b"[" * 100_000, (), "nests too deep"),
        (GOOD, ("--input", "{'a': 1}"), "is not JSON"),
        (GOOD, ("--input", "NaN"), "NaN is not JSON"),
        (GOOD, ("--start-time", "2026-05-17"), "is not a moment"),
        (GOOD, ("--start-time", "0001-01-01T00:00:00+02:00"), "is not a moment"),
        (GOOD, ("--name", "a b"), "is not an execution's name"),
        (GOOD, ("--name", "a" * 81), "is not an execution's name"),
    ],
)
def test_bad_input_is_a_usage_error(
    tmp_path: Path, data: bytes, arguments: tuple[str, ...], message: str
) -> None:
    """Exit 2, with the file or the option that it came from."""
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=message):
        run(path, *arguments)
