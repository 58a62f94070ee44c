"""Intrinsic functions and paths: each documented example, limit and escape, and what stays open."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.asl import intrinsics, paths
from shim.asl.intrinsics import quote
from shim.asl.values import AslError, Reading, Text, Unknown, Value, known

INPUT: dict[str, Value] = {
    "list": [1, 2, 3, 3, 3, 4],
    "name": "Arnav",
    "template": "Hello, my name is {}.",
    "text": '{"foo": "bar"}',
    "object": {"foo": "bar"},
    "one": {"a": {"a1": 1, "a2": 2}, "b": 2},
    "two": {"a": {"a3": 1, "a4": 2}, "c": 3},
    "backslash": r"a\'b {} {x",
    "later": Unknown("Send"),
    "partly": ["known", Unknown("Send.Id")],
}
CONTEXT: dict[str, Value] = {"Execution": {"Name": "n", "StartTime": "2026-05-17T23:59:59.000Z"}}
FIVE: Value = ["a", 2020, {"foo": "bar"}, None, -1.5]
READINGS = pytest.mark.parametrize("reading", Reading)


def value(text: str, reading: Reading = Reading.DOCUMENTED) -> Value:
    """Return what a call yields from the input above."""
    return intrinsics.evaluate(intrinsics.parse(text), INPUT, CONTEXT, reading)


@READINGS
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("States.Array()", []),
        ("States.Array('a', 2020, $.object, null,-1.5)", FIVE),
        ("States.ArrayPartition($.list,4)", [[1, 2, 3, 3], [3, 4]]),
        ("States.ArrayContains($.list, 4)", True),
        ("States.ArrayContains($.list, true)", False),
        ("States.ArrayRange(1, 9, 2)", [1, 3, 5, 7, 9]),
        ("States.ArrayRange(3, 1, -1)", [3, 2, 1]),
        ("States.ArrayGetItem($.list, 5)", 4),
        ("States.ArrayLength($.list)", 6),
        ("States.ArrayUnique(States.Array(1,true,1,1.0,'1'))", [1, True, 1.0, "1"]),
        ("States.Base64Encode('Data to encode')", "RGF0YSB0byBlbmNvZGU="),
        ("States.Base64Decode('RGVjb2RlZCBkYXRh')", "Decoded data"),
        ("States.Base64Decode('RGF0YSB0byBlbmNvZGU')", "Data to encode"),
        ("States.Hash('input data', 'SHA-1')", "aaff4a450a104cd177d28d18d74485e8cae074b7"),
        ("States.Hash('', 'MD5')", "d41d8cd98f00b204e9800998ecf8427e"),
        ("States.JsonMerge($.one, $.two, false)", {"a": {"a3": 1, "a4": 2}, "b": 2, "c": 3}),
        ("States.StringToJson($.text)", {"foo": "bar"}),
        ("States.JsonToString($.object)", '{"foo":"bar"}'),
        ("States.MathAdd(111, -1)", 110),
        ("States.StringSplit('1,2,3', ',')", ["1", "2", "3"]),
        ("States.StringSplit('This.is+a,test', '.+,=')", ["This", "is", "a", "test"]),
        ("States.StringSplit(',a,,b,', ',')", ["a", "b"]),
        ("States.Format('Hello, my name is {}.', $.name)", "Hello, my name is Arnav."),
        ("States.Format($.template, $.name)", "Hello, my name is Arnav."),
        ("States.Format('{}{}{}{}', 1.1, null, false, 1)", "1.1nullfalse1"),
        ("States.Format('{}', $.backslash)", r"a\'b {} {x"),
        ("States.ArrayGetItem(States.StringSplit($$.Execution.StartTime,'T'),0)", "2026-05-17"),
    ],
)  # fmt: skip
def test_a_call_gives_what_aws_documents(text: str, expected: Value, reading: Reading) -> None:
    """The examples of the AWS page and of the States Language, and what was measured on AWS."""
    assert repr(value(text, reading)) == repr(expected)


def test_the_later_object_wins_in_a_merge() -> None:
    """I29: the order of the arguments decides whether the input beats the defaults."""
    assert value("States.JsonMerge($.one, $.two, false)") != value(
        "States.JsonMerge($.two, $.one, false)"
    )


@pytest.mark.parametrize(
    ("text", "documented", "observed"),
    [
        (r"States.Array('trap \'x\'', 'b')", ["trap 'x'", "b"], [r"trap \'x\'", "b"]),
        (r"States.Format('d=\'{}\'', 'x')", "d='x'", "d='x'"),
        (r"States.Format('{}', 'it\'s')", "it's", "it's"),
        (r"States.Array(States.Format('\'{}\'', 'it\'s'))", ["'it's'"], ["'it's'"]),
        (r"States.Array('\{\}\\')", ["{}\\"], [r"\{\}\\"]),
        (r"States.StringSplit('a\'b', '\'')", ["a", "b"], ["a", "b"]),
    ],
)  # fmt: skip
def test_a_quote_keeps_its_backslash_only_where_aws_was_seen_to_keep_it(
    text: str, documented: Value, observed: Value
) -> None:
    """I02: in a direct argument of States.Array; everywhere else an escape has one reading."""
    assert value(text, Reading.DOCUMENTED) == documented
    assert value(text, Reading.OBSERVED) == observed


def test_an_object_in_a_text_fails_by_the_document_and_is_javas_on_aws() -> None:
    """The States Language forbids it; AWS was recorded to print it so."""
    text = "States.Format('{} {}', $.object, $.list)"
    assert value(text, Reading.OBSERVED) == "{foo=bar} [1, 2, 3, 3, 3, 4]"
    with pytest.raises(AslError, match="an object or an array"):
        value(text, Reading.DOCUMENTED)


def test_long_base64_is_broken_into_lines_by_the_document_only() -> None:
    """MIME breaks at 76 characters, which would break a shell line; nobody saw AWS do it."""
    text = f"States.Base64Encode('{'n' * 80}')"
    lines = str(value(text, Reading.DOCUMENTED)).split("\r\n")
    assert [len(line) for line in lines] == [76, 32]
    assert value(text, Reading.OBSERVED) == "".join(lines)


@pytest.mark.parametrize(
    ("one", "total"),
    [(0.5, 1), (1.49, 1), (1.5, 2), (2.5, 3), (-0.5, 0), (-1.5, -1), (-1.51, -2), (-2.5, -2)],
)
def test_halves_are_rounded_up(one: float, total: int) -> None:
    """As recorded on AWS, which rounds as Java does."""
    assert value(f"States.MathAdd({one}, 0)") == total


@pytest.mark.parametrize(
    "text",
    [
        *("States.Format('{}')", "States.Format('', 1)", "States.Format()", "States.Format(5)"),
        *(r"States.Format('\n')", r"States.Array('C:\x')", "States.Format('{x}')"),
        *("States.Array('a'b')", "States.Array('a", "States.Array('a',)", "States.Array ('a')"),
        *("States.Nothing()", "States.Array(a)", "States.Array() x", "", "echo", "States.UUID(1)"),
        *("States.JsonMerge($.one, $.two, true)", "States.JsonMerge($.one, 5, false)"),
        *("States.ArrayGetItem($.list, 6)", "States.ArrayGetItem($.list, -1)"),
        *("States.ArrayGetItem($.name, 0)", "States.ArrayLength($.name)"),
        *("States.ArrayRange(1, 1001, 1)", "States.ArrayRange(1, 2, 0)", "States.MathAdd('1', 1)"),
        *("States.ArrayPartition($.list, 0)", "States.Hash('a', 'SHA-224')"),
        *("States.MathAdd(true, 1)", f"States.Base64Encode('{'a' * 10_001}')"),
        *("States.Base64Encode(5)", "States.Hash(5, 'MD5')"),
        *("States.Base64Decode('a')", "States.StringToJson('x')", "States.StringToJson('NaN')"),
        *("States.Array($.nothing)", "States.Array($.list[9])", "States.Array($$.Nothing)"),
        *("States.ArrayUnique(" * 60 + "$.list" + ")" * 60, "States.Array($.list[?(@ >)])"),
    ],
)  # fmt: skip
def test_a_call_that_would_fail_is_refused(text: str) -> None:
    """A wrong count, a wrong type, an open escape, a limit of the page, text that is no call."""
    for reading in Reading:
        with pytest.raises(AslError):
            value(text, reading)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("States.UUID()", Unknown("States.UUID()")),
        ("States.MathRandom(1, 9, 5)", Unknown("States.MathRandom(1, 9, 5)")),
        ("States.Array('a', $.later.Id)", ["a", Unknown("Send.Id")]),
        ("States.Format('a{}b', $.later.Id)", Text(("a", Unknown("Send.Id"), "b"))),
        ("States.Format($.later, 1)", Unknown("States.Format($.later, 1)")),
        ("States.ArrayGetItem($.partly, 0)", "known"),
        ("States.ArrayGetItem($.partly, 1)", Unknown("Send.Id")),
        ("States.ArrayLength($.partly)", 2),
        ("States.Hash($.later, 'MD5')", Unknown("States.Hash($.later, 'MD5')")),
        ("States.JsonMerge($.later,$.one,false)", Unknown("States.JsonMerge($.later,$.one,false)")),
        ("States.ArrayContains($.partly, 'x')", Unknown("States.ArrayContains($.partly, 'x')")),
        ("States.StringSplit('a', '')", Unknown("States.StringSplit('a', '')")),
        ("States.Array($name.x)", [Unknown("$name.x")]),
    ],
)  # fmt: skip
def test_what_only_a_run_can_decide_stays_open(text: str, expected: Value) -> None:
    """Nothing is guessed: neither a random number nor anything computed from a task's result."""
    assert value(text) == expected


