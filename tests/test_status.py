"""What stands at a run date: commits that are verified, attempts, launches; nothing is written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shim import commit, record, status
from shim.launch import Launch
from shim.record import Attempt
from shim.status import Status
from tests.children import until
from tests.entry import spot_backtest
from tests.stages import DATE, PREFIX, WAIT_FOR_GO, Table, publish

NAMES = ("backtest", "parity", "evaluator")


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Path]:
    """Lets a stage that waits go on, at the latest after the test."""
    yield tmp_path / "go"
    (tmp_path / "go").touch()


def run(table: Table, *stages: str) -> None:
    """Run stages to their ends."""
    for stage in stages:
        table.run("stage", stage, EXECUTION_ID="saturday")


def published(table: Table) -> None:
    """Leave what a run of the three stages leaves, but for receipts and logs."""
    below: dict[str, str | None] = {}
    for stage in NAMES:
        made = publish(table.store, stage, f"{stage[0]}.txt", built_on=dict(below))
        below[stage] = made.digest


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the line of each stage that was printed, without its name."""
    split = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    return {words[0]: words[1] for words in split if words[0] in NAMES}


def document(table: Table, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON document."""
    done = table.run("status", "--json", *words)
    return done.returncode, json.loads(done.stdout)


def looked(table: Table, *stages: str) -> Status:
    """Look in this process."""
    return status.of(table.store, PREFIX, DATE, "--date", stages)


def open_attempt(table: Table, stage: str, **more: Any) -> Attempt:
    """Open the receipt of an attempt; who opened it is `more`."""
    attempt = Attempt(table.store, table.plan(execution_id="another"), stage, "attempt-1")
    attempt.values |= more
    attempt.open()
    attempt.release()
    return attempt


def test_three_commits_that_verify_are_the_end(table: Table) -> None:
    """Exit 0; by whom, when, how much; the store is as it was before."""
    run(table, *NAMES)
    before = table.contents()
    done = table.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        f"run date {DATE} (from --date)",
        f"store {table.store.uri}, prefix {PREFIX}",
    ]
    assert len(lines) == 6
    for stage, size in zip(NAMES, (2, 2, 4), strict=True):
        there = table.commit(stage)
        assert there
        assert rows(done)[stage].split(maxsplit=2) == [
            "committed",
            there.committed,
            f"1 artifacts, {size} bytes, attempt {there.attempt} of saturday",
        ]
    assert table.contents() == before


def test_a_stage_that_never_ran_is_nothing(table: Table) -> None:
    """One commit of three is not the end: exit 69, and the others are named on stderr."""
    publish(table.store, "backtest", "b.txt")
    done = table.run("status")
    assert done.returncode == 69
    assert done.stderr == (
        f"spot_backtest: parity, evaluator have no commit that verifies at {DATE}\n"
    )
    assert rows(done)["backtest"].startswith("committed ")
    assert rows(done)["parity"] == rows(done)["evaluator"] == "nothing    -"


def test_a_date_without_anything_is_no_error_of_the_store(table: Table) -> None:
    """Neither a store that was never written nor a date that is not there is made by looking."""
    code, found = document(table)
    assert (code, found["complete"], found["launches"]) == (69, False, [])
    assert [row["state"] for row in found["stages"]] == ["nothing"] * 3
    assert table.keys() == []
    assert not (table.folder / "a store").exists()


def test_a_changed_artifact_is_said_with_its_reason(table: Table) -> None:
    """I22: of the same size, by its digest; what was built on it is not blamed."""
    published(table)
    table.store.put(f"{PREFIX}p.txt", b"texx")
    done = table.run("status")
    assert done.returncode == 69
    assert rows(done)["parity"].startswith("changed ")
    assert rows(done)["parity"].endswith("; p.txt of parity was changed")
    assert rows(done)["evaluator"].startswith("committed ")
    assert "parity has no commit that verifies" in done.stderr


def test_a_stage_that_was_built_on_another_commit_is_changed(table: Table) -> None:
    """The reason names what it was built on."""
    published(table)
    publish(table.store, "backtest", "b.txt", body=b"c\n")
    (row,) = looked(table, "evaluator").stages
    assert (row.state, row.verified) == ("changed", False)
    assert row.commit
    assert "evaluator was built on another backtest than the one that is there" in (
        row.commit.problems
    )


def test_a_record_that_cannot_be_read_does_not_hide_the_others(table: Table) -> None:
    """A commit is changed, and why; a receipt is unreadable."""
    publish(table.store, "backtest", "b.txt")
    table.store.put(commit.key(PREFIX, "parity"), b"{}")
    table.store.put(record.receipt_key(PREFIX, "evaluator", "attempt-1"), b"{")
    done = table.run("status")
    assert done.returncode == 69
    assert rows(done)["backtest"].startswith("committed ")
    assert rows(done)["parity"].startswith("changed ")
    assert "is not a commit" in rows(done)["parity"]
    assert rows(done)["evaluator"].startswith("unreadable ")


def test_a_running_stage_says_who_where_and_since_when(table: Table, go: Path) -> None:
    """It is fresh while its receipt is young; a commit of before stands beside it."""
    table.stage("slow", f"{WAIT_FOR_GO}; echo s > $ARTIFACTS_DIR/slow.txt")
    publish(table.store, "slow", "slow.txt")
    running = table.start("stage", "slow", EXECUTION_ID="sunday")
    (receipt,) = until(lambda: table.receipts("slow"))
    (row,) = looked(table, "slow").stages
    done = table.run("status")
    go.touch()
    running.communicate(timeout=60)
    assert row.running
    assert (row.state, row.running.state, row.running.execution_id) == (
        *("committed", "fresh"),
        "sunday",
    )
    before, line = done.stdout.splitlines()[6:]
    assert before.startswith("slow       committed")
    assert line.split()[:2] == ["running", receipt["opened"]]
    assert f"attempt {receipt['attempt']} of sunday on {receipt['host']}, heard " in line
    assert looked(table, "slow").stages[0].running is None


def test_a_silent_attempt_is_no_running_one(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine after the time that its heartbeat has; on this one when it is gone."""
    open_attempt(table, "parity", machine="another", host="ip-10-0-0-7")
    assert looked(table, "parity").stages[0].state == "running"
    monkeypatch.setattr(record, "SILENT", 0.0)
    assert looked(table, "parity").stages[0].state == "silent"
    open_attempt(table, "evaluator", started="1")
    assert looked(table, "evaluator").stages[0].state == "gone"


def test_a_stage_that_failed_says_how(table: Table) -> None:
    """The newest receipt's outcome and code; before a commit no more, after it on a second line."""
    table.stage("flaky", '[ -e good ] || exit 5; echo f > "$ARTIFACTS_DIR/flaky.txt"')
    good = table.folder / "good"

    known: set[str] = set()  # two attempts of one second are told apart by nothing else

    def failed(line: str) -> None:
        (receipt,) = [r for r in table.receipts("flaky") if r["attempt"] not in known]
        attempt = f"attempt {receipt['attempt']} of saturday"
        assert line == f"failed {receipt['closed']} exit code 5, {attempt}"

    def lines() -> list[str]:
        known.update(r["attempt"] for r in table.receipts("flaky"))
        run(table, "flaky")
        return [" ".join(line.split()) for line in table.run("status").stdout.splitlines()[6:]]

    (line,) = lines()
    failed(line.removeprefix("flaky "))
    good.touch()
    (line,) = lines()
    assert line.startswith("flaky committed ")
    good.unlink()
    line, second = lines()
    assert line.startswith("flaky committed ")
    failed(second)
    assert looked(table, "flaky").unverified == []


def test_a_failure_before_the_commit_is_history(table: Table) -> None:
    """Also where the attempt that committed left no receipt that is closed."""
    open_attempt(table, "parity").close("failed", 1)
    assert looked(table, "parity").to_text().splitlines()[-1].startswith("parity  failed ")
    publish(table.store, "parity", "p.txt")
    assert looked(table, "parity").to_text().splitlines()[-1].startswith("parity  committed ")


def test_launches_are_the_closing_table(table: Table) -> None:
    """What ran with its sum as its launcher made it, and one that runs."""
    pool = ("c5.large", "spot", "eu-west-1a")
    values = dict(zip(("type", "market", "zone"), pool, strict=True))
    values |= {"launch": "l-1", "instance": "i-1", "launched": "2026-05-17T00:00:00Z"}
    ended = Launch(table.store, PREFIX, {**values, "price": 0.036})
    ended.open()
    ended.close("committed", 0, run_seconds=100, cost=0.001004)
    alive = Launch(table.store, PREFIX, {"launch": "l-2"})
    alive.open()
    alive.release()
    found = table.run("status").stdout.splitlines()[-3:]
    assert [line.split() for line in found] == [
        ["launch", "instance", "pool", "USD/h", "seconds", "cost", "outcome"],
        ["l-1", "i-1", *pool, "0.0360", "100", "0.0010", "committed"],
        ["l-2", "-", "-", "-", "0", "-", "running"],
    ]
    _, document_ = document(table)
    assert [row["cost"] for row in document_["launches"]] == [0.001004, None]


def test_json_is_one_document_that_says_the_same(table: Table) -> None:
    """For a program: the states, and whether all is complete."""
    run(table, *NAMES)
    table.store.put(f"{PREFIX}p.txt", b"x\n")
    code, found = document(table)
    assert (code, found["complete"], found["run_date"]) == (69, False, DATE)
    assert (found["run_date_source"], found["store"]) == ("--date", table.store.uri)
    assert {row["stage"]: row["state"] for row in found["stages"]} == {
        "backtest": "committed",
        "parity": "changed",
        "evaluator": "committed",
    }
    (backtest, parity, _) = found["stages"]
    there = table.commit("backtest")
    assert there
    assert backtest["commit"] == {
        "execution_id": "saturday",
        "attempt": there.attempt,
        "committed": there.committed,
        "artifacts": 1,
        "bytes": 2,
        "problems": [],
    }
    assert (backtest["running"], backtest["last"]["outcome"]) == (None, "committed")
    assert parity["commit"]["problems"] == ["p.txt of parity was changed"]


def test_the_date_is_resolved_as_everywhere(tmp_path: Path) -> None:
    """RUN_DATE, its source said; a bad one is exit 2, and so is an option that would do nothing."""
    given = ("status", "--store", tmp_path / "none")
    done = spot_backtest(*given, env={"RUN_DATE": "2026-05-17T23:59:00Z"})
    assert (done.code, done.out.splitlines()[0]) == (69, "run date 2026-05-17 (from RUN_DATE)")
    assert spot_backtest(*given, "--date", "2026-5-7").code == 2
    assert spot_backtest(*given, "--only-stages", "parity").code == 2
    assert spot_backtest("status", "--help").code == 0


def test_a_dry_run_has_a_status_of_its_own(table: Table) -> None:
    """I17: it is not the production date's."""
    publish(table.store, "backtest", "b.txt", dry=True)
    states = [row["state"] for row in document(table, "--dry-run")[1]["stages"]]
    assert states == ["committed", "nothing", "nothing"]
    assert document(table)[1]["stages"][0]["state"] == "nothing"
