"""The table is read strictly: every mistake is exit 78 and names the key and the nearest one."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shim.errors import PipelineError
from shim.pipeline import OPTION_KEYS, Pipeline, load, parse
from shim.plan import build
from shim.reader import duration
from shim.request import Request
from shim.secret_names import SecretNames
from tests.calls import TEXT, call, one_line, write_table
from tests.entry import ROOT

PATH = Path("/project/infrastructure/pipeline.toml")
ABSENT = object()
TABLE: dict[str, Any] = {
    "stage": [
        {"name": "backtest", "command": ["run", "{run_date}"], "produces": ["stats.json"],
         "inputs": ["prices/{run_date}.db"], "timeout": "2h",
         "options": {"quick": {"pass": "--fast"}}},
        {"name": "parity", "command": ["replay"], "needs": ["backtest"], "timeout": 90,
         "requires": ["stats.json"], "produces": ["parity.json"]},
        {"name": "evaluator", "command": ["grade"], "needs": ["parity"], "timeout": "30m",
         "requires": ["stats.json", "parity.json"]},
    ]
}  # fmt: skip
RESERVED = (
    *("date", "run-date", "dry-run", "no-dry-run", "spot-store", "help", "version", "json", "plan"),
    *("name", "report", "stage", "home", "execution-id"),
)
STAGE = ("stage", 0)
OPTION = (*STAGE, "options", "quick")
# A place in the table, what stands there, and what the message says about it.
MISTAKES: list[tuple[tuple[str | int, ...], object, tuple[str, ...]]] = [
    (("stages",), [], ("unknown key 'stages'", "did you mean stage?")),
    (("stage",), ABSENT, ("there is no [[stage]]",)),
    (("stage",), [], ("there is no [[stage]]",)),
    (("stage",), {}, ("there is no [[stage]]",)),
    (("stage",), ["backtest"], ("there is no [[stage]]",)),
    (("root",), 5, ("root is 5",)),
    (("root",), "", ("root is ''",)),
    (("redact",), "*_KEY", ("redact is '*_KEY'", '["a", "b"]')),
    (("env_file",), True, ("env_file is True",)),
    (("requirements",), "a\0b", ("requirements is 'a\\x00b'",)),
    ((*STAGE, "name"), ABSENT, ("stage number 1 has the name None",)),
    ((*STAGE, "name"), "Back test", ("stage number 1 has the name 'Back test'",)),
    ((*STAGE, "name"), "../x", ("stage number 1 has the name '../x'",)),
    ((*STAGE, "name"), "_stages", ("stage number 1 has the name '_stages'",)),
    (("stage", 2, "name"), "parity", ("two stages have the name parity",)),
    ((*STAGE, "comand"), ["x"], ("'comand' of stage backtest", "did you mean command?")),
    ((*STAGE, "command"), ABSENT, ("stage backtest has no command",)),
    ((*STAGE, "command"), "run it", ("command of stage backtest is 'run it'",)),
    ((*STAGE, "command"), ["run", 5], ("command of stage backtest is ['run', 5]",)),
    ((*STAGE, "command"), ["a\0"], ("command of stage backtest holds a NUL",)),
    ((*STAGE, "command"), ["{run_dat}"], ("field 'run_dat' in '{run_dat}'", "mean run_date?")),
    ((*STAGE, "command"), ["{"], ("unknown field '{'", "a plain brace is written twice")),
    ((*STAGE, "inputs"), ["{python}"], ("inputs of stage backtest has the unknown", "'python'")),
    ((*STAGE, "inputs"), ["../db"], ("the path '../db' of stage backtest is not a relative path",)),
    ((*STAGE, "produces"), ["/etc/x"], ("'/etc/x' of stage backtest is not a relative path",)),
    ((*STAGE, "produces"), ["a//b"], ("'a//b' of stage backtest is not a relative path",)),
    ((*STAGE, "produces"), ["_stages/x"], ("lies under _stages/, which holds the records",)),
    ((*STAGE, "produces"), [".shim-lock"], ("starts with .shim-, which the store keeps",)),
    ((*STAGE, "produces"), ["a\nb"], ("'a\\nb' of stage backtest holds a character",)),
    ((*STAGE, "produces"), ["é" * 500], ("is too long",)),
    ((*STAGE, "produces"), ["a*.csv"], ("'a*.csv' of stage backtest is a pattern", "each file")),
    ((*STAGE, "produces"), ["a", "a/b"], ("produces 'a/b', and stage backtest the file 'a'",)),
    ((*STAGE, "produces"), ["x", "x"], ("backtest and backtest have the artifact x",)),
    (("stage", 1, "produces"), ["stats.json"], ("backtest and parity have the artifact",)),
    ((*STAGE, "timeout"), ABSENT, ("timeout of stage backtest is None", "45m or 2h")),
    ((*STAGE, "timeout"), 1.5, ("timeout of stage backtest is 1.5",)),
    ((*STAGE, "timeout"), ["2h"], ("timeout of stage backtest is ['2h']",)),
    ((*STAGE, "timeout"), "2 hours", ("timeout of stage backtest is '2 hours'",)),
    ((*STAGE, "timeout"), 0, ("timeout of stage backtest is 0",)),
    ((*STAGE, "io"), "driect", ("io of stage backtest is 'driect'", "did you mean direct?")),
    ((*STAGE, "slug"), "a/b", ("slug of stage backtest is 'a/b'",)),
    ((*STAGE, "slug"), "parity", ("backtest and parity have the slug parity",)),
    ((*STAGE, "state"), "Parity", ("backtest and parity have the state Parity",)),
    ((*STAGE, "state"), [], ("state of stage backtest is []",)),
    (("stage", 1, "needs"), ["bactest"], ("parity needs 'bactest'", "did you mean backtest?")),
    ((*STAGE, "needs"), ["backtest"], ("needs go in a circle: backtest -> backtest",)),
    ((*STAGE, "needs"), ["evaluator"], ("needs go in a circle", "evaluator", "parity")),
    (("stage", 1, "requires"), ["stat.json"], ("'stat.json', which no stage produces",
                                               "did you mean stats.json?")),
    ((*STAGE, "requires"), ["parity.json"], ("requires parity.json of parity and does not need",
                                             'add "parity" to its needs')),
    ((*STAGE, "requires"), ["stats.json"], ("requires stats.json of backtest and does not need",)),
    ((*STAGE, "options"), [], ("options of stage backtest is not a table",)),
    ((*STAGE, "options"), {"quick": 1}, ("options of stage backtest is not a table",)),
    ((*STAGE, "options"), {"Quick": {}}, ("option 'Quick' of stage backtest cannot be a flag",)),
    ((*STAGE, "options"), {"a-b": {}, "a_b": {}}, ("have the option A_B",)),
    ((*OPTION, "defualt"), True, ("'defualt' of option 'quick'", "did you mean default?")),
    ((*OPTION, "type"), "integer", ("type of option 'quick'", "did you mean int?")),
    ((*OPTION, "default"), "yes", ("default of option 'quick'", "is 'yes'", "its type is flag")),
    ((*OPTION, "pass"), "", ("pass of option 'quick' of stage backtest is ''",)),
    (OPTION, {"type": "int", "default": True}, ("is True; its type is int",)),
    (OPTION, {"type": "int", "default": 1.0}, ("is 1.0; its type is int",)),
    (OPTION, {"type": "text", "default": 1}, ("is 1; its type is text",)),
    (OPTION, {"type": "text", "default": "a\0b"}, ("its type is text",)),
]  # fmt: skip


def changed(place: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return the right table with one place changed."""
    table = copy.deepcopy(TABLE)
    inside: Any = table
    for step in place[:-1]:
        inside = inside[step]
    if value is ABSENT:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return table


