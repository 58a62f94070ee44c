"""The section [state_machine] is read strictly, and the command that builds from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shim.asl import build, table
from shim.asl.build_command import build_command
from shim.errors import PipelineError
from shim.pipeline import parse
from tests.machines import OURS, WEEKLY, built, every_table, read, text_of

STAGE = ("stage", 0)
SECTION = ("state_machine",)
MISTAKES: list[tuple[tuple[str | int, ...], object, tuple[str, ...]]] = [
    (SECTION, 5, ("there is no [state_machine]", "infrastructure/pipeline.toml")),
    ((*SECTION, "polls"), "30s", ("unknown key 'polls' of [state_machine]", "did you mean poll?")),
    ((*SECTION, "poll"), "soon", ("poll of [state_machine] is 'soon'", "30s")),
    ((*SECTION, "backoff"), "25h", ("backoff of [state_machine] is '25h'", "24h")),
    ((*SECTION, "delivery"), 5, ("delivery of [state_machine] is 5 s", "30 to 2592000")),
    ((*SECTION, "tries"), 0, ("tries of [state_machine] is 0", "1 to 20")),
    ((*SECTION, "tries"), True, ("tries of [state_machine] is True",)),
    ((*SECTION, "before"), "cd /x", ("before of [state_machine] is 'cd /x'", "list")),
    ((*SECTION, "before"), ["echo 'x'"], ("before of [state_machine] holds a quote", "script")),
    ((*SECTION, "before"), ["cd /x\nls"], ("before of [state_machine] holds", "'cd /x\\nls'")),
    ((*SECTION, "dry_run"), "--dry='x'", ("dry_run of [state_machine] holds a quote",)),
    ((*SECTION, "dry_run"), 5, ("dry_run of [state_machine] is 5",)),
    ((*SECTION, "on"), "", ("on of [state_machine] is ''",)),
    ((*SECTION, "on"), "a\\b", ("launch of [state_machine] holds a quote, a backslash",)),
    ((*SECTION, "launch"), "x {slog}", ("unknown field 'slog'", "did you mean slug?")),
    ((*SECTION, "launch"), "x ${{HOME}}", ("launch of [state_machine] holds", "a brace")),
    ((*SECTION, "launches"), {"parety": "x"}, ("'parety', which is no stage", "mean parity?")),
    ((*SECTION, "launches"), {"parity": 5}, ("parity of launches of [state_machine] is 5",)),
    ((*SECTION, "launches"), [], ("write [state_machine.launches]",)),
    ((*SECTION, "parallel"), ["parity"], ("parallel of [state_machine] is ['parity']",)),
    ((*SECTION, "parallel"), [["parity"]], ("two stages or more",)),
    ((*SECTION, "parallel"), [["parity", "x"]], ("'x', which is no stage",)),
    ((*SECTION, "parallel"), [["backtest", "parity"]], ("parity beside backtest, which it needs",)),
    ((*SECTION, "defaults"), {"run_date": "2026-05-17"}, ("one date for ever",)),
    ((*SECTION, "defaults"), {"mode": "x"}, ("the key 'mode' of defaults",)),
    ((*SECTION, "defaults"), {"a-b": "x"}, ("the key 'a-b' of defaults",)),
    ((*SECTION, "defaults"), {"a": [1]}, ("a of defaults of [state_machine] is [1]",)),
    ((*SECTION, "defaults"), {"a": "it's"}, ("a of defaults of [state_machine] holds a quote",)),
    ((*SECTION, "defaults"), {"skip_parity": 1}, ("skip_parity of defaults", "true or false")),
    ((*SECTION, "definition"), 5, ("definition of [state_machine] is 5",)),
    ((*STAGE, "timeout"), "48h", ("timeout of stage backtest is 172800 s", "at most 172500 s")),
    ((*STAGE, "state"), "Back'test", ("state of stage backtest is",)),
    ((*STAGE, "state"), "x" * 61, ("state of stage backtest is", "up to 60")),
    ((*STAGE, "state"), "NotifyComplete", ("two states would be called 'NotifyComplete'",)),
    ((*SECTION, "poll"), 1, ("events, AWS allows 25000", "raise poll")),
]


@pytest.mark.parametrize(("place", "value", "says"), MISTAKES, ids=str)
def test_a_mistake_in_the_section_is_named(
    place: tuple[str | int, ...], value: object, says: tuple[str, ...]
) -> None:
    """Exit 78, with the key, the value and the nearest right one."""
    found: Any = read(OURS)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(PipelineError) as caught:
        build.definition(table.parse(parse(found, OURS)))
    assert caught.value.code == 78
    for words in says:
        assert words in str(caught.value)


def test_two_stages_with_one_switch_are_refused() -> None:
    """`a-b` and `a_b` would both be skipped by `skip_a_b`."""
    found = read(OURS)
    found["stage"] = [{"name": name, "command": ["x"], "timeout": 9} for name in ("a-b", "a_b")]
    found["stage"][1]["state"] = "Other"
    with pytest.raises(PipelineError, match="both skipped by skip_a_b"):
        table.parse(parse(found, OURS))


def test_stages_of_a_group_stand_together() -> None:
    """And a stage is in one group: a step is a place in the order."""
    found = read(WEEKLY)
    for parallel in (
        [["rag-ingestion", "backtester"]],
        [["drift-detection", "backtester"], ["backtester", "drift-detection"]],
        [["drift-detection", "drift-detection"]],
    ):
        found["state_machine"]["parallel"] = parallel
        with pytest.raises(PipelineError, match=r"parallel of \[state_machine\]"):
            table.parse(parse(found, WEEKLY))


def test_an_execution_that_would_outlive_a_year_is_refused() -> None:
    """I28: no outer timeout could be larger than its inner ones."""
    with pytest.raises(PipelineError, match="AWS allows 31536000"):
        built(WEEKLY, {"backoff": "24h", "tries": 12, "poll": "24h"})


def test_a_launch_on_spot_has_the_time_of_all_its_instances() -> None:
    """I28: SSM ends a launcher after its last instance, with the waits between them."""
    spot = {"launch_template": "x", "types": ["c5.large"], "attempts": 3, "backoff": "10m"}
    found = {**read(OURS), "spot": spot}
    rows = table.parse(parse(found, OURS)).rows
    for row in rows:
        instances = 3 * (row.stage.timeout + 1800 + 600)
        assert row.seconds == instances + 600 + 900
        assert row.execution_timeout == row.seconds + 300
    found["state_machine"] = {"on": "here"}
    assert [row.seconds for row in table.parse(parse(found, OURS)).rows] == [
        row.stage.timeout for row in rows
    ]
    found["state_machine"] = {"on": "spot", "poll": "5m"}
    spot["attempts"] = 20
    with pytest.raises(PipelineError, match=r"timeout of stage backtest .* all its launches"):
        table.parse(parse(found, OURS))


def command(*words: str | Path) -> tuple[int, str]:
    """Run `shim asl build` and return its code and what it said."""
    done = CliRunner().invoke(build_command, [str(word) for word in words])
    return done.exit_code, done.output


def test_the_command_writes_what_the_check_accepts(tmp_path: Path) -> None:
    """And a stale or missing file is exit 1, in one line that says what to do."""
    target = tmp_path / "out.json"
    words = ("--pipeline", WEEKLY, "--output", target)
    code, says = command(*words, "--check")
    assert code == 1
    assert "write it with: shim asl build" in says
    assert says.count("\n") == 1
    assert not target.exists()
    assert command(*words) == (0, "")
    assert target.read_text() == text_of(WEEKLY)
    assert command(*words, "--check") == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    target.write_text(target.read_text().replace("false", "true", 1))
    assert command(*words, "--check")[0] == 1
    assert command("--pipeline", WEEKLY, "--output", "-") == (0, text_of(WEEKLY))


@every_table
def test_the_checked_in_files_pass_the_check(path: Path) -> None:
    """Without --output the file is the one that the table names, beside it."""
    assert command("--pipeline", path, "--check") == (0, "")