@given(st.text())
def test_any_text_comes_back_from_a_literal(text: str) -> None:
    """Quoted, it is one argument and the same text, in an array and in a template."""
    literal = quote(text)
    assert value(f"States.Array({literal}, {literal})") == [text, text]
    assert value(f"States.Format({literal})") == text
    assert value(f"States.Format('{literal[1:-1]}{{}}{literal[1:-1]}', {literal})") == text * 3
    assert value(f"States.Array({literal})", Reading.OBSERVED) == [literal[1:-1]]


@given(st.text(max_size=200))
def test_base64_and_json_undo_themselves(text: str) -> None:
    """Encode then decode, print then parse: the text, by the observed reading."""
    literal = quote(text)
    encoded = value(f"States.Base64Encode({literal})", Reading.OBSERVED)
    assert encoded == base64.b64encode(text.encode()).decode()
    assert value(f"States.Base64Decode(States.Base64Encode({literal}))") == text
    assert value(f"States.StringToJson(States.JsonToString(States.Array({literal})))") == [text]


PIECES = [
    "States.Array(",
    "States.Format('{}',",
    ")",
    ",",
    "'",
    "\\",
    "$.name",
    "$$.",
    "[",
    "?(",
    "{}",
]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join))
def test_no_text_breaks_the_parser(text: str) -> None:
    """It is a call with a value, or it is refused."""
    for reading in Reading:
        with suppress(AslError):
            value(text, reading)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.a.b[0]['x']", 1),
        ("$['a'][\"b\"][-1].x", 2),
        (r"$.with\.dot", "dot"),
        (r"$['it\'s']", "quote"),
        ("$.run-date", "dash"),
        ("$.a.b[*].x", [1, 2]),
        ("$..x", [1, 2]),
        ("$.a.b[?(@.x == 2)].y", ["two"]),
        ("$.a.b[?(@.x == 1 && @.y == 'two')]", []),
        ("$.a.b[-1:]", [{"x": 2, "y": "two"}]),
        ("$$.Execution.Name", "n"),
        ("$$.Execution[*]", ["n", "2026-05-17T23:59:59.000Z"]),
        ("$name.x", Unknown("$name.x")),
        ("$.later.a[0]", Unknown("Send.a[0]")),
        ("$.holes[*]", Unknown("$.holes[*]")),
    ],
)
def test_a_path_yields_a_node_or_a_list_of_them(path: str, expected: Value) -> None:
    """A list exactly where the path could name several nodes, also when it names one."""
    data: dict[str, Value] = {
        "a": {"b": [{"x": 1, "y": "one"}, {"x": 2, "y": "two"}]},
        **{"with.dot": "dot", "it's": "quote", "run-date": "dash"},
        **{"later": Unknown("Send"), "holes": [Unknown("h")]},
    }
    if path.startswith("$.."):
        data = {"a": data["a"]}
    assert paths.read(path, data, CONTEXT) == expected


