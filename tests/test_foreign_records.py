"""Records that others wrote, whatever is in them: refused by name, and no date is lost to them."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shim import commit, guest, launch, reap, record
from shim import store as stores
from shim.checkpoint import MANIFEST, Checkpoint
from shim.ec2 import Ec2
from shim.errors import BusyError, PreflightError, RecordError, ShimError, UnreadableError
from shim.store import Store, open_store
from tests.foreign import (
    CLAIM,
    CLAIM_KEY,
    CLOSED,
    COMMIT,
    ENTRY,
    LAUNCH,
    LAUNCH_KEY,
    RECEIPT,
    RECEIPT_KEY,
    UNREADABLE,
    attempt,
    later,
    looked,
    put,
)
from tests.lab.aws import AwsLab
from tests.stages import DATE, PREFIX, Table

every_unreadable = pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table of three stages and an empty directory; what is read is the same in S3."""
    made = Table(tmp_path, open_store(str(tmp_path / "a store")))
    made.three()
    return made


def test_a_run_meets_a_claim_that_is_null(tmp_path: Path, store: Store) -> None:
    """I55: exit 73, its address and the command that moves it away; then the same run is done."""
    table = Table(tmp_path, store)
    table.three()
    put(table.store, CLAIM_KEY, {"open": None})
    done = table.run("stage", "backtest")
    assert (done.returncode, done.stderr.count("Traceback")) == (73, 0)
    assert f"{table.store.uri_of(CLAIM_KEY)} cannot be read (open is None" in done.stderr
    assert f"move it away: {'aws s3 mv' if '://' in table.store.uri else 'mv'} " in done.stderr
    table.store.delete(CLAIM_KEY)
    assert table.run("stage", "backtest").returncode == 0


def test_the_command_that_is_offered_moves_the_record_away(tmp_path: Path) -> None:
    """I55: as it is printed, also where the address holds spaces and quotes."""
    table = Table(tmp_path, open_store(str(tmp_path / "a 'store'")))
    table.three()
    put(table.store, CLAIM_KEY, b"[]")
    with pytest.raises(UnreadableError) as refused, attempt(table):
        pass
    words = shlex.split(refused.value.hint.partition("away: ")[2])
    assert words[0] == "mv"
    Path(words[1]).rename(words[2])
    with attempt(table):
        pass


@every_unreadable
def test_a_claim_that_cannot_be_read_is_named(table: Table, body: bytes) -> None:
    """I55: 73 for who wants to run, a line of status for who looks."""
    put(table.store, CLAIM_KEY, body)
    uri = table.store.uri_of(CLAIM_KEY)
    with pytest.raises(RecordError, match="move it away") as refused, attempt(table):
        pass
    assert (refused.value.code, refused.value.message.startswith(uri)) == (73, True)
    assert [text.startswith(uri) for text in looked(table).unreadable] == [True]
    with suppress(ShimError):
        launch.close_attempts(table.store, PREFIX, "l-1", "a test")


@every_unreadable
def test_a_receipt_that_cannot_be_read_keeps_others_out_for_three_minutes(
    table: Table, body: bytes
) -> None:
    """I55: 73 and its address while its attempt may be alive, then it is closed as lost."""
    put(table.store, CLAIM_KEY, CLAIM)
    put(table.store, RECEIPT_KEY, body)
    uri = table.store.uri_of(RECEIPT_KEY)
    with pytest.raises(UnreadableError) as refused, attempt(table):
        pass
    assert refused.value.message.startswith(uri)
    (row,) = looked(table).stages[1:]
    assert row.last
    assert (row.state, row.last.attempt) == ("unreadable", "a-1")
    later(table.store, record.SILENT + 1)
    with attempt(table):
        pass
    closed = table.receipts("parity")[0]
    assert (closed["outcome"], closed["execution_id"]) == ("lost", "one")
    assert "could not be read" in closed["error"]


