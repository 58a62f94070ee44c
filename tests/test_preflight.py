"""What is wrong is said before anything runs, all of it at once, and nothing is written."""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shim import clock, preflight
from shim.errors import AccessError, PipelineError, PreflightError, ShimError, UsageError
from shim.request import Setting
from shim.store import open_store
from tests.lab import S3Lab
from tests.stages import DATE, Table, publish


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """A table without stages and a directory, for what does not depend on the store."""
    return Table(tmp_path, open_store(str(tmp_path / "a store")))


def said(table: Table, **asked: Any) -> str:
    """Return what preflight says of a plan, a line for each problem."""
    return "\n".join(map(str, preflight.check(table.plan(**asked))))


def only(name: str) -> Any:
    """Return what --only-stages asks for."""
    return Setting(name, "--only-stages")


def test_a_plan_that_can_start_has_no_problems_and_leaves_nothing(table: Table) -> None:
    """Invariant 8: not even the probe that it wrote."""
    assert preflight.check(table.plan()) == []
    assert table.keys() == []


def test_every_problem_is_listed_at_once(local: Table) -> None:
    """I19: commands, scripts, inputs, the env_file and skipped stages, in one go."""
    local.head = 'env_file = ".env"'
    (local.folder / ".env").touch()
    (local.folder / "plain").touch()
    local.stage("first", command=["no-such-program"])
    local.stage("second", command=["./plain"], inputs=["trades/db.sqlite"])
    local.stage("third", command=["{python}", "no_script.py"], needs=["first"])
    local.stage("skipped", inputs=["not/asked/for"], command=["neither-this"])

    found = said(local, skip_stages=Setting("skipped,first", "--skip-stages"))

    assert "second runs ./plain, which is not there or cannot be executed" in found
    assert f"third runs {local.folder / 'no_script.py'}, which is not there" in found
    assert f"{local.store.uri}/trades/db.sqlite is missing, an input of second" in found
    assert "third needs first, and first has no commit" in found
    assert len(found.splitlines()) == 5, found  # the last one says that no date has it all
    for absent in ("no-such-program", "not/asked/for", "neither-this"):
        assert absent not in found


