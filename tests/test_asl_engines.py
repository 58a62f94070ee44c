"""What `render` shows is what other engines send, or a difference that docs/engines.md names."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from shim import clock
from shim.asl.render import render
from shim.asl.values import Reading
from tests.entry import ROOT
from tests.hostile import BATCH, Element, bare
from tests.lab import engines
from tests.lab.engines import Case, Run, Sent
from tests.lab.stepfunctions import INPUT, Engine
from tests.machines import built, every_table, read, states

PAGE = (ROOT / "docs" / "engines.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
START = "$$.Execution.StartTime"
GIVEN: tuple[dict[str, Any], ...] = (
    {"run_date": "2026-05-17"},
    {"run_date": "2024-02-29", "dry_run": True},
    {},
)


@pytest.fixture(scope="module")
def ministack(lab: Engine) -> Run:
    """The lab's engine."""
    return engines.ministack(lab)


@pytest.fixture(scope="module")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One process of npm's engine."""
    with engines.npm(tmp_path_factory.mktemp("npm") / "log") as run:
        yield run


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One process of moto's engine."""
    with engines.moto(tmp_path_factory.mktemp("moto") / "log") as run:
        yield run


def whole(path: Path, **more: Any) -> Case:
    """Return an execution of a whole definition, every stage of it."""
    slugs = [row["name"] for row in read(path)["stage"]]
    return Case(built(path), {**INPUT, **more}, slugs)


def rendered(case: Case, start: str | None = None) -> list[tuple[str, ...]]:
    """Return what each state of a case would send, in the order of their texts."""
    found = render(case.definition, dict(case.given), start, case.name).commands
    assert all(each.reached and not each.problems and not each.differs for each in found)
    return sorted(each.texts() for each in found)


def agree(case: Case, sent: Sent, starts: Collection[str | None] = (None,)) -> None:
    """Assert that an engine ran to the end, and sent what is rendered for one of the starts."""
    assert sent.error == ""
    assert len(sent.commands) == len(case.slugs)
    assert sorted(sent.commands) in [rendered(case, start) for start in starts]


@every_table
def test_ministack_sends_what_is_rendered(path: Path, ministack: Run) -> None:
    """I02, I29: each line of each stage, by hand and today, real and dry."""
    cases, days = [whole(path, **more) for more in GIVEN], [clock.utc_now().date()]
    found = ministack(cases)
    days.append(clock.utc_now().date())
    for case, sent in zip(cases, found, strict=True):
        agree(case, sent, {f"{day}T00:00:00.000Z" for day in days})


@every_table
def test_npm_sends_what_is_rendered(path: Path, npm: Run) -> None:
    """I02: and no parenthesis stands alone in a literal, for it counts those within quotes."""
    cases, days = [whole(path, **more) for more in GIVEN], [clock.utc_now().date()]
    found = npm(cases)
    days.append(clock.utc_now().date())
    for case, sent in zip(cases, found, strict=True):
        agree(case, sent, {f"{day}T00:00:00.000Z" for day in days})


@every_table
def test_moto_sends_what_is_rendered_but_cannot_read_the_start(path: Path, moto: Run) -> None:
    """With the start as text, and without waits, which moto cannot shorten."""
    case = whole(path, dry_run=True)
    (failed,) = moto([case])
    assert failed.commands == ()
    assert "datetime" in failed.error
    text = json.dumps(case.definition)
    assert text.count(START) == 1
    definition = json.loads(text.replace(START, "'2026-05-17T23:59:59.000Z'"))
    for state in states(definition).values():
        if state["Type"] == "Wait":
            state["Seconds"] = 0
            state.pop("SecondsPath", None)
    given = {**case.given, "sns_topic_arn": "arn:aws:sns:us-east-1:123456789012:t"}
    case = Case(definition, given, case.slugs)
    (sent,) = moto([case])
    agree(case, sent)


def sender(elements: Sequence[str], values: Mapping[str, Any]) -> Case:
    """Return an execution that sends an array of these expressions after a line of its own."""
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:ssm:sendCommand",
        "Parameters": {
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": [INPUT["ec2_instance_id"]],
            "Comment.$": "$$.Execution.Name",
            "Parameters": {"commands.$": f"States.Array('x --slug one', {', '.join(elements)})"},
        },
        "ResultPath": None,
        "End": True,
    }
    return Case({"StartAt": "Send", "States": {"Send": task}}, values, ["one"])