def name_of(mistake: tuple[tuple[str | int, ...], object, tuple[str, ...]]) -> str:
    """Return what a case is called."""
    return ascii(mistake[2][0])[1:-1]


@pytest.mark.parametrize("mistake", MISTAKES, ids=name_of)
def test_a_mistake_is_78_and_names_the_file_the_key_and_what_is_right(
    mistake: tuple[tuple[str | int, ...], object, tuple[str, ...]],
) -> None:
    """Each kind of mistake of a table; I73: also patterns, and a file that is a folder too."""
    with pytest.raises(PipelineError) as error:
        parse(changed(*mistake[:2]), PATH)
    assert error.value.code == 78
    assert str(error.value).startswith(f"{PATH}: ")
    for words in mistake[2]:
        assert words in str(error.value)


def test_the_table_without_a_mistake_is_read() -> None:
    """The cases above differ from this one in one place only."""
    found = parse(TABLE, PATH)
    assert [stage.name for stage in found.stages] == ["backtest", "parity", "evaluator"]
    assert [stage.timeout for stage in found.stages] == [7200, 90, 1800]
    assert [stage.state for stage in found.stages] == ["Backtest", "Parity", "Evaluator"]
    assert found.redact == SecretNames()
    assert found.root == "/project/infrastructure"
    assert [(o.name, o.variable, o.passes, o.kind, o.default) for o in found.options] == [
        ("quick", "QUICK", "--fast", "flag", False)
    ]


def test_the_projects_own_table_is_right() -> None:
    """The table that ships is the three stages in order."""
    found = load(ROOT / "infrastructure" / "pipeline.toml")
    assert [stage.name for stage in found.stages] == ["backtest", "parity", "evaluator"]
    assert found.root == str(ROOT)


@pytest.mark.parametrize("name", RESERVED)
def test_an_option_cannot_take_a_name_that_means_something_already(
    name: str, tmp_path: Path
) -> None:
    """Its flag and its variable are its alone."""
    path = write_table(
        tmp_path,
        f'stage = [{{name="a", command=["x"], timeout=1, options={{{name} = {{type="text"}}}}}}]',
    )
    message = one_line(call("plan", "--pipeline", str(path)), 78)
    assert f"option {name} of stage a" in message
    assert f"call it {name}-a" in message


