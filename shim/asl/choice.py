"""Choice rules: true, false, or left to a run.

Source: states-language.net, "Choice State". A comparison with a value of another type is false.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from shim.asl import paths
from shim.asl.values import AslError, Text, Unknown, Value
from shim.asl.walk import mapping, sequence

TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
# Engines differ on other forms of ISO 8601 and on days that no month has: those stay open.
NEARLY = re.compile(r"[0-9TtZzWw:.+-]+")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "GreaterThan": operator.gt,
    "LessThanEquals": operator.le,
    "GreaterThanEquals": operator.ge,
}
COMPARISON = re.compile(rf"(String|Numeric|Boolean|Timestamp)({'|'.join(COMPARE)})(Path)?")


def decide(rule: Any, data: Value, context: Value) -> bool | None:
    """Return whether a rule holds for a state's input; None when only a run can tell."""
    rule = mapping(rule)
    if "Not" in rule:
        verdict = decide(rule["Not"], data, context)
        return None if verdict is None else not verdict
    for word, decisive in (("And", False), ("Or", True)):
        if word in rule:
            verdicts = [decide(inner, data, context) for inner in sequence(rule[word])]
            if decisive in verdicts:
                return decisive
            return None if None in verdicts or not verdicts else not decisive
    variable = rule.get("Variable")
    if not isinstance(variable, str):
        return None
    try:
        value = paths.read(variable, data, context)
    except paths.AbsentError:
        return rule["IsPresent"] is False if "IsPresent" in rule else None
    except AslError:
        return None
    if isinstance(value, Unknown):
        return None
    return _test(rule, value, data, context)


def _test(rule: Any, value: Value, data: Value, context: Value) -> bool | None:
    for word, wanted in rule.items():
        if word.startswith("Is") and isinstance(wanted, bool):
            verdict = _is(word, value)
            return None if verdict is None else verdict is wanted
        if word == "StringMatches":
            return _matches(value, wanted)
        if match := COMPARISON.fullmatch(word):
            if match[3]:
                try:
                    wanted = paths.read(str(wanted), data, context)
                except AslError:
                    return None
            return _compare(match[1], COMPARE[match[2]], value, wanted)
    return None


def _is(word: str, value: Value) -> bool | None:
    text = isinstance(value, str | Text)
    if word == "IsTimestamp":
        return _timestamp(value) if text else False
    return {
        "IsPresent": True,
        "IsNull": value is None,
        "IsString": text,
        "IsNumeric": isinstance(value, int | float) and not isinstance(value, bool),
        "IsBoolean": isinstance(value, bool),
    }.get(word)


def _timestamp(value: Value) -> bool | None:
    if not isinstance(value, str):
        return None
    if TIMESTAMP.fullmatch(value) and _moment(value):
        return True
    return None if NEARLY.fullmatch(value) else False


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _matches(value: Value, pattern: Any) -> bool | None:
    if isinstance(value, Text) or not isinstance(pattern, str):
        return None
    if not isinstance(value, str):
        return False
    runs = [""]
    for piece in re.findall(r"\\[*\\]|.", pattern, re.DOTALL):
        if piece == "\\":  # an open escape: the run would fail
            return None
        if piece == "*":
            runs.append("")
        else:
            runs[-1] += piece[-1]
    return _in_order(runs, value)


def _in_order(runs: list[str], value: str) -> bool:
    """Return whether a text is the runs with anything between them, without backtracking."""
    if len(runs) == 1:
        return value == runs[0]
    first, last = runs[0], runs[-1]
    if len(value) < len(first) + len(last) or not (
        value.startswith(first) and value.endswith(last)
    ):
        return False
    position, end = len(first), len(value) - len(last)
    for run in runs[1:-1]:
        position = value.find(run, position, end)
        if position < 0:
            return False
        position += len(run)
    return True


def _compare(kind: str, compare: Callable[[Any, Any], bool], one: Value, two: Any) -> bool | None:
    if isinstance(one, Text | Unknown) or isinstance(two, Text | Unknown):
        return None
    if kind == "Timestamp":
        moments = [_moment(str(v)) if _is("IsTimestamp", v) else None for v in (one, two)]
        return None if None in moments else compare(*moments)
    if not all(_is(f"Is{kind}", value) for value in (one, two)):
        return False
    return compare(one, two)
