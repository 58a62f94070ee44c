"""What only S3 does: answers that are lost, writes that meet, downloads that break."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from shim import aws
from shim.errors import PreflightError, RecordError
from shim.store import ABSENT, Conflict, Store
from tests.lab import S3Lab
from tests.lab.files import MIB, file, sha256


@pytest.fixture
def bucket(s3_uri: str) -> str:
    """The bucket of an empty store."""
    return s3_uri.split("/")[2]


@pytest.mark.parametrize("status", ["drop-before", "drop-after", 500, "503 SlowDown"])
@pytest.mark.parametrize("size", [100, 9 * MIB])
def test_a_conditional_put_survives_a_lost_answer(
    remote: Store, s3: S3Lab, tmp_path: Path, status: str | int, size: int
) -> None:
    """botocore sends it again; that its own first success is in the way does not matter."""
    source = file(tmp_path / "source", size)
    first = remote.put("a", b"before")

    s3.fail("POST" if size > MIB else "PUT", "uploadId" if size > MIB else "/a?", status)
    second = remote.put("a", source, first.etag)
    s3.fail("POST" if size > MIB else "PUT", "uploadId" if size > MIB else "/b?", status)
    remote.put("b", source, ABSENT)

    assert remote.head("a") == replace(second, modified=ANY)
    assert remote.digest("a") == remote.digest("b") == sha256(source.read_bytes())


def test_an_answer_lost_to_a_real_conflict_is_a_conflict(remote: Store, s3: S3Lab) -> None:
    """The same bytes of another writer are not ours."""
    remote.put("a", b"same")
    s3.fail("PUT", "/a?", "drop-before")

    with pytest.raises(Conflict):
        remote.put("a", b"same", ABSENT)


@pytest.mark.parametrize("size", [100, 9 * MIB])
def test_a_write_that_met_another_is_made_again(
    remote: Store, s3: S3Lab, bucket: str, tmp_path: Path, size: int
) -> None:
    """409 asks for it, and for parts to be sent anew."""
    source = file(tmp_path / "source", size)
    order = ("POST" if size > MIB else "PUT", "uploadId" if size > MIB else "/a?")

    s3.fail(*order, "409 ConditionalRequestConflict")
    remote.put("a", source, ABSENT)

    assert remote.digest("a") == sha256(source.read_bytes())
    assert s3.unfinished(bucket) == 0


def test_a_write_that_keeps_meeting_others_gives_up(remote: Store, s3: S3Lab) -> None:
    """73, with S3's own code."""
    s3.fail("PUT", "/a?", "409 ConditionalRequestConflict", times=99)

    with pytest.raises(RecordError, match="ConditionalRequestConflict"):
        remote.put("a", b"x")


def test_an_upload_that_fails_leaves_no_parts(
    remote: Store,
    s3: S3Lab,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would be paid for and never be seen."""
    monkeypatch.setitem(aws.PATIENT, "attempts", 1)
    s3.fail("PUT", "partNumber=2", 500)

    with pytest.raises(RecordError):
        remote.put("a", file(tmp_path / "source", 17 * MIB))

    assert s3.unfinished(bucket) == 0
    assert remote.head("a") is None


def test_a_download_that_breaks_is_taken_up_where_it_broke(
    remote: Store, s3: S3Lab, tmp_path: Path
) -> None:
    """botocore does not do that for a body."""
    body = file(tmp_path / "source", 5 * MIB).read_bytes()
    remote.put("a", body)

    s3.fail("GET", "/a?", "cut", times=2)
    assert remote.get("a", tmp_path / "copy") == sha256(body)
    s3.fail("GET", "/a?", "cut", times=99)
    with pytest.raises(PreflightError):
        remote.digest("a")


def test_a_download_never_mixes_two_versions(remote: Store, s3: S3Lab, tmp_path: Path) -> None:
    """Replaced between the break and the rest."""
    remote.put("a", file(tmp_path / "source", 5 * MIB))
    s3.fail("GET", "/a?", "cut")
    pieces = remote.pieces("a")
    next(pieces)
    remote.put("a", b"z" * 5 * MIB)

    with pytest.raises(Conflict):
        list(pieces)
