"""Objects that grow, as a log does while its command runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shim import aws
from shim.errors import PreflightError, RecordError
from shim.store import Conflict, Store, open_store
from tests.lab import S3Lab
from tests.lab.files import MIB, file, files_of_at_most, sha256


def test_an_object_grows_without_being_uploaded_twice(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In S3 too, once it is longer than the shortest part; its bytes are right at each step."""
    source = file(tmp_path / "source", 21 * MIB)
    body = source.read_bytes()
    etag, done = None, 0

    for size in (0, 6 * MIB, 6 * MIB, 6 * MIB + 1, 7 * MIB, 18 * MIB, 21 * MIB):
        etag = store.extend("a log", source, done, size, etag)
        done = size
        assert store.digest("a log", etag) == sha256(body[:size])

    if store.uri.startswith("s3:"):
        uploaded = request.getfixturevalue("s3").uploaded(store.uri_of("a log"))
        assert uploaded == 21 * MIB


def test_a_short_object_grows_too(store: Store, tmp_path: Path) -> None:
    """Below the size at which S3 can copy a range it is sent again."""
    source = file(tmp_path / "source", 4096)

    etag = store.extend("log", source, 0, 1000, None)
    etag = store.extend("log", source, 1000, 4096, etag)

    assert store.digest("log", etag) == sha256(source.read_bytes())


@pytest.mark.parametrize("done", [1000, 6 * MIB])
def test_an_object_of_somebody_else_does_not_grow(store: Store, tmp_path: Path, done: int) -> None:
    """Neither one that was there before, nor one that was replaced, nor one that was deleted."""
    source = file(tmp_path / "source", 7 * MIB)
    store.put("theirs", b"x")
    ours = store.extend("ours", source, 0, done, None)
    store.put("ours", b"x" * done)
    gone = store.extend("gone", source, 0, done, None)
    store.delete("gone")

    for key, size, etag in (("theirs", 0, None), ("ours", done, ours), ("gone", done, gone)):
        with pytest.raises(Conflict):
            store.extend(key, source, size, 7 * MIB, etag)

    assert store.digest("theirs") == sha256(b"x")
    assert store.digest("ours") == sha256(b"x" * done)
    assert store.head("gone") is None


def test_a_source_that_shrank_is_an_error(store: Store, tmp_path: Path) -> None:
    """Rather than an object that claims more than there is."""
    source = file(tmp_path / "source", 4096)
    etag = store.extend("log", source, 0, 1000, None)
    os.truncate(source, 2000)

    with pytest.raises(RecordError, match="fewer"):
        store.extend("log", source, 1000, 4096, etag)

    assert store.extend("log", source, 1000, 2000, etag)
    assert store.digest("log") == sha256(source.read_bytes())


@pytest.mark.parametrize("done", [0, 1000])
def test_growth_that_failed_can_be_tried_again(tmp_path: Path, done: int) -> None:
    """In a directory a full disk leaves the object, and its etag, as they were."""
    source = file(tmp_path / "source", 2 * MIB)
    store = open_store(str(tmp_path / "store"))
    etag = store.extend("log", source, 0, done, None) if done else None
    before = store.head("log")

    with files_of_at_most(MIB), pytest.raises(RecordError, match="too large"):
        store.extend("log", source, done, 2 * MIB, etag)
    after = store.head("log")
    store.extend("log", source, done, 2 * MIB, etag)

    assert after == before
    assert store.digest("log") == sha256(source.read_bytes())


@pytest.mark.parametrize(("done", "method"), [(0, "PUT"), (1000, "PUT"), (6 * MIB, "POST")])
def test_growth_whose_answers_were_lost_can_be_tried_again(
    s3: S3Lab,
    s3_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: int,
    method: str,
) -> None:
    """S3 has the bytes and we do not know: the next call finds its own write, and may go on."""
    monkeypatch.setitem(aws.PATIENT, "attempts", 1)
    source = file(tmp_path / "source", 9 * MIB)
    store = open_store(s3_uri)
    store.now()
    etag = store.extend("log", source, 0, done, None) if done else None

    s3.fail(method, "/log?" if method == "PUT" else "uploadId", "drop-after")
    with pytest.raises(PreflightError):
        store.extend("log", source, done, 8 * MIB, etag)
    etag = store.extend("log", source, done, 9 * MIB, etag)

    assert store.digest("log", etag) == sha256(source.read_bytes())


def test_a_directory_is_never_written_through_a_link(tmp_path: Path) -> None:
    """A link where the log should be is not followed."""
    store = open_store(str(tmp_path / "store"))
    store.put("a", b"")
    (tmp_path / "store/log").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RecordError):
        store.extend("log", file(tmp_path / "source", 64), 0, 64, None)

    assert not (tmp_path / "elsewhere").exists()
