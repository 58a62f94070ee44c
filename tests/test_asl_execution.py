"""The built definitions executed: one date, the input's say, and what is skipped."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shim.asl.render import render
from tests.executions import DAY, EIGHT, GIVEN, STAGES, definition, document, ends, stages
from tests.lab.stepfunctions import INPUT, Engine
from tests.machines import OURS, WEEKLY, changed, read


def test_three_stages_get_one_date_one_name_and_no_home(lab: Engine) -> None:
    """I01, I02: what the program of the launch line gets, having gone through ASL, SSM and sh."""
    name = "it's(a)+b=c@d!"
    found = lab.run(definition(lab), GIVEN, name=name)
    assert (found.status, found.error) == ("SUCCEEDED", "")
    assert [ran.stage for ran in found.ran] == list(STAGES)
    for ran in found.ran:
        assert (ran.run_date, ran.execution_id) == (DAY, name)
        assert (ran.cwd, ran.home) == (str(lab.folder), "no HOME")
        slug = ran.stage
        log = f"/var/log/{slug}.log"
        launch = ["-m", "shim", "capture", "--slug", slug, "--log", log, "--", "bash"]
        assert list(ran.arguments) == [
            *launch,
            *("spot_backtest.sh", "--on=spot", f"--only-stages={slug}"),
        ]
    assert found.messages == [
        ("Pipeline complete", f"Execution {name} of run date {DAY} is complete.")
    ]


def test_the_date_of_the_start_is_the_default_and_the_input_wins(lab: Engine) -> None:
    """I29: the order of JsonMerge, by executing it; swapped, the input loses."""
    right = document(lab)

    def swap(found: Any) -> None:
        found["MergeInput"]["Parameters"] = {
            "merged.$": "States.JsonMerge($.input, $.defaults, false)"
        }

    today = {datetime.now(UTC).strftime("%F")}
    text = json.dumps(right)
    arns = {
        "default": lab.start(text, INPUT),
        "input": lab.start(text, {**GIVEN, "dry_run": True}),
        "swapped": lab.start(changed(right, swap), {**GIVEN, "dry_run": True}),
    }
    found = dict(ends(lab, arns))
    today.add(datetime.now(UTC).strftime("%F"))
    assert {ran.run_date for ran in found["default"].ran} <= today
    assert len({ran.run_date for ran in found["default"].ran}) == 1
    assert [(ran.run_date, ran.arguments[-1]) for ran in found["input"].ran] == [
        (DAY, "--dry-run")
    ] * 3
    assert {ran.run_date for ran in found["swapped"].ran} <= today
    assert "--dry-run" not in found["swapped"].ran[0].arguments


HOSTILE: list[object] = [
    *("2026-05-17; touch /tmp/x", "$(id)", "2026-13-01", "", "2026-05-17\n", "2026-5-7"),
    *("`id`", "2026-05-17 ", " 2026-05-17", "2026-05-17T00:00:00Z", "20260517", "2026-W20-1"),
    *(
        "2026-05-17'; id #",
        "../x",
        "today",
        "$.run_date",
        "2026-02-30x",
        "\N{ARABIC-INDIC DIGIT TWO}",
    ),
    *(5, None, True, [DAY], {"a": DAY}),
]


def test_what_is_no_date_ends_at_once_and_no_command_is_sent(lab: Engine) -> None:
    """I39: the execution fails in a state that says what was wrong."""
    text = definition(lab)
    arns = {json.dumps(value): lab.start(text, {**INPUT, "run_date": value}) for value in HOSTILE}
    for value, found in ends(lab, arns):
        assert (found.status, found.error) == ("FAILED", "InvalidRunDate"), value
        assert "run_date of the input is " in found.cause
        assert "give a date as 2026-05-17" in found.cause
        assert (found.calls, found.ran) == ((), ()), value


def test_an_input_that_lacks_or_mistypes_something_ends_at_once(lab: Engine) -> None:
    """I30: every later path, the handler's too, has what it reads."""
    text = definition(lab)
    # Not null, which AWS calls present and this engine absent: it ends at once, or skips nothing.
    wrong: list[dict[str, object]] = [
        {"ec2_instance_id": None},
        {"ec2_instance_id": ""},
        {"sns_topic_arn": 5},
        {"skip_parity": "true"},
        {"dry_run": "; touch /tmp/x"},
    ]
    arns = {json.dumps(each): lab.start(text, {**GIVEN, **each}) for each in wrong}
    for key in INPUT:
        arns[f"no {key}"] = lab.start(text, {k: v for k, v in GIVEN.items() if k != key})
    for what, found in ends(lab, arns):
        assert (found.status, found.error) == ("FAILED", "InvalidInput"), what
        assert "sns_topic_arn must be texts" in found.cause
        assert (found.calls, found.ran) == ((), ()), what


