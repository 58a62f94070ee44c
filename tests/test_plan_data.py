"""A plan is data: it survives JSON whole, and what is no plan is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shim import clock
from shim.address import key_problem, parse
from shim.errors import UsageError
from shim.plan import Plan
from tests.calls import TEXT, call, one_line, planned, write_table
from tests.entry import spot_backtest

BASE = planned("--date=2026-05-17")
KINDS = {"str": TEXT, "bool": st.booleans(), "str | None": st.none() | TEXT}
DERIVED = ("run_date", "run_prefix", "logs_prefix", "dry_run")  # each follows from the others
# What is changed in a plan, and what the refusal says.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"run_date": "2026-5-7"}, "'2026-5-7' is not a run date"),
    ({"run_date": "../../x"}, "'../../x' is not a run date"),
    ({"run_date": 20260517}, "run_date is 20260517, which is no str"),
    ({"run_date": "2026-05-18"}, "'backtest/2026-05-17/' is not the one of 2026-05-18"),
    ({"run_prefix": "../../"}, "'../../' is not the one of 2026-05-17"),
    ({"logs_prefix": "/"}, "is not the one of 2026-05-17"),
    ({"dry_run": True}, "is not the one of 2026-05-17"),
    ({"dry_run": 1}, "dry_run is 1, which is no bool"),
    ({"redact": "*"}, "redact is '*', which is no tuple"),
    ({"redact": [1]}, "redact is (1,), which is no tuple"),
    ({"stages": None}, "not iterable"),
    ({"stages": ["backtest"]}, "this is not a plan"),
    ({"stages": [{}]}, "name is missing"),
    ({"stages": [{**BASE["stages"][0], "timeout": "2h"}]}, "timeout is '2h', which is no int"),
    ({"stages": [{**BASE["stages"][0], "timeout": True}]}, "timeout is True, which is no int"),
    ({"store": None}, "store is None, which is no str"),
    ({"tomorrow": 1}, "tomorrow"),
]


@given(st.data())
def test_a_plan_is_the_same_after_json(data: st.DataObject) -> None:
    """Every field, whatever text it holds, in one line that any locale can carry."""
    plan = Plan.from_json(json.dumps(BASE))
    values: dict[str, Any] = {
        field.name: data.draw(KINDS[str(field.type)])
        for field in dataclasses.fields(plan)
        if str(field.type) in KINDS and field.name not in DERIVED
    }
    changed = dataclasses.replace(plan, redact=("*_KEY",), **values)
    text = changed.to_json()
    assert Plan.from_json(text) == Plan.from_json(text.encode()) == changed
    assert text.isascii()
    assert text.isprintable()


def test_a_plan_that_is_passed_on_asks_no_clock_again() -> None:
    """I01, I14: one object, whole; nothing in it is resolved a second time."""
    text = json.dumps(planned("--dry-run", "--timeout=5", "--parity-tolerance=1", "--resume"))
    with patch.object(clock, "utc_now", side_effect=AssertionError("the clock was asked")):
        plan = Plan.from_json(text)
    assert json.loads(plan.to_json()) == json.loads(text)


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_plan_with_a_wrong_field_is_refused(change: dict[str, Any], words: str) -> None:
    """A plan comes from outside: no field of it names another place or another type."""
    with pytest.raises(UsageError, match=re.escape(words)) as error:
        Plan.from_json(json.dumps({**BASE, **change}))
    assert error.value.code == 2
    assert "pass what `plan --json` printed" in error.value.hint


@pytest.mark.parametrize("name", BASE)
def test_a_plan_without_a_field_is_refused(name: str) -> None:
    """No field has a silent default."""
    with pytest.raises(UsageError, match="this is not a plan"):
        Plan.from_json(json.dumps({key: value for key, value in BASE.items() if key != name}))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b"[" * 10**5])
def test_what_is_no_plan_is_refused_by_the_commands_that_take_one(
    text: bytes, tmp_path: Path
) -> None:
    """Exit 2 in one line, before anything is started."""
    path = tmp_path / "plan.json"
    path.write_bytes(text)
    for words in (["preflight"], ["stage", "backtest"]):
        assert "this is not a plan" in one_line(call(*words, "--plan", str(path)), 2)


@pytest.mark.parametrize("flag", ["--skip-stages=backtest", "--dry-run", "--store=elsewhere"])
def test_a_flag_beside_a_plan_is_refused(flag: str, tmp_path: Path) -> None:
    """I61: it would have no effect; a variable is for whoever made the plan, so none counts."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(BASE))
    for words in (["preflight"], ["stage", "backtest"]):
        message = one_line(call(*words, "--plan", str(path), flag), 2)
        assert f"{flag.partition('=')[0]} has no effect beside --plan" in message
    done = spot_backtest("--plan", path, flag, "--preflight-only")
    assert done.code == 2
    env = {"SKIP_STAGES": "parity", "DRY_RUN": "1"}
    assert "no effect" not in spot_backtest("preflight", "--plan", path, env=env).err


