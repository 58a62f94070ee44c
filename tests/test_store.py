"""The contract of a store, kept by a directory and by S3 alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from shim.errors import RecordError, UsageError
from shim.store import ABSENT, Conflict, Missing, Store, open_store
from tests.lab import S3Lab
from tests.lab.files import MIB, file, files_of_at_most, sha256

ODD_KEYS = [
    "a key with spaces/and more .txt",
    "日本語/ümläut é/🙂",
    "a+b&c=d#e?f%41;g'h\"$(id)`i`!*",
    "backtest/.dry-run/2026-05-17/_stages/parity.json",
    "x" * 200,
]
NO_KEYS = ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/.", "a\nb", "a\\b", "a\0b", "\ud800",
           "x/" * 512 + "x", ".shim-lock", "a/.shim-tmp-1"]  # fmt: skip


@pytest.mark.parametrize("key", ODD_KEYS)
def test_what_is_put_is_read_back(store: Store, key: str, tmp_path: Path) -> None:
    """Under any key a path can be, by each way of reading, and at its own address."""
    put = store.put(key, b"\0bytes\xff")

    assert store.head(key) == put
    assert store.read(key) == (b"\0bytes\xff", put)
    assert store.get(key, tmp_path / "copy") == sha256(b"\0bytes\xff") == store.digest(key)
    assert (tmp_path / "copy").read_bytes() == b"\0bytes\xff"
    assert list(store.list("")) == [put]
    assert store.uri_of(key) == f"{store.uri}/{key}"


def test_an_object_is_streamed_from_a_byte_on(store: Store) -> None:
    """A log that grows is read where the last look ended; beyond its end there is nothing."""
    store.put("log", b"0123456789")

    tails = {start: b"".join(store.pieces("log", start=start)) for start in (0, 4, 9, 10, 25)}

    assert tails == {0: b"0123456789", 4: b"456789", 9: b"9", 10: b"", 25: b""}


@pytest.mark.parametrize("key", NO_KEYS)
def test_a_key_that_is_no_relative_path_is_refused(store: Store, key: str) -> None:
    """Before anything is touched."""
    with pytest.raises(UsageError):
        store.put(key, b"")
    with pytest.raises(UsageError):
        store.head(key)


def test_an_empty_object_is_an_object(store: Store, tmp_path: Path) -> None:
    """From bytes and from a file."""
    (tmp_path / "empty").touch()

    assert store.put("a", b"").size == store.put("b", tmp_path / "empty").size == 0
    assert store.digest("a") == store.get("b", tmp_path / "copy") == sha256(b"")


def test_a_file_is_put_whole_and_its_progress_adds_up(store: Store, tmp_path: Path) -> None:
    """A file longer than what is sent in one request, with each kind of condition."""
    source = file(tmp_path / "source", 18 * MIB)
    seen: list[int] = []

    first = store.put("big", source, ABSENT, seen.append)
    second = store.put("big", source, first.etag)

    assert sum(seen) == first.size == second.size == 18 * MIB
    assert len(seen) > 1
    assert store.digest("big", second.etag) == sha256(source.read_bytes())
    for expect in (ABSENT, "another"):
        with pytest.raises(Conflict):
            store.put("big", source, expect)


def test_an_object_knows_when_it_was_written(store: Store) -> None:
    """By the store's own clock, in UTC; S3 tells whole seconds."""
    before = store.now()
    put = store.put("a", b"")

    assert before.tzinfo is UTC
    assert put.modified.utcoffset() == timedelta(0)
    assert before <= put.modified <= store.now() + timedelta(seconds=1)


def test_an_absent_key_is_told_apart(store: Store, tmp_path: Path) -> None:
    """None where that is an answer, Missing where it is not; a folder is no object."""
    store.put("folder/a", b"")

    for key in ("none", "folder", "folder/a/b"):
        assert store.head(key) is None
        assert store.read(key) is None
        with pytest.raises(Missing):
            store.get(key, tmp_path / "copy")
        with pytest.raises(Missing):
            store.digest(key)
    assert not (tmp_path / "copy").exists()


def test_a_store_that_nobody_wrote_to_is_empty(store: Store) -> None:
    """It can be asked, and asking makes nothing."""
    assert list(store.list("")) == []
    assert store.folders("") == store.folders("backtest") == []
    store.now()
    store.delete("none")
    assert not Path(store.uri).exists()


def test_a_put_that_expects_absence_keeps_what_is_there(store: Store) -> None:
    """As `If-None-Match: *` does."""
    store.put("a", b"first", ABSENT)

    with pytest.raises(Conflict):
        store.put("a", b"second", ABSENT)

    assert store.digest("a") == sha256(b"first")