@every_unreadable
def test_a_commit_that_cannot_be_read_is_69_and_named(table: Table, body: bytes) -> None:
    """I55: status says changed and goes on."""
    put(table.store, commit.key(PREFIX, "parity"), body)
    with pytest.raises(PreflightError) as refused:
        commit.read(table.store, PREFIX, "parity")
    assert refused.value.message.startswith(table.store.uri_of(commit.key(PREFIX, "parity")))
    assert [stage.state for stage in looked(table).stages] == ["nothing", "changed"]


@every_unreadable
def test_a_launch_record_that_cannot_be_read_hides_no_other(table: Table, body: bytes) -> None:
    """I55: status shows it as unreadable, in text and in JSON."""
    put(table.store, LAUNCH_KEY, body)
    put(table.store, launch.key(PREFIX, "l-2"), {**LAUNCH, "launch": "l-2"})
    rows = looked(table).launches
    assert [(row.launch, row.outcome) for row in rows] == [
        ("l-1", "unreadable"),
        ("l-2", "committed"),
    ]
    (found,) = launch.open_launches(table.store, PREFIX)
    assert (found.lives, found.values) == (True, None)
    assert str(found.problem).startswith(table.store.uri_of(LAUNCH_KEY))
    later(table.store, record.SILENT + 1)
    assert [found.lives for found in launch.open_launches(table.store, PREFIX)] == [False]


def test_status_names_what_it_cannot_read_on_the_command_line(table: Table) -> None:
    """I55: exit 69 for what is missing, never 70; the stage beside it is as it was."""
    put(table.store, CLAIM_KEY, {"open": None})
    put(table.store, LAUNCH_KEY, {**LAUNCH, "closed": "then"})
    put(table.store, RECEIPT_KEY, {**RECEIPT, "opened": ["\x1b[31m"]})
    text, document = table.run("status"), table.run("status", "--json")
    assert (text.returncode, document.returncode) == (69, 69)
    assert "\x1b" not in text.stdout + document.stdout
    found = json.loads(document.stdout)
    assert [launch_["outcome"] for launch_ in found["launches"]] == ["unreadable"]
    for key in (CLAIM_KEY, LAUNCH_KEY, RECEIPT_KEY):
        uri = table.store.uri_of(key)
        assert uri in text.stdout
        assert any(line.startswith(uri) for line in found["unreadable"])


def test_an_odd_entry_does_not_hide_who_is_at_work(table: Table) -> None:
    """I55: the attempt beside it is named as ever; without it the entry is, until it is silent."""
    odd: dict[str, Any] = {"backtest": 5, "../x": ENTRY, "evaluator": {**ENTRY, "attempt": "a/b"}}
    put(table.store, CLAIM_KEY, {"run_date": DATE, "open": {**odd, "parity": ENTRY}})
    with (
        pytest.raises(BusyError, match="parity at 2026-05-17 is run by execution one"),
        attempt(table),
    ):
        pass
    put(table.store, RECEIPT_KEY, CLOSED)
    with (
        pytest.raises(UnreadableError, match=r"_claim\.json cannot be read \(backtest is 5"),
        attempt(table),
    ):
        pass
    later(table.store, record.SILENT + 1)
    with attempt(table):
        pass
    claim = json.loads(table.store.read(CLAIM_KEY)[0])  # type: ignore[index]
    assert list(claim["open"]) == ["parity"]


def test_what_a_newer_version_adds_is_passed_over_and_kept(table: Table) -> None:
    """I55: in the claim, in the receipt that another closes, in a launch record."""
    more = {"newer": {"x": [1]}}
    entry = {**ENTRY, **more, "execution_id": "two"}
    put(table.store, CLAIM_KEY, {**CLAIM, **more, "open": {"backtest": entry}})
    put(table.store, RECEIPT_KEY, {**RECEIPT, **more})
    put(table.store, LAUNCH_KEY, {**LAUNCH, "state": "open", **more})
    with attempt(table):
        claim = json.loads(table.store.read(CLAIM_KEY)[0])  # type: ignore[index]
        assert (claim["newer"], claim["open"]["backtest"]) == (more["newer"], entry)
    assert record.close_left(table.store, PREFIX, {**ENTRY, "stage": "parity"}, "a test")
    assert launch.Record(table.store, LAUNCH_KEY).close("lost", None)
    for key in (RECEIPT_KEY, LAUNCH_KEY):
        closed = json.loads(table.store.read(key)[0])  # type: ignore[index]
        assert (closed["state"], closed["newer"]) == ("closed", more["newer"])


