"""Anything in any place of a record: what reads it goes on, or refuses it by name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shim import commit, launch, record
from shim.checkpoint import MANIFEST, Checkpoint
from shim.errors import BusyError, PreflightError, RecordError, UnreadableError
from shim.store import open_store
from tests.foreign import (
    CLAIM,
    CLAIM_KEY,
    CLOSED,
    COMMIT,
    LAUNCH,
    LAUNCH_KEY,
    RECEIPT,
    RECEIPT_KEY,
    attempt,
    changed,
    later,
    looked,
    put,
)
from tests.foreign import (
    MANIFEST as SAVED,
)
from tests.stages import DATE, PREFIX, Table

few = settings(max_examples=30, deadline=None, database=None)


@contextmanager
def fresh() -> Iterator[Table]:
    """A table and an empty directory of its own, for one example of a property."""
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder), open_store(f"{folder}/a store"))
        table.three()
        yield table


@few
@given(changed(CLAIM), changed(RECEIPT, CLOSED), st.booleans())
def test_no_claim_and_no_receipt_breaks_an_attempt(claim: bytes, receipt: bytes, old: bool) -> None:
    """I55: whatever is in any place of them: it runs, or is refused with 69, 73 or 75."""
    with fresh() as table:
        put(table.store, CLAIM_KEY, claim)
        put(table.store, RECEIPT_KEY, receipt)
        if old:
            later(table.store, record.SILENT + 1)
        looked(table)
        try:
            with attempt(table):
                pass
        except BusyError:
            said = ""
            assert not old
        except (PreflightError, RecordError) as error:
            said = str(error)
        else:
            said = ""
        assert not said or table.store.uri_of(CLAIM_KEY if old else PREFIX) in said
        looked(table)


@few
@given(changed(COMMIT), changed(LAUNCH, {**LAUNCH, "state": "open"}))
def test_no_commit_and_no_launch_breaks_status(made: bytes, launched: bytes) -> None:
    """I55: whatever is in any place of them; a commit is read or refused with 69."""
    with fresh() as table:
        put(table.store, commit.key(PREFIX, "parity"), made)
        put(table.store, LAUNCH_KEY, launched)
        assert len(looked(table).launches) == 1
        with suppress(PreflightError):
            commit.verified(table.store, PREFIX, "parity", DATE)
        there = launch.Record(table.store, LAUNCH_KEY)
        with suppress(UnreadableError):
            there.load()
            there.abandoned()
        list(launch.open_launches(table.store, PREFIX))


@few
@given(changed(SAVED))
def test_no_manifest_breaks_a_checkpoint(body: bytes) -> None:
    """I55: whatever is in any place of it."""
    with fresh() as table:
        said: list[str] = []
        plan = table.plan()
        made = Checkpoint(table.store, plan, plan.stage("parity"), table.folder, said.append)
        put(table.store, made._prefix + MANIFEST, body)
        made.open()
        made.close(save=False)
        assert len(said) <= 1