def test_an_option_cannot_be_the_negation_of_another(tmp_path: Path) -> None:
    """`--no-quick` has one meaning."""
    rows = "options={quick={}, no-quick={}}"
    path = write_table(tmp_path, f'stage=[{{name="a", command=["x"], timeout=1, {rows}}}]')
    assert "option no-quick" in one_line(call("plan", "--pipeline", str(path)), 78)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"stage = [", "not valid TOML"),
        (b"root = '\xff'", "not valid TOML"),
        (b"a = 1\na = 2", "not valid TOML"),
        (b"a = " + b"1" * 5000, "not valid TOML"),
        (b"a = " + b"[" * 50000, "not valid TOML"),
        (b"", "there is no [[stage]]"),
    ],
    ids=["syntax", "bytes", "twice", "number", "depth", "empty"],
)
def test_a_file_that_is_no_table_is_78(tmp_path: Path, text: bytes, words: str) -> None:
    """Whatever the bytes are."""
    path = tmp_path / "t.toml"
    path.write_bytes(text)
    assert words in one_line(call("plan", "--pipeline", str(path)), 78)


def test_a_table_that_cannot_be_read_is_78(tmp_path: Path) -> None:
    """A missing file and a directory name the path and the flag."""
    for path in (tmp_path / "none.toml", tmp_path):
        message = one_line(call("plan", f"--pipeline={path}"), 78)
        assert f"cannot read the table {path}" in message
        assert "--pipeline" in message


@pytest.mark.parametrize(
    ("order", "expected"),
    [("cab", "cab"), ("bca", "cab"), ("abc", "cab"), ("acb", "cab")],
)
def test_stages_run_in_the_tables_order_where_it_is_one(order: str, expected: str) -> None:
    """A stage that stands before what it needs is moved behind it, and nothing else is."""
    needs = {"a": ["c"], "b": ["a"], "c": []}
    rows = [{"name": n, "command": ["x"], "timeout": 1, "needs": needs[n]} for n in order]
    assert "".join(s.name for s in parse({"stage": rows}, PATH).stages) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("1h1m1s", 3661),
     (" 2h ", 7200), (90, 90), ("", None), ("h", None), ("1h30", None), ("1.5h", None),
     ("-5", None), ("0", None), ("0h", None), (-1, None), (True, None), (2.0, None), (None, None),
     ("9" * 30, None), (10**9, None), ("\u0663", None), ("30m1h", None), ("1 h", None)],
)  # fmt: skip
def test_a_duration_is_read_or_is_none(text: object, seconds: int | None) -> None:
    """Nothing is guessed: `1h30` is not 1 h 30 s."""
    assert duration(text) == seconds


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.dates()
ANY = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3), max_leaves=6
)
PATHS = st.lists(st.sampled_from(["a.json", "b/c", "d"]), max_size=1)


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return what is right but for one time in thirty, so that the search comes past each check."""
    return st.integers(0, 29).flatmap(lambda n: right if n else ANY)


ROW = {
    "name": st.sampled_from("abcdef"),
    "command": st.lists(st.sampled_from(["x", "{run_date}", "{{}}"]), min_size=1, max_size=2),
    "timeout": st.integers(1, 9) | st.sampled_from(["2h", "45m"]),
}
MORE = {
    "needs": st.lists(st.sampled_from("abcdef"), max_size=1),
    **dict.fromkeys(("requires", "produces", "inputs"), PATHS),
    "io": st.sampled_from(["direct", "private"]),
    "options": st.dictionaries(
        st.sampled_from(["x", "y", "no-x", "date"]),
        st.dictionaries(st.sampled_from(OPTION_KEYS), st.sampled_from(["text", "--a"])),
        max_size=1,
    ),
}
ROWS = st.fixed_dictionaries(
    {key: mostly(right) for key, right in ROW.items()},
    optional={key: mostly(right) for key, right in MORE.items()},
)
TABLES = st.fixed_dictionaries(
    {"stage": mostly(st.lists(ROWS, min_size=1, max_size=3))},
    optional={"root": mostly(st.just("..")), "redact": mostly(PATHS)},
)


def tried(table: dict[str, Any]) -> Pipeline | PipelineError:
    """Return the table or its refusal."""
    try:
        return parse(table, PATH)
    except PipelineError as error:
        return error


@given(TABLES | st.dictionaries(TEXT, ANY, max_size=3))
@example({"stage": [{"name": "a", "command": ["x"], "timeout": datetime(2026, 1, 1, tzinfo=UTC)}]})
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
def test_any_table_is_read_or_refused_in_words(table: dict[str, Any]) -> None:
    """Nothing but a PipelineError leaves, and what is read can be planned."""
    found = tried(table)
    if isinstance(found, PipelineError):
        assert str(found).startswith(f"{PATH}: ")
    else:
        assert_plannable(found)


def assert_plannable(found: Pipeline) -> None:
    """Check that every stage comes after what it needs, and that a plan can be made."""
    done: set[str] = set()
    for stage in found.stages:
        assert done.issuperset(stage.needs)
        done.add(stage.name)
    plan = build(found, Request(), datetime(2026, 5, 17, tzinfo=UTC), "0000", Path("/"))
    assert [stage.name for stage in plan.planned] == [stage.name for stage in found.stages]
