"""Choice rules: what an input decides, and what is left to a run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shim.asl.choice import decide
from shim.asl.render import render
from shim.asl.values import Text, Unknown, Value
from tests.definitions import machine, send

INPUT: dict[str, Value] = {
    **{"text": "abc", "five": 5, "yes": True, "none": None, "later": Unknown("A")},
    **{"day": "2026-05-17T00:00:00Z", "open": Text(("x", Unknown("A")))},
}


def on(name: str, **more: Any) -> dict[str, Any]:
    """Return a rule on a field."""
    return {"Variable": f"$.{name}", **more}


TRUE, FALSE, OPEN = on("yes", IsPresent=True), on("yes", IsPresent=False), on("later", IsNull=True)


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        *((on("no", IsPresent=True), False), (on("no", IsPresent=False), True)),
        *((TRUE, True), (FALSE, False), (OPEN, None), (on("later", IsPresent=True), None)),
        *((on("no", StringEquals="x"), None), (on("none", IsNull=True), True), ({}, None)),
        *((on("text", IsString=True), True), (on("five", IsString=True), False)),
        *((on("five", IsNumeric=True), True), (on("yes", IsNumeric=True), False)),
        *((on("yes", IsBoolean=True), True), (on("text", IsBoolean=False), True)),
        *((on("open", IsString=True), True), (on("open", StringEquals="x"), None)),
        *((on("text", StringEquals="abc"), True), (on("five", StringEquals="5"), False)),
        *((on("text", StringLessThan="abd"), True), (on("text", StringGreaterThan="abd"), False)),
        *((on("five", NumericEquals=5), True), (on("yes", NumericEquals=1), False)),
        *((on("five", NumericLessThanEquals=5.5), True), (on("five", NumericGreaterThan=5), False)),
        *((on("yes", BooleanEquals=True), True), (on("text", BooleanEquals=True), False)),
        (on("text", StringEqualsPath="$.text"), True),
        (on("text", StringEqualsPath="$.no"), None),
        (on("text", StringEqualsPath="$.later"), None),
        (on("day", TimestampLessThan="2026-05-17T02:00:00+01:00"), True),
        (on("day", TimestampEqualsPath="$.text"), None),
        *((on("text", StringMatches="a*c"), True), (on("text", StringMatches="a*b"), False)),
        *((on("text", StringMatches="*b*"), True), (on("text", StringMatches="ab*bc"), False)),
        (on("text", StringMatches="a*b*bc"), False),
        *((on("text", StringMatches=r"a\*c"), False), (on("text", StringMatches="a\\c"), None)),
        *((on("five", StringMatches="*"), False), (on("text", Unheard="x"), None)),
        *(({"Not": TRUE}, False), ({"Not": OPEN}, None), ({"And": []}, None)),
        *(({"And": [TRUE, TRUE]}, True), ({"And": [OPEN, FALSE]}, False)),
        *(({"And": [TRUE, OPEN]}, None), ({"Or": [OPEN, TRUE]}, True)),
        *(({"Or": [FALSE, FALSE]}, False), ({"Or": [FALSE, OPEN]}, None)),
    ],
)  # fmt: skip
def test_a_rule_is_decided_only_by_what_is_known(
    rule: dict[str, Any], verdict: bool | None
) -> None:
    """Three values: holds, does not, or left to a run."""
    assert decide(rule, INPUT, {}) is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        *(("2026-05-17T00:00:00Z", True), ("2026-05-17T00:00:00.123+02:00", True)),
        *(("2026-05-17; touch /tmp/xT00:00:00Z", False), ("$(id)T00:00:00Z", False)),
        *(("2026-05-17T00:00:00Z\n", False), ("2026-02-30T00:00:00Z", None)),
        *(("20260517T00:00:00Z", None), ("2026-W20-1T00:00:00Z", None), (5, False)),
    ],
)
def test_a_timestamp_is_decided_where_all_engines_agree(text: Value, verdict: bool | None) -> None:
    """Hostile text is none; other forms of ISO 8601 and days that no month has stay open."""
    assert decide(on("t", IsTimestamp=True), {"t": text}, {}) is verdict


def test_a_field_that_only_one_way_adds_is_a_hole() -> None:
    """The input that both ways share is known, the rest is not."""
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "ResultPath": "$.r"}
    choice = {"Type": "Choice", "Choices": [on("r.x", IsNull=True, Next="C")], "Default": "D"}
    found = render(
        machine(
            A={**task, "Next": "B"},
            B=choice,
            C={"Type": "Pass", "Result": 1, "ResultPath": "$.added", "Next": "D"},
            D=send("States.Array($.day,States.Format('{}',$.added))"),
        ),
        {"day": "2026-05-17"},
    )
    assert found.commands[0].texts() == ("2026-05-17", "<D.input.added>")


def test_a_map_that_is_entered_again_forgets_its_first_items() -> None:
    """The item of the second turn is another one, although the inner state's input is the same."""
    item = send("States.Array($$.Map.Item.Value,States.Format('{}',$.x))")
    each = {
        **{"Type": "Map", "ItemsPath": "$.names", "ItemSelector": {"x": 1}, "ResultPath": None},
        **{"ItemProcessor": {"StartAt": "Item", "States": {"Item": item}}, "Next": "Again"},
    }
    again = {"Type": "Pass", "Result": ["b"], "ResultPath": "$.names", "Next": "Each"}
    found = render(machine(Each=each, Again=again), {"names": ["a"]})
    assert found.commands[0].texts() == ("<Each.input.names[0]>", "1")


def test_a_parameter_that_is_no_line_is_not_looked_at() -> None:
    """A path to a timeout that the input does not have is no reason for a hole."""
    state = send("States.Array('x')")
    state["Parameters"]["Parameters"]["executionTimeout.$"] = "$.no"
    (found,) = render(machine(A=state)).commands
    assert (found.texts(), found.problems) == (("x",), ())


def test_a_long_loop_is_given_up() -> None:
    """In each turn one more of a thousand fields becomes unknown; after some, all of them are."""
    fields = {f"f{number}.$": f"$.f{number + 1}" for number in range(1000)}
    shift = {"Type": "Pass", "Parameters": {**fields, "f1000": 1}, "Next": "B"}
    loop = machine(A=shift, B=send("$.f0", ResultPath=None, End=False, Next="A"))
    started = time.monotonic()
    found = render(loop, {**{f"f{number}": 1 for number in range(1000)}, "f1000": 2})
    assert time.monotonic() - started < 1.5
    assert found.commands[0].texts() == ("<B.input.f0>",)