def test_an_attempt_writes_its_receipt_again_that_another_spoilt(table: Table) -> None:
    """I55: nobody has closed it; it goes on and closes it as ever."""
    with attempt(table) as alive:
        put(table.store, record.receipt_key(PREFIX, "parity", "a-2"), b"[]")
        alive.beat()
        assert not alive.superseded.is_set()
    alive.close("committed", 0)
    assert table.receipts("parity")[0]["outcome"] == "committed"


@every_unreadable
def test_a_checkpoint_that_cannot_be_read_fails_no_stage(table: Table, body: bytes) -> None:
    """I55: it is named, and the stage starts without."""
    said: list[str] = []
    plan = table.plan()
    made = Checkpoint(table.store, plan, plan.stage("parity"), table.folder, said.append)
    put(table.store, made._prefix + MANIFEST, body)
    made.open()
    made.close(save=False)
    (line,) = said
    assert line.startswith(f"its checkpoint {table.store.uri_of(made._prefix + MANIFEST)} cannot")


def test_what_is_too_large_for_a_record_is_not_read(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I55: a log or an artifact that was put in a record's place."""
    table = Table(tmp_path, store)
    table.three()
    put(table.store, CLAIM_KEY, CLAIM)
    put(table.store, commit.key(PREFIX, "backtest"), COMMIT)
    monkeypatch.setattr(stores, "LARGEST", 100)
    with (
        pytest.raises(UnreadableError, match=r"_claim\.json is no record \(\d+ bytes\)"),
        attempt(table),
    ):
        pass
    assert looked(table).stages[0].state == "changed"


def test_a_plan_in_a_launch_record_is_never_bad_usage(tmp_path: Path) -> None:
    """I55: the instance says which record, with 73 and not 2."""
    told = {"launch": "l-1", "deadline": LAUNCH["deadline"], "entry": "work", "root": "work",
            "pipeline": "p.toml", "plan": {"run_date": "x"}}  # fmt: skip
    file = tmp_path / "record.json"
    odd: Any
    for odd in (
        told,
        {**told, "entry": "../x"},
        {**told, "plan": []},
        [],
        {**told, "deadline": "x"},
    ):
        file.write_text(json.dumps(odd))
        with pytest.raises(UnreadableError, match=r"record\.json (is not|cannot be read)"):
            guest.run(file, tmp_path / "log")
    with pytest.raises(RecordError, match=r"cannot read .*gone \(No such file"):
        guest.run(tmp_path / "gone", tmp_path / "log")


def test_a_launch_record_that_cannot_be_read_does_not_block_launches(
    aws: AwsLab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """I55: 73 while it may be written, then it is named and passed over: no instance is its."""
    table = Table(tmp_path, open_store(f"s3://{aws.bucket}/some prefix"))
    table.three()
    put(table.store, LAUNCH_KEY, {**LAUNCH, "stages": 5})
    uri = table.store.uri_of(LAUNCH_KEY)
    with pytest.raises(UnreadableError, match="stages is 5, which is no list of text"):
        reap.left(table.store, Ec2(), table.plan())
    later(table.store, record.SILENT + 1)
    assert reap.left(table.store, Ec2(), table.plan()) == ()
    said = capfd.readouterr().err
    assert said.startswith(f"spot_backtest: {uri} cannot be read (stages is 5")
    assert said.endswith("no instance is its, so it is passed over\n")