def test_a_program_is_looked_for_where_the_stage_will_look(
    local: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the PATH that the env_file or the caller gives it, and in the stages' own folder."""
    local.stage("first", command=["tool"])
    local.stage("second", command=["./tool"])
    (local.folder / "tool").write_text("#!/bin/sh\n")
    (local.folder / "tool").chmod(0o755)

    assert said(local) == (
        "first runs tool, which is not there or cannot be executed; "
        f"install it, or mend its command in {local.path}"
    )
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{local.folder}")
    assert said(local) == ""


def test_an_env_file_that_is_missing_is_said_once(local: Table) -> None:
    """Not once for each stage; with 78, for the table is wrong."""
    local.head = 'env_file = ".env"'
    local.three()

    problems = preflight.check(local.plan())

    assert [problem.code for problem in problems] == [78]


def test_a_date_after_midnight_is_no_riddle(table: Table) -> None:
    """I01, I18: the newest run date at which all is there is named, with its flag."""
    for date in ("2026-05-14", "2026-05-15", "2026-05-16"):
        publish(table.store, "backtest", "b.txt", date=date)
        publish(table.store, "parity", "p.txt", date=date)
    table.store.delete("backtest/2026-05-16/p.txt")

    found = said(table, only_stages=only("evaluator"), date=None)

    for need in ("backtest", "parity"):
        assert f"evaluator needs {need}, and {need} has no commit" in found
    assert f"the run date {DATE} came from the clock" in found
    assert "all that is needed is there at 2026-05-15; select it: --date 2026-05-15" in found


def test_without_any_good_date_that_is_said(table: Table) -> None:
    """A hint that selects nothing is none."""
    found = said(table, only_stages=only("parity"))

    assert "came from --date; no other run date has all that is needed either" in found
    assert table.keys() == []


def test_a_dry_run_is_offered_dry_runs_only(table: Table) -> None:
    """I17: what it needs lies under its own prefix."""
    publish(table.store, "backtest", "b.txt", date="2026-05-16")
    asked: dict[str, Any] = {"only_stages": only("parity"), "dry_run": True}
    assert "no other run date" in said(table, **asked)

    publish(table.store, "backtest", "b.txt", date="2026-05-15", dry=True)

    assert "select it: --date 2026-05-15" in said(table, **asked)


@pytest.mark.parametrize(
    ("codes", "code"), [((69, 77), 77), ((69, 78, 77), 78), ((69,), 69), ((2, 69), 69), ((2,), 2)]
)
def test_the_exit_code_is_that_of_what_must_be_mended_first(
    codes: tuple[int, ...], code: int
) -> None:
    """The table, then credentials, then what is missing."""
    kinds = {69: PreflightError, 77: AccessError, 78: PipelineError, 2: UsageError}
    problems: list[ShimError] = [kinds[one]("x") for one in codes]

    assert preflight.code(problems) == code


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_s3_would_refuse_is_said_with_all_the_rest(
    tmp_path: Path, s3_uri: str, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """Both ways; the other checks go on."""
    table = Table(tmp_path, open_store(s3_uri))
    table.stage("first", inputs=["not/there"])
    now = clock.utc_now() + timedelta(minutes=minutes)
    monkeypatch.setattr(clock, "utc_now", lambda: now)

    found = said(table)

    assert f"16 minutes {'ahead of' if minutes > 0 else 'behind'}" in found
    assert "not/there is missing" in found


def test_a_full_disk_is_said(local: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both where stages write and where the store is."""
    local.three()
    monkeypatch.setattr(preflight, "FREE", 1 << 60)

    found = said(local)

    assert "too little for temporary files" in found
    assert "too little for the store" in found


def test_a_disk_that_is_full_of_what_failed_attempts_left_says_where_that_is(
    local: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I43: what filled the disk and was kept is not in the way of the next one for ever."""
    local.three()
    monkeypatch.setattr(preflight, "FREE", 1 << 60)
    monkeypatch.setattr(tempfile, "tempdir", str(local.folder))
    failed = local.folder / f"spot_backtest-failed-{os.geteuid()}"
    assert str(failed) not in said(local)
    failed.mkdir()

    assert f"or remove what failed attempts have left in {failed}" in said(local)


def test_without_a_folder_for_temporary_files_that_is_said(
    local: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a TMPDIR that is gone."""
    local.three()
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")

    assert "there is no folder for temporary files" in said(local)


def test_a_store_that_does_not_answer_ends_with_69_and_the_rest_is_said_too(
    local: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 20 s, through the command line; I19."""
    local.stage("first", command=["no-such-program"])
    local.store = open_store("s3://a-bucket/prefix")  # AWS_ENDPOINT_URL is a closed port

    done = local.run("preflight")

    assert done.returncode == 69
    assert "first runs no-such-program" in done.stderr
    assert "s3://a-bucket/prefix" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_made_ends_with_69(local: Table) -> None:
    """A file is where its directory would be."""
    local.stage("first")
    local.store = open_store(str(local.path / "store"))

    assert local.run("preflight").returncode == 69


@pytest.mark.parametrize("command", ["preflight", "stage"])
def test_bad_credentials_end_with_77(tmp_path: Path, s3: S3Lab, s3_uri: str, command: str) -> None:
    """Whatever else is wrong, with what to look at."""
    table = Table(tmp_path, open_store(s3_uri))
    table.stage("first", inputs=["not/there"])
    for method in ("PUT", "GET", "HEAD"):
        s3.fail(method, s3_uri.split("/")[2], "403 InvalidAccessKeyId", 99)

    done = table.run(command, *(["first"] if command == "stage" else []))

    assert done.returncode == 77, done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr


def test_no_credentials_at_all_end_with_77(
    tmp_path: Path, s3: S3Lab, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where AWS's chain finds none."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    table = Table(tmp_path, open_store(s3_uri))
    table.stage("first")

    done = table.run("preflight")

    assert done.returncode == 77
    assert "Unable to locate credentials" in done.stderr


def test_the_entry_checks_first_and_only_that_on_request(table: Table) -> None:
    """--preflight-only runs no stage and writes nothing."""
    done = table.entry("--preflight-only")

    assert done.returncode == 0, done.stderr
    assert "nothing is wrong for backtest, parity, evaluator" in done.stderr
    assert table.keys() == []
    assert not (table.folder / "runs").exists()


def test_artifacts_that_are_trusted_pass(table: Table) -> None:
    """--trust-existing, where all that is required lies there."""
    table.store.put(f"backtest/{DATE}/b.txt", b"text")

    assert said(table, only_stages=only("parity"), trust_existing=True) == ""
