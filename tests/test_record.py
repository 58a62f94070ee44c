"""One attempt at a time owns a stage, and one execution a run date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shim import aws, commit, launch, liveness, reclaim, record
from shim.errors import BusyError, PreflightError, RecordError
from shim.record import Attempt
from shim.store import ABSENT, Store, open_store
from tests.children import until
from tests.lab import S3Lab
from tests.stages import NOW, PREFIX, Table


@pytest.fixture
def opened(table: Table) -> Iterator[Any]:
    """Opens attempts, and ends their heartbeats after the test."""
    attempts: list[Attempt] = []
    numbers = iter(range(100))

    def start(stage: str, execution: str = "one", **asked: Any) -> Attempt:
        plan = table.plan(execution_id=execution, **asked)
        attempts.append(Attempt(table.store, plan, stage, f"attempt-{next(numbers)}"))
        attempts[-1].open()
        return attempts[-1]

    yield start
    for attempt in attempts:
        with suppress(BusyError):
            attempt.close("ended", 0)


def elsewhere(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Let attempts that are opened from now on say that they run on another machine."""
    there = {"host": "ip-10-0-0-7", "machine": "another", "pid": 1, "started": "1"}
    monkeypatch.setattr(liveness, "myself", lambda: {**there, **more})


def later(monkeypatch: pytest.MonkeyPatch, store: Store, seconds: float) -> None:
    """Put the store's clock forward."""
    now = store.now
    monkeypatch.setattr(store, "now", lambda: now() + timedelta(seconds=seconds))


