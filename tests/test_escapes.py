"""What comes from records, tables and AWS is shown to a person, and obeyed by no terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim import closing, launch, sinks
from shim.asl import lint
from shim.closing import Row
from shim.ec2 import Instance
from shim.errors import printable
from shim.follow import _gone
from shim.launch import Launch
from shim.outcome import Result
from shim.store import open_store
from tests.children import until
from tests.foreign import CLAIM, CLAIM_KEY, CLOSED, ENTRY, LAUNCH, LAUNCH_KEY, RECEIPT_KEY, put
from tests.stages import PREFIX, Table

HOSTILE = "\x1b]0;x\x07\x1b[2Jred\r\nfake\x7f\x9b\u202e\u2028\ud800"
ESCAPED = r"\x1b]0;x\x07\x1b[2Jred\r\nfake\x7f\x9b\u202e\u2028\ud800"


def assert_plain(text: str) -> None:
    """No line holds what a terminal obeys."""
    assert all(line.isprintable() for line in text.split("\n")), text
    assert ESCAPED in text


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """A table of three stages and a directory."""
    table = Table(tmp_path, open_store(str(tmp_path / "a store")))
    table.three()
    return table


@given(st.text())
def test_a_text_becomes_one_line_that_can_be_printed(text: str) -> None:
    """I72: whatever it is; what can be printed stays as it is."""
    line = printable(text)
    assert line.isprintable()
    assert "\n" not in line
    line.encode()  # no surrogate is left
    assert line == text or not text.isprintable()


def test_status_shows_records_escaped(local: Table) -> None:
    """I72: each of their texts, in columns of the width of what is shown; JSON says the same."""
    odd = {"execution_id": HOSTILE, "opened": HOSTILE, "closed": HOSTILE, "error": HOSTILE}
    put(local.store, RECEIPT_KEY, {**CLOSED, **odd, "outcome": HOSTILE})
    texts = ("outcome", "type", "market", "zone")
    put(local.store, LAUNCH_KEY, {**LAUNCH, **dict.fromkeys(texts, HOSTILE)})
    put(local.store, launch.key(PREFIX, "l-2"), {**LAUNCH, "launch": HOSTILE})
    put(local.store, CLAIM_KEY, {**CLAIM, "open": {HOSTILE: ENTRY}})
    done = local.run("status")
    assert done.returncode == 69
    assert_plain(done.stdout)
    lines = done.stdout.splitlines()
    (head,) = [line for line in lines if line.startswith("stage")]
    (row,) = [line for line in lines if line.startswith("parity")]
    assert row[head.index("since") :].startswith(ESCAPED)
    (head,) = [line for line in lines if line.startswith("launch")]
    (row,) = [line for line in lines if line.startswith("l-1")]
    assert row[head.index("USD/h") :].startswith("0.0500 ")
    document = local.run("status", "--json").stdout
    assert "\x1b" not in document
    assert json.loads(document)["stages"][1]["last"]["error"] == HOSTILE


def test_who_owns_a_stage_is_said_escaped(local: Table) -> None:
    """I72: on stderr, on one line, with the code of ever."""
    put(local.store, CLAIM_KEY, {**CLAIM, "open": {"parity": {**ENTRY, "host": HOSTILE}}})
    done = local.run("stage", "parity", "--quiet")
    assert done.returncode == 75
    assert_plain(done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_a_command_of_the_table_is_shown_escaped(local: Table) -> None:
    """I72: one line a stage; what runs and what --json says is the command itself."""
    script = 'printf "\x1b[31m"\nprintf x > "$ARTIFACTS_DIR/odd.txt"'
    local.stage("odd", script)
    shown = local.run("plan").stdout
    assert r'printf "\x1b[31m"\nprintf x' in shown
    assert all(line.isprintable() for line in shown.split("\n"))
    assert json.loads(local.run("plan", "--json").stdout)["stages"][-1]["command"][-1] == script


def test_what_a_stage_prints_is_passed_on_as_it_is(local: Table) -> None:
    """I72: a stage may use colours; its output is not ours to change."""
    local.stage("red", 'printf "\\033[31mred\\033[0m\\n"; echo > "$ARTIFACTS_DIR/red.txt"')
    assert "\x1b[31mred\x1b[0m\n" in local.run("stage", "red").stdout
    assert local.log("red").startswith("\x1b[31mred\x1b[0m\n")


def test_a_launch_is_followed_to_an_escaped_end(s3_uri: str, tmp_path: Path) -> None:
    """I72: its outcome and why. And I55: a record that is none is exit 73, at once."""
    table = Table(tmp_path, open_store(s3_uri))
    put(table.store, LAUNCH_KEY, {**LAUNCH, "outcome": HOSTILE, "error": HOSTILE, "code": 7})
    uri = table.store.uri_of(LAUNCH_KEY)
    command = [*table.command("follow")[:3], uri]
    done = table._run(command, {})
    assert done.returncode == 7
    assert_plain(done.stderr)
    put(table.store, LAUNCH_KEY, {"state": "closed", "launch": "l-1", "code": 256})
    done = table._run(command, {})
    assert (done.returncode, f"{uri} cannot be read (code is 256" in done.stderr) == (73, True)


def test_the_closing_tables_are_escaped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """I72: that of launches, and the three lines of a stage that the entry's is made of."""
    row = Row.of({"launch": HOSTILE, "instance": HOSTILE, "type": HOSTILE}, HOSTILE, 1.0)
    table = closing.table([row])
    assert_plain(table)
    assert len(table.splitlines()) == 2
    report = tmp_path / "report"
    Result(HOSTILE, 1.0, HOSTILE).write(report)
    assert report.read_text().splitlines() == [ESCAPED, "1", ESCAPED]
    sinks.say(_gone(Instance("i-1", "terminated", message=HOSTILE), overdue=False).why)
    sinks.say("x" * 5000)
    first, second = capfd.readouterr().err.splitlines()
    assert_plain(first)
    assert len(second) == 4095


def test_what_lint_finds_is_shown_escaped() -> None:
    """I72: the names of states are those of whoever wrote the definition."""
    commands = [f"{HOSTILE[:-1]} | tee log"]
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:ssm:sendCommand",
        "Parameters": {"Parameters": {"commands": commands}, "DocumentName": "AWS-RunShellScript"},
        "End": True,
    }
    name = HOSTILE.removesuffix("\ud800")
    definition = json.dumps({"StartAt": name, "States": {name: state}})
    found = lint.as_text(lint.lint(definition.encode(), "-"))
    assert ESCAPED.removesuffix(r"\ud800") in found
    assert all(line.isprintable() for line in found.split("\n"))


def test_an_open_launch_is_shown_escaped(local: Table) -> None:
    """I72: also one that runs."""
    alive = Launch(local.store, PREFIX, {"launch": "l-1", "zone": HOSTILE})
    alive.open()
    alive.release()
    assert_plain(until(lambda: local.run("status").stdout))
