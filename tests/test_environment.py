"""What a stage's command finds in its environment."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from shim.environment import child_environment
from shim.errors import PipelineError
from shim.plan import Plan
from shim.store import open_store
from tests.stages import DATE, Table

INJECTED = {"RUN_DATE", "STAGE", "EXECUTION_ID", "ARTIFACTS_DIR", "CHECKPOINT_DIR", "ARTIFACTS_URI"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan of one stage whose table names an env_file."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    table.head = 'env_file = "settings.env"'
    table.stage("backtest")
    return table.plan(execution_id="nightly-1")


def given(plan: Plan, text: str) -> dict[str, str]:
    """Return the stage's environment for the text of the env_file."""
    Path(plan.root, "settings.env").write_text(text)
    return child_environment(plan, plan.stage("backtest"), "/private", "/kept")


@pytest.mark.parametrize("name", sorted(INJECTED | {"DRY_RUN"}))
@pytest.mark.parametrize("dry_run", [False, True])
def test_no_file_and_no_caller_sets_the_runs_own_names(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, name: str, dry_run: bool
) -> None:
    """I25: whatever they say, a run stays under its date, in its stage and in its place."""
    monkeypatch.setenv(name, "from the caller")
    plan = dataclasses.replace(plan, dry_run=dry_run)

    seen = given(plan, f"export {name}='from the file'\n")

    assert seen["RUN_DATE"] == DATE
    assert {seen[key] for key in INJECTED} == {
        DATE, "backtest", "nightly-1", "/private", "/kept", f"{plan.store}/backtest/{DATE}"
    }  # fmt: skip
    assert seen.get("DRY_RUN") == ("1" if dry_run else None)


def test_the_callers_variables_win_over_the_file(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I25: what was injected wins; the file fills the gaps."""
    monkeypatch.setenv("MODEL", "injected")

    seen = given(plan, "MODEL=file\nLIMIT=3\n")

    assert (seen["MODEL"], seen["LIMIT"]) == ("injected", "3")


def test_the_file_is_data(plan: Plan) -> None:
    """I39: nothing in it is run or expanded."""
    seen = given(plan, "A=$(touch ran)\nB=${HOME}x\nC='two\nlines'\nNO_VALUE\n# D=1\n")

    assert seen["A"] == "$(touch ran)"
    assert seen["B"] == "${HOME}x"
    assert seen["C"] == "two\nlines"
    assert not {"NO_VALUE", "D"} & seen.keys()
    assert not Path(plan.root, "ran").exists()


def test_an_empty_environment_is_enough(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """I23: no HOME, no PATH."""
    for name in list(os.environ):
        monkeypatch.delenv(name)

    assert given(plan, "").keys() == INJECTED


def test_a_file_that_cannot_be_read_is_named(plan: Plan) -> None:
    """With 78: the table names it."""
    for text in (None, b"A=\xff"):
        if text:
            Path(plan.root, "settings.env").write_bytes(text)
        with pytest.raises(PipelineError, match=r"settings\.env .*the env_file of") as refused:
            child_environment(plan, plan.stage("backtest"), "/private", "/kept")
        assert refused.value.code == 78
