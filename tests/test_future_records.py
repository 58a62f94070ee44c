"""Records that are dated later than now: nobody waits for that day, and who lives is not ended."""

from __future__ import annotations

import json
import os
import re
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from shim import launch, record, silence
from shim.errors import BusyError
from shim.record import Attempt
from shim.store import open_store
from tests.children import read, until
from tests.foreign import (
    CLAIM,
    CLAIM_KEY,
    LAUNCH,
    LAUNCH_KEY,
    RECEIPT,
    RECEIPT_KEY,
    WHO,
    attempt,
    later,
    looked,
    put,
)
from tests.stages import Table

DAY = 86400.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat comes soon."""
    for module in (record, launch):
        monkeypatch.setattr(module, "HEARTBEAT", 0.2)


def test_a_receipt_that_is_dated_tomorrow_does_not_block_the_date(
    table: Table, capfd: pytest.CaptureFixture[str]
) -> None:
    """I54: it is named on one line, counts as silent, and is closed as lost."""
    put(table.store, CLAIM_KEY, CLAIM)
    put(table.store, RECEIPT_KEY, RECEIPT)
    later(table.store, -DAY)
    with attempt(table):
        pass
    said = capfd.readouterr().err
    uri = re.escape(table.store.uri_of(RECEIPT_KEY))
    assert len(re.findall(rf"^spot_backtest: {uri} is dated 20\S+, in the future", said, re.M)) == 1
    closed = table.receipts("parity")[0]
    assert (closed["state"], closed["outcome"]) == ("closed", "lost")
    assert re.search(r"silent, and dated 86\d{3} s in the future", closed["error"])


def test_a_file_that_was_touched_into_the_future_does_not_block_the_date(tmp_path: Path) -> None:
    """I54: as a restored backup leaves it."""
    table = Table(tmp_path, open_store(str(tmp_path / "a store")))
    table.three()
    put(table.store, CLAIM_KEY, CLAIM)
    put(table.store, RECEIPT_KEY, RECEIPT)
    tomorrow = (table.store.now() + timedelta(days=1)).timestamp()
    os.utime(tmp_path / "a store" / RECEIPT_KEY, (tomorrow, tomorrow))
    with attempt(table):
        pass
    assert table.receipts("parity")[0]["outcome"] == "lost"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many heartbeats are waited for: in S3 two of one second are the same."""
    monkeypatch.setattr(silence, "BEATS", 100)


@pytest.mark.usefixtures("patient")
def test_a_living_attempt_is_not_ended_for_the_date_of_its_receipt(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I54: the clock of its machine is wrong and dates its files; its next heartbeat tells."""
    monkeypatch.setattr("shim.liveness.myself", lambda: dict(WHO))
    alive = Attempt(open_store(table.store.uri), table.plan(execution_id="one"), "parity", "a-1")
    alive.open()
    later(table.store, -3600)
    try:
        with (
            pytest.raises(BusyError, match="parity at 2026-05-17 is run by execution one"),
            attempt(table),
        ):
            pass
        assert not alive.superseded.is_set()
    finally:
        alive.close("committed", 0)
    with attempt(table):
        pass


def test_a_clock_that_is_a_little_behind_is_nothing(table: Table) -> None:
    """I54: within the skew a receipt is fresh, and nobody is waited for."""
    put(table.store, CLAIM_KEY, CLAIM)
    put(table.store, RECEIPT_KEY, RECEIPT)
    later(table.store, -30)
    with pytest.raises(BusyError, match="execution one"), attempt(table):
        pass


def test_a_claim_of_tomorrow_without_a_receipt_does_not_block_the_date(table: Table) -> None:
    """I54: the receipt that is written for it keeps its attempt out, were it to come."""
    put(table.store, CLAIM_KEY, CLAIM)
    later(table.store, -DAY)
    with attempt(table):
        pass
    assert [r["outcome"] for r in table.receipts("parity") if r["attempt"] == "a-1"] == ["lost"]


def test_an_entry_of_tomorrow_that_nobody_can_read_does_not_block_the_date(table: Table) -> None:
    """I54 and I55: whose it is cannot be known, and the claim is not written either."""
    put(table.store, CLAIM_KEY, {**CLAIM, "open": {"parity": None}})
    later(table.store, -DAY)
    with attempt(table):
        pass
    claim = json.loads(table.store.read(CLAIM_KEY)[0])  # type: ignore[index]
    assert claim["open"]["parity"]["attempt"] == "a-2"


def test_a_launch_of_tomorrow_counts_as_abandoned(table: Table) -> None:
    """I54: after one heartbeat that does not come; its launcher would write the record again."""
    put(table.store, LAUNCH_KEY, {**LAUNCH, "state": "open"})
    later(table.store, -DAY)
    assert launch.Record(table.store, LAUNCH_KEY).abandoned() == "its launcher is gone"
    assert [found.lives for found in launch.open_launches(table.store, "backtest/2026-05-17/")] == [
        False
    ]


@pytest.mark.usefixtures("patient")
def test_a_launcher_that_lives_is_not_ended_for_the_date_of_its_record(table: Table) -> None:
    """I54: its heartbeat comes while it is waited for."""
    alive = launch.Launch(open_store(table.store.uri), "backtest/2026-05-17/", dict(LAUNCH))
    alive.open()
    later(table.store, -DAY)
    assert launch.Record(table.store, LAUNCH_KEY).abandoned() == ""
    alive.release()


def test_status_says_that_a_receipt_is_of_the_future(table: Table) -> None:
    """I54: silent, and by how much, without waiting for anybody."""
    put(table.store, RECEIPT_KEY, RECEIPT)
    put(table.store, LAUNCH_KEY, {**LAUNCH, "state": "open"})
    later(table.store, -DAY)
    found = looked(table)
    (row,) = found.stages[1:]
    assert row.running
    assert row.running.silent
    assert (row.state, -86500 < row.running.silent < -86300) == ("silent", True)
    assert re.search(r"parity +silent .* dated 86\d{3} s in the future", found.to_text())
    assert [launch_.outcome for launch_ in found.launches] == ["abandoned"]


def test_a_stage_that_waits_for_a_record_of_the_future_ends_with_a_signal(tmp_path: Path) -> None:
    """I54: before the wait is over, with the signal's status, and it has claimed nothing."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    table.three()
    put(table.store, CLAIM_KEY, CLAIM)
    put(table.store, RECEIPT_KEY, RECEIPT)
    tomorrow = (table.store.now() + timedelta(days=1)).timestamp()
    for key in (CLAIM_KEY, RECEIPT_KEY):
        os.utime(tmp_path / "store" / key, (tomorrow, tomorrow))
    out = tmp_path / "out"
    with out.open("wb") as stream:
        ran = table.start("stage", "parity", stdout=stream)
    until(lambda: b"in the future" in read(out))

    ran.send_signal(signal.SIGTERM)

    assert ran.wait(20) == 143, out.read_text()  # the wait is of 38 s
    assert table.receipts("parity")[0]["state"] == "open"
