"""A growing log ends as one object, whatever the store does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from shim.ship import Shipper, log_key
from shim.store import Store, open_store
from tests.children import until
from tests.lab import S3Lab

KEY = "_ssm_logs/evaluator/2026-05-17/host-235958Z.log"
SECOND = "_ssm_logs/evaluator/2026-05-17/host-235958Z-2.log"
OFTEN = 0.02


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An empty log."""
    path = tmp_path / "the.log"
    path.touch()
    return path


@contextmanager
def shipping(store: Store, log: Path, every: float = OFTEN) -> Iterator[Shipper]:
    """Ship a log for the length of a block, and to its end."""
    shipper = Shipper(store, KEY, log, every)
    shipper.start()
    try:
        yield shipper
    finally:
        shipper.finish(0)


def grow(log: Path, data: bytes) -> bytes:
    """Append to a log and return the data."""
    with log.open("ab") as stream:
        stream.write(data)
    return data


def content(store: Store, key: str = KEY) -> bytes | None:
    """Return what the store holds under a key."""
    found = store.read(key)
    return found[0] if found else None


def test_the_key_of_a_log_lies_under_the_run_date_whatever_the_clock_says() -> None:
    """I01: after midnight the folder is still the run's; the time is UTC."""
    moment = datetime(2026, 5, 18, 9, 0, 5, tzinfo=timezone(timedelta(hours=9)))
    key = log_key("_ssm_logs/", "evaluator", "2026-05-17", "ip-10-0-0-1.ec2.internal", moment)
    assert key == "_ssm_logs/evaluator/2026-05-17/ip-10-0-0-1.ec2.internal-000005Z.log"


@pytest.mark.parametrize(("host", "name"), [("a/../b", "a-..-b"), ("", "host"), ("größe", "gr-e")])
def test_a_host_name_cannot_leave_its_place_in_the_key(host: str, name: str) -> None:
    """Whatever a machine calls itself."""
    moment = datetime(2026, 5, 17, tzinfo=UTC)
    assert log_key("", "s", "2026-05-17", host, moment) == f"s/2026-05-17/{name}-000000Z.log"


def test_a_growing_log_is_in_the_store_while_it_grows(store: Store, log: Path) -> None:
    """I04: the object follows the file, and ends equal to it, as one object."""
    with shipping(store, log) as shipper:
        whole = b""
        for number in range(4):
            whole += grow(log, b"%d\n" % number * 1000)
            until(lambda expected: content(store) == expected, whole)
        whole += grow(log, b"last words")
        assert shipper.finish()
        assert shipper.shipped == len(whole)
        assert shipper.uri == store.uri_of(KEY)
    assert content(store) == whole
    assert [found.key for found in store.list("")] == [KEY]


def test_an_empty_log_ends_as_an_empty_object(store: Store, log: Path) -> None:
    """That a command said nothing is worth keeping too."""
    with shipping(store, log, every=60) as shipper:
        assert shipper.finish()
    assert content(store) == b""


def test_a_log_that_never_came_to_be_is_not_claimed_to_be_shipped(
    store: Store, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to ship and nothing to say."""
    log.unlink()
    with shipping(store, log) as shipper:
        assert not shipper.finish()
    assert list(store.list("")) == []
    assert capfd.readouterr().err == ""


def test_a_key_that_is_taken_is_left_alone_for_the_next_number(store: Store, log: Path) -> None:
    """Two captures on one host in one second."""
    store.put(KEY, b"somebody's")
    grow(log, b"mine")
    with shipping(store, log) as shipper:
        assert shipper.finish()
    assert (content(store), content(store, SECOND)) == (b"somebody's", b"mine")
    assert shipper.uri == store.uri_of(SECOND)


def test_an_object_that_somebody_else_changes_is_left_to_them(store: Store, log: Path) -> None:
    """The whole log goes under the next number."""
    with shipping(store, log) as shipper:
        grow(log, b"one ")
        until(lambda: shipper.shipped == 4)
        store.put(KEY, b"overwritten")
        grow(log, b"two")
        assert shipper.finish()
    assert (content(store), content(store, SECOND)) == (b"overwritten", b"one two")


def test_what_was_shipped_of_a_log_that_is_cut_stays(store: Store, log: Path) -> None:
    """I04: whoever truncates the file does not truncate the object."""
    with shipping(store, log) as shipper:
        grow(log, b"precious")
        until(lambda: shipper.shipped == 8)
        log.write_bytes(b"new")
        assert shipper.finish()
    assert (content(store), content(store, SECOND)) == (b"precious", b"new")


def test_a_store_that_fails_and_recovers_gets_everything_and_is_told_of_once(
    s3: S3Lab, s3_uri: str, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Many failed rounds are one line on stderr, and the recovery is another."""
    store = open_store(s3_uri)
    s3.fail("PUT", "_ssm_logs", 501, times=6)
    grow(log, b"all of it")
    with shipping(store, log) as shipper:
        until(lambda: content(store) == b"all of it")
        assert shipper.finish()
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "the log is not shipped at the moment" in errors[0]
    assert "the log is shipped again" in errors[1]


def test_a_store_that_fails_until_the_end_is_retried_then(
    s3: S3Lab, s3_uri: str, log: Path
) -> None:
    """The last rounds come soon after each other."""
    store = open_store(s3_uri)
    s3.fail("PUT", "_ssm_logs", 501, times=3)
    with shipping(store, log, every=60) as shipper:
        grow(log, b"late")
        assert shipper.finish()
    assert content(store) == b"late"


def test_a_store_that_stays_away_costs_bounded_time_and_the_log_is_kept_and_named(
    tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """I04: nothing is deleted that is not in the store."""
    (tmp_path / "a file").touch()
    grow(log, b"precious")
    with shipping(open_store(str(tmp_path / "a file" / "store")), log) as shipper:
        assert not shipper.finish(0.5)
    assert log.read_bytes() == b"precious"
    assert f"it is kept in {log}" in capfd.readouterr().err


def test_a_large_log_is_not_uploaded_twice(s3: S3Lab, s3_uri: str, log: Path) -> None:
    """What is there is copied within S3, but for the first 5 MiB, which it cannot copy."""
    store = open_store(s3_uri)
    piece, times = bytes(8 << 20), 4
    with shipping(store, log) as shipper:
        for number in range(1, times + 1):
            grow(log, piece)
            until(lambda size: shipper.shipped == size, number * len(piece))
        assert shipper.finish()
    assert s3.uploaded(store.uri_of(KEY)) < times * len(piece) + (6 << 20)
    found = store.head(KEY)
    assert found
    assert found.size == times * len(piece)