# A shrunk batch would take minutes; what failed is one case of it, in the message.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def check(batch: Sequence[Sequence[Element]], ministack: Run, npm: Run) -> None:
    """Assert for each case that both engines send what is rendered, but for named differences."""
    cases = [
        sender(
            [element.expression for element in case],
            {name: text for element in case for name, text in element.values.items()},
        )
        for case in batch
    ]
    for engine, sent in (("ministack", ministack(cases)), ("npm", npm(cases))):
        for case, members, found in zip(cases, batch, sent, strict=True):
            if engine == "npm" and any(member.misread_by_npm for member in members):
                continue
            (commands,) = render(case.definition, dict(case.given), None, case.name).commands
            assert commands.problems == ()
            first, *lines = commands.texts(Reading.OBSERVED)
            expected = [
                getattr(member, engine)(line) for member, line in zip(members, lines, strict=True)
            ]
            assert found == Sent(((first, *expected),), ""), (engine, case)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(batch=BATCH)
def test_hostile_commands_are_sent_as_rendered(
    ministack: Run, npm: Run, batch: Sequence[Sequence[Element]]
) -> None:
    """I02: any text, in every way to write it, and each difference is as docs/engines.md says."""
    check(batch, ministack, npm)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(batch=BATCH)
def test_many_hostile_commands_are_sent_as_rendered(
    ministack: Run, npm: Run, batch: Sequence[Sequence[Element]]
) -> None:
    """The same, for six thousand commands."""
    check(batch, ministack, npm)


def cell(sent: Sent) -> str:
    """Return an engine's lines as a cell of the page."""
    if sent.error or not sent.commands:
        return "fails"
    return ", ".join(f"`{'null' if line is None else line}`" for line in sent.commands[0][1:])


def measured(expressions: Sequence[str], engines: Sequence[Run]) -> Iterator[list[str]]:
    """Return the row of the page for each expression."""
    block = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    cases = [sender([expression], json.loads(block[1])) for expression in expressions]
    sent = [run(cases) for run in engines]
    for expression, case, *found in zip(expressions, cases, *sent, strict=True):
        (commands,) = render(case.definition, dict(case.given), None, case.name).commands
        texts = [commands.texts(reading) for reading in Reading]
        shown = [Sent((each,) if len(each) > 1 else (), "") for each in texts]
        yield [f"`{expression}`", *map(cell, [*shown, *found])]


def test_the_page_names_the_differences_that_are_there(ministack: Run, npm: Run, moto: Run) -> None:
    """Every cell of docs/engines.md is what that engine gives, and every row is a difference."""
    rows = [row for row in ROWS if len(row) == 6]
    assert len(rows) > 30
    expressions = [row[0].strip("`") for row in rows]
    assert list(measured(expressions, (ministack, npm, moto))) == rows
    assert all(len(set(row[1:])) > 1 for row in rows)


def test_the_page_names_the_dates_on_which_engines_differ(ministack: Run, npm: Run) -> None:
    """The definition refuses all that is no date, but for these: the shim is the second line."""
    dates = [row for row in ROWS if len(row) == 3]
    path = ROOT / "infrastructure" / "pipeline.toml"
    for date, *expected in dates:
        found = [
            "sent" if run([whole(path, run_date=date.strip("`"))])[0].commands else "refused"
            for run in (ministack, npm)
        ]
        assert (date, found) == (date, expected)
    assert any("sent" in row and "refused" in row for row in dates)


def test_an_engine_that_damages_text_is_noticed(npm: Run) -> None:
    """The comparison can fail: npm's engine as if it were taken at its word."""
    element = Element("States.Format('{}', $.v)", {"v": "a\\b"})
    with pytest.raises(AssertionError):
        check([[element]], lambda cases: [Sent((("x --slug one", "a\\b"),), "")] * len(cases), npm)
    kept = Element("States.Format('{}', $.v)", {"v": "a\\b"}, npm=bare)
    check([[kept]], lambda cases: [Sent((("x --slug one", "a\\b"),), "")] * len(cases), npm)