def test_no_other_text_of_the_input_reaches_a_shell(lab: Engine) -> None:
    """I39: whatever the input says, the scripts are the same, but for the date."""
    text = definition(lab)
    evil = "; touch /tmp/x"
    names = [base64.b64encode(f"xxxxx{end}".encode()).decode() for end in "ab"]
    keys = ("mode", "work", "command", "result", "error", "failure", "check", "defaults", "input")
    given: dict[str, Any] = {key: {"suffix": evil, "id": evil, "tries": 99} for key in keys}
    given |= {"suffix": evil, "slug": evil, "launch": evil, "EXECUTION_ID": evil}
    plain, found = (
        lab.run(text, {**GIVEN, **more}, name=f"xxxxx{n}") for n, more in (("a", {}), ("b", given))
    )
    assert found.status == "SUCCEEDED"
    scripts = [
        [
            [line for line in call["params"]["Parameters"]["commands"] if line not in names]
            for call in each.calls
            if call["action"] == "sendCommand"
        ]
        for each in (plain, found)
    ]
    assert scripts[0] == scripts[1]
    assert len(scripts[0]) == 3


@pytest.mark.parametrize("path", [OURS, WEEKLY], ids=lambda path: path.parent.name)
def test_the_engine_sends_the_lines_that_render_shows(lab: Engine, path: Path) -> None:
    """Two interpreters agree on every line of every state, in order.

    I25: the weekly one has an environment file with another RUN_DATE, and ours wins.
    """
    whole = document(lab, path)
    found = lab.run(json.dumps(whole), {**GIVEN, "dry_run": True}, name=f"agree-{path.parent.name}")
    sent = {
        call["slug"]: tuple(call["params"]["Parameters"]["commands"])
        for call in found.calls
        if call["action"] == "sendCommand"
    }
    shown = render(whole, {**GIVEN, "dry_run": True}, None, found.name).commands
    assert sorted(sent.values()) == sorted(commands.texts() for commands in shown)
    assert len(sent) == len(found.ran) == len(read(path)["stage"])
    assert {ran.run_date for ran in found.ran} == {DAY}


def test_every_skip_combination_runs_exactly_the_rest(lab: Engine) -> None:
    """I15: skipping one stage skips that one; false and missing are the same."""
    text = definition(lab)
    arns = {}
    for values in itertools.product((True, False, None), repeat=3):
        switches = zip(STAGES, values, strict=True)
        given = {f"skip_{stage}": value for stage, value in switches if value is not None}
        arns[values] = lab.start(text, {**GIVEN, **given})
    for values, found in ends(lab, arns):
        rest = [stage for stage, value in zip(STAGES, values, strict=True) if not value]
        assert found.status == "SUCCEEDED", (values, found.cause)
        assert stages(found) == rest
        assert [ran.stage for ran in found.ran] == rest


def test_each_of_the_eight_is_skipped_alone(lab: Engine) -> None:
    """I15: also inside of the Parallel, where one branch or both may be skipped."""
    text = definition(lab, WEEKLY)
    skips = [(), *((name,) for name in EIGHT), EIGHT[4:6], EIGHT]
    arns = {
        names: lab.start(text, {**GIVEN, **{f"skip_{n.replace('-', '_')}": True for n in names}})
        for names in skips
    }
    for names, found in ends(lab, arns):
        assert found.status == "SUCCEEDED", (names, found.cause)
        assert sorted(stages(found)) == sorted(set(EIGHT) - set(names))
        assert {ran.run_date for ran in found.ran} <= {DAY}
        assert found.messages[0][1].endswith(f"of run date {DAY} is complete.")