def test_a_put_that_expects_an_etag_replaces_only_that(store: Store) -> None:
    """As `If-Match` does; an absent key has no etag."""
    first = store.put("a", b"one")
    second = store.put("a", b"two", first.etag)

    for key, etag in (("a", first.etag), ("none", first.etag)):
        with pytest.raises(Conflict):
            store.put(key, b"three", etag)

    assert store.head("a") == second
    assert store.head("none") is None


def test_a_read_that_expects_an_etag_reads_only_that(store: Store, tmp_path: Path) -> None:
    """So that what was verified is what is used."""
    first = store.put("a", b"one")
    second = store.put("a", b"two")

    assert store.get("a", tmp_path / "copy", second.etag) == sha256(b"two")
    with pytest.raises(Conflict):
        store.get("a", tmp_path / "copy", first.etag)
    with pytest.raises(Conflict):
        store.digest("a", first.etag)


def test_a_delete_that_expects_an_etag_deletes_only_that(store: Store) -> None:
    """And one that finds nothing is content."""
    first = store.put("a", b"one")
    second = store.put("a", b"two")

    for expect in (first.etag, ABSENT):
        with pytest.raises(Conflict):
            store.delete("a", expect)
    store.delete("a", second.etag)
    store.delete("a", second.etag)

    assert store.head("a") is None


def test_objects_are_listed_by_prefix_in_the_order_of_their_keys(store: Store) -> None:
    """A prefix is text, not a folder; `-` sorts before `/` and `é` after `z`."""
    keys = ["2026-05-17/a", "2026-05-17/b/c", "2026-05-17-x", "2026-05-18/a", "z", "é"]
    for key in keys:
        store.put(key, key.encode())

    def listed(prefix: str) -> list[str]:
        return [entry.key for entry in store.list(prefix)]

    assert listed("") == sorted(keys, key=str.encode)
    assert listed("2026-05-17/") == ["2026-05-17/a", "2026-05-17/b/c"]
    assert listed("2026-05-1") == sorted(keys[:4], key=str.encode)
    assert listed("2026-05-17/b/") == ["2026-05-17/b/c"]
    assert listed("none/at/all") == []
    assert next(iter(store.list("z"))) == store.head("z")


def test_folders_are_those_that_hold_objects(store: Store) -> None:
    """Directly below, with or without the last slash; a folder that was emptied is gone."""
    for key in ("top", "runs/2026-05-18/a", "runs/2026-05-17/b/c", "runs/x", "runs/gone/d"):
        store.put(key, b"")
    store.delete("runs/gone/d")

    assert store.folders("") == ["runs"]
    assert store.folders("runs") == store.folders("runs/") == ["2026-05-17", "2026-05-18"]
    assert store.folders("runs/2026") == []


@pytest.mark.slow
def test_more_objects_than_a_page_holds_are_listed(s3_uri: str, s3: S3Lab) -> None:
    """S3 answers with a thousand keys at most."""
    store = open_store(s3_uri)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put(f"a/{n:04}/x", b""), range(1005)))

    assert [entry.key for entry in store.list("")] == [f"a/{n:04}/x" for n in range(1005)]
    assert len(store.folders("a")) == 1005


def test_a_source_that_cannot_be_read_is_named(store: Store, tmp_path: Path) -> None:
    """73, and nothing is written."""
    with pytest.raises(RecordError, match="absent"):
        store.put("a", tmp_path / "absent")
    with pytest.raises(RecordError, match=tmp_path.name):
        store.put("a", tmp_path)

    assert list(store.list("")) == []


def test_a_copy_that_cannot_be_written_is_removed(store: Store, tmp_path: Path) -> None:
    """73, with the path that has no room."""
    store.put("big", file(tmp_path / "source", 3 * MIB))

    with files_of_at_most(MIB), pytest.raises(RecordError, match="a copy of"):
        store.get("big", tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "uri",
    ["", " ", "a\0b", "s3://", "s3://ab", "s3://UPPER", "s3://under_score", "s3://1.2.3.4",
     "s3://a..b", "s3://bucket/../up", "s3://bucket//x", "s3:/bucket", "S3://bucket",
     "gs://bucket", "file:///tmp/x"],
)  # fmt: skip
def test_an_address_that_cannot_be_a_store_is_refused(uri: str) -> None:
    """2, with what to write instead."""
    with pytest.raises(UsageError) as error:
        open_store(uri)

    assert error.value.hint


def test_an_address_has_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory's is absolute; S3's has no slash at the end."""
    monkeypatch.chdir(tmp_path)

    assert open_store("a b/../artifacts/").uri == f"{tmp_path}/artifacts"
    assert open_store("s3://bucket-1/").uri == "s3://bucket-1"
    assert open_store("s3://bucket-1/a/b/").uri_of("c") == "s3://bucket-1/a/b/c"