def test_a_stage_that_is_not_in_the_plan_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """Exit 2 with a plan and without."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(BASE))
    for words in ([], ["--plan", str(path)]):
        message = one_line(call("stage", "evaluater", *words), 2)
        assert "'evaluater' is not a stage; did you mean evaluator?" in message


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b//", "s3://bucket/a/b"),
        ("/a/../b/", "/b"),
        ("a b/é", f"{Path.cwd()}/a b/é"),
        (".", str(Path.cwd())),
        ("~/x", "/home/u/x"),
        ("~nobody-of-that-name/x", f"{Path.cwd()}/~nobody-of-that-name/x"),
        ("{run_date}", f"{Path.cwd()}/{{run_date}}"),
    ],
)
def test_a_store_is_an_absolute_directory_or_an_address_without_a_slash_at_its_end(
    text: str, store: str
) -> None:
    """The same from the flag and from the variable, and the same for the stage."""
    home = {"HOME": "/home/u"}
    assert planned("--store", text, env=home)["store"] == store
    assert planned(env={**home, "SPOT_STORE": text})["store"] == store


def test_the_store_without_a_word_about_it_is_beside_the_table(tmp_path: Path) -> None:
    """Not in the working directory, which SSM sets to /usr/bin."""
    path = write_table(tmp_path, 'root = "r"\nstage = [{name="a", command=["x"], timeout=1}]')
    assert planned("--pipeline", str(path))["store"] == f"{tmp_path}/r/artifacts"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "s3://",
            "s3:/bucket",
            "S3://bucket",
            "s3://Bucket",
            "s3://b",
            "s3://192.168.0.1",
        ),
        *("s3://bucket/../x", "s3://bucket//x", "s3://bucket/a\nb", "s3://bucket/.shim-x", "a\nb"),
        *("https://bucket.s3.amazonaws.com", "file:///tmp", "gs://bucket", "s3://buc..ket"),
    ],
)
def test_what_is_no_store_is_refused_with_who_set_it(text: str) -> None:
    """Exit 2 before anything is contacted."""
    message = one_line(call("plan", f"--store={text}"), 2)
    assert f"{text!a} is not a store" in message
    assert "(set by --store)" in message
    if text:
        assert "(set by SPOT_STORE)" in one_line(call("plan", env={"SPOT_STORE": text}), 2)


@given(TEXT | TEXT.map("s3://bucket/{}".format))
@example("s3://bucket" + "/a" * 600)
def test_any_text_is_an_address_whose_text_is_itself_or_is_refused(text: str) -> None:
    """A prefix is always a key, so no store reaches out of its bucket."""
    try:
        found = parse(text, "--store")
    except UsageError:
        return
    assert parse(found.uri) == found
    assert not found.bucket or not found.path or key_problem(found.path) is None


def test_an_execution_is_named_by_its_variable_or_by_time_and_chance() -> None:
    """The Step Functions execution's name, else adhoc-<UTC stamp>-<4 hex>; empty is unset."""
    assert planned(env={"EXECUTION_ID": "nightly-2026.05_17:x"})["execution_id"] == (
        "nightly-2026.05_17:x"
    )
    named = "it's (the) weekly+run=1@2!".replace(" ", "")
    assert planned(env={"EXECUTION_ID": named})["execution_id"] == named
    ids = {planned(env={"EXECUTION_ID": ""})["execution_id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"adhoc-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}", name) for name in ids)


@pytest.mark.parametrize("text", ["$$.Execution.Name", "a b", "../x", "a/b", "$(x)", "-x", "a\nb"])
def test_an_execution_id_that_cannot_name_a_thing_is_refused(text: str) -> None:
    """It fills `{execution_id}` in commands and keys."""
    message = one_line(call("plan", env={"EXECUTION_ID": text}), 2)
    assert f"{text!a} is not an execution id (set by EXECUTION_ID)" in message


def test_the_code_version_is_given_or_is_the_tables_checkout(tmp_path: Path) -> None:
    """A retry carries it as data; a table that is in no checkout says so."""
    table = (
        "--pipeline",
        str(write_table(tmp_path, 'stage = [{name="a", command=["x"], timeout=1}]')),
    )
    env = {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PATH": os.environ["PATH"]}
    asked = {**env, "SPOT_CODE_VERSION": ""}
    assert planned(*table, env={"SPOT_CODE_VERSION": "v1.2"})["code_version"] == "v1.2"
    assert planned(*table, env=asked)["code_version"] == "unknown"
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--message=a"]
    for words in (["init", "-q"], ["add", "."], commit):
        subprocess.run(["git", *words], cwd=tmp_path, env=env, check=True)
    clean = planned(*table, env=asked)["code_version"]
    assert re.fullmatch("[0-9a-f]{12}", clean)
    Path(table[1]).write_text('stage = [{name="b", command=["x"], timeout=1}]')
    assert planned(*table, env=asked)["code_version"] == f"{clean}-dirty"