def test_a_second_attempt_is_told_who_runs_the_stage_where_and_since_when(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I31, with 75: the command may be tried again."""
    elsewhere(monkeypatch)
    first = opened("backtest", "nightly-run")

    with pytest.raises(BusyError) as refused:
        opened("backtest", "nightly-run")

    assert refused.value.code == 75
    since = first.values["opened"]
    for word in ("nightly-run", "ip-10-0-0-7", since, first.id, "2026-05-17"):
        assert word in str(refused.value)


def test_another_execution_is_kept_out_of_the_whole_date(opened: Any) -> None:
    """I31: two executions at two stages of one date would write over each other too."""
    opened("backtest", "one")

    with pytest.raises(BusyError, match="backtest at 2026-05-17 is run by execution one"):
        opened("parity", "two")


def test_another_date_is_free(opened: Any) -> None:
    """The claim is of one run date."""
    opened("backtest", "one")

    assert opened("backtest", "two", date="2026-05-18").values["run_date"] == "2026-05-18"


def test_one_execution_may_run_stages_side_by_side(opened: Any, table: Table) -> None:
    """As a state machine with parallel branches does; each has its receipt."""
    opened("backtest")
    opened("parity")

    assert [r["state"] for s in ("backtest", "parity") for r in table.receipts(s)] == ["open"] * 2


def test_a_closed_attempt_makes_room_and_keeps_its_receipt(opened: Any, table: Table) -> None:
    """I34: the second failure does not replace what the first one left."""
    for code in (3, 4):
        opened("backtest", f"execution-{code}").close("failed", code, error=f"reason {code}")

    kept = [(r["code"], r["error"], r["state"]) for r in table.receipts("backtest")]
    assert kept == [(3, "reason 3", "closed"), (4, "reason 4", "closed")]


@pytest.mark.parametrize(("silent", "lost"), [(170, False), (190, True)])
def test_an_attempt_that_is_silent_for_three_minutes_is_closed_as_lost(
    opened: Any, table: Table, monkeypatch: pytest.MonkeyPatch, silent: int, lost: bool
) -> None:
    """By the store's own clock, and by the next attempt, which then runs."""
    elsewhere(monkeypatch)
    dead = opened("backtest", "dead")
    later(monkeypatch, table.store, silent)

    if not lost:
        with pytest.raises(BusyError, match="dead"):
            opened("backtest", "next")
        return
    opened("backtest", "next")

    closed, alive = table.receipts("backtest")
    assert (closed["outcome"], closed["state"]) == ("lost", "closed")
    assert "silent for 19" in closed["error"]
    assert alive["state"] == "open"
    with pytest.raises(BusyError, match="was closed as lost"):
        dead.beat()
    assert dead.superseded.is_set()


def test_a_heartbeat_keeps_an_attempt_alive(
    opened: Any, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written by itself, and what counts is when, by the store."""
    monkeypatch.setattr(record, "HEARTBEAT", 0.05)
    elsewhere(monkeypatch)
    opened("backtest", "alive")
    (key,) = [k for k in table.keys() if k.startswith(f"{PREFIX}_stages/backtest/")]  # noqa: SIM118  not a dict
    first = table.store.head(key)

    until(lambda: table.receipts("backtest")[0].get("heartbeat"))

    assert table.store.head(key) != first
    with pytest.raises(BusyError):
        opened("backtest", "next")


def test_a_process_that_is_proven_dead_is_not_waited_for(
    opened: Any, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine: the process id is free, or was given to somebody who started later."""
    elsewhere(monkeypatch, **{**liveness.myself(), "started": "1"})
    opened("backtest", "killed")

    opened("backtest", "next")

    assert table.receipts("backtest")[0]["error"] == "its process is gone"


def test_a_claim_without_a_receipt_keeps_its_owner_out_once_it_is_dead(
    table: Table, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that is held up between the two for minutes must not run beside its successor."""
    elsewhere(monkeypatch)
    held_up = Attempt(table.store, table.plan(execution_id="held-up"), "backtest", "slow")
    held_up.values["opened"] = "then"
    record._claim(table.store, held_up.plan, "backtest", held_up.values, lambda: None)
    later(monkeypatch, table.store, 200)

    opened("backtest", "next")

    with pytest.raises(BusyError, match="closed as lost"):
        held_up.write()
    closed, alive = sorted(table.receipts("backtest"), key=lambda r: str(r["state"]))
    assert (closed["state"], alive["state"]) == ("closed", "open")
    same = record.identity(held_up.plan, "backtest", "slow")
    assert closed == {**closed, **same, "host": held_up.values["host"], "outcome": "lost"}


def test_a_claim_of_a_launch_that_ended_is_closed_under_its_own_names(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance went between claim and receipt: the record says whose it was all the same."""
    monkeypatch.setattr(reclaim, "launch", lambda: "launch-1")
    gone = Attempt(table.store, table.plan(), "backtest", "gone")
    record._claim(
        table.store, gone.plan, "backtest", {**gone.values, "opened": "then"}, lambda: None
    )

    launch.close_attempts(table.store, PREFIX, "launch-2", "not this one")
    assert table.receipts("backtest") == []
    launch.close_attempts(table.store, PREFIX, "launch-1", "the host failed")

    (closed,) = table.receipts("backtest")
    same = {**record.identity(gone.plan, "backtest", "gone"), "launch": "launch-1"}
    assert closed == {**closed, **same, "state": "closed", "error": "the host failed"}


def test_an_attempt_that_went_after_its_commit_is_not_called_lost(
    table: Table, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last write was refused or never sent; the commit says how it ended."""
    elsewhere(monkeypatch)
    gone = opened("backtest")
    about = {k: gone.values[k] for k in ("run_date", "execution_id", "code_version")}
    made = commit.Commit("backtest", attempt=gone.id, committed="then", artifacts={},
                         built_on={}, **about)  # fmt: skip
    commit.write(table.store, PREFIX, made, None)
    later(monkeypatch, table.store, 200)

    opened("backtest")

    closed = table.receipts("backtest")[0]
    assert (closed["state"], closed["outcome"], closed["code"]) == ("closed", "committed", 0)
    assert "error" not in closed


def test_an_attempt_survives_a_receipt_that_somebody_deleted(opened: Any, table: Table) -> None:
    """The next beat writes it again: nobody has taken over."""
    attempt = opened("backtest")
    (key,) = [k for k in table.keys() if k.startswith(f"{PREFIX}_stages/backtest/")]  # noqa: SIM118  not a dict
    table.store.delete(key)

    attempt.beat()

    assert table.receipts("backtest")[0]["state"] == "open"


def test_a_beat_whose_answer_was_lost_is_not_taken_for_another_attempt(
    tmp_path: Path, s3: S3Lab, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has it, the writer was told of a failure: the next beat goes on from there."""
    monkeypatch.setitem(aws.PATIENT, "attempts", 1)
    table = Table(tmp_path, open_store(s3_uri))
    table.three()
    attempt = Attempt(table.store, table.plan(), "backtest", "a")
    attempt.open()
    s3.fail("PUT", "_stages/backtest/a.json", "drop-after")
    with pytest.raises(PreflightError):
        attempt.beat()

    attempt.beat()
    attempt.close("committed", 0)

    assert not attempt.superseded.is_set()
    assert table.receipts("backtest")[0]["outcome"] == "committed"


def test_a_superseded_attempt_never_opens_its_receipt_again(
    opened: Any, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it tries, and were it in the second of its last heartbeat."""
    now = table.store.now()
    monkeypatch.setattr(table.store, "now", lambda: now)
    attempt = opened("backtest")
    attempt.beat()
    assert record.close_left(table.store, PREFIX, attempt.values, "a test")

    for _ in range(3):
        with pytest.raises(BusyError, match="closed as lost"):
            attempt.beat()

    assert table.receipts("backtest")[0]["outcome"] == "lost"


def test_a_receipt_that_lives_is_not_closed_by_another(
    table: Table, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A beat between the look and the write wins."""
    attempt = opened("backtest")
    read = table.store.read

    def read_and_beat(key: str) -> Any:
        found = read(key)
        monkeypatch.setattr(table.store, "read", read)
        attempt.beat()
        return found

    monkeypatch.setattr(table.store, "read", read_and_beat)

    assert not record.close_left(table.store, PREFIX, attempt.values, "a test")
    attempt.beat()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_a_record_that_cannot_be_read_is_named(table: Table, opened: Any, body: bytes) -> None:
    """With 73 and its address, not with a riddle."""
    table.store.put(f"{PREFIX}_stages/_claim.json", body, ABSENT)

    with pytest.raises(RecordError, match=r"_stages/_claim\.json is not"):
        opened("backtest")


def test_attempt_ids_differ_and_sort_by_time() -> None:
    """So receipts list in the order of their attempts."""
    ids = [record.attempt_id(NOW + timedelta(seconds=n)) for n in range(3)]

    assert ids == sorted(ids)
    assert len({record.attempt_id(NOW) for _ in range(9)}) > 1