@pytest.mark.parametrize("path", ["", "a", "$.", "$.a..", "$[", "$.a b", "$.a + 1", "$.a.length()"])
def test_text_that_is_no_path_is_refused(path: str) -> None:
    """Also what the library would take and Step Functions would not."""
    with pytest.raises(AslError):
        paths.read(path, {"a": 1}, {})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", 9),
        ("$.new.deep", {"a": [1], "new": {"deep": 9}}),
        ("$.a", {"a": 9}),
        ("$.a[0]", {"a": [9]}),
    ],
)
def test_a_result_is_put_where_the_path_says(path: str, expected: Value) -> None:
    """Fields on the way are made; the input itself is left as it was."""
    data: dict[str, Any] = {"a": [1]}
    before = json.dumps(data)
    assert paths.write(path, data, 9) == expected
    assert json.dumps(data) == before


@pytest.mark.parametrize("path", ["$.a[5]", "$.a.b", "$.a[*]", "$$.a", "$x"])
def test_a_result_that_has_no_place_is_refused(path: str) -> None:
    """ResultPath is a reference path into the input."""
    with pytest.raises(AslError):
        paths.write(path, {"a": [1]}, 9)


def test_all_calls_of_a_field_are_counted() -> None:
    """AWS documents at most ten in one field; its own example has nine."""
    split = "States.ArrayGetItem(States.StringSplit({}, '/'), 2)"
    inner = split.format(split.format("$.arn"))
    call = intrinsics.parse(f"States.Format('{{}}.{{}}', {inner}, {inner})")
    assert len(list(intrinsics.calls(call))) == 9
    assert known(INPUT["one"])
    assert not known(INPUT["partly"])
