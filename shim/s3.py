"""A store in S3, with conditional writes, streamed bodies and objects that grow.

Conditional writes: docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html. A write
whose answer was lost is sent again by botocore, and then its own first success makes the condition
fail; so each write carries an id in the object's metadata that tells whose it is.
"""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from builtins import list as listed  # Store.list shadows it
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, FlexibleChecksumError

from shim.aws import Connection, date
from shim.aws_errors import BROKEN, error_code, error_status
from shim.errors import RecordError
from shim.store import (
    ABSENT,
    PIECE,
    Absent,
    Conflict,
    Expect,
    Missing,
    Object,
    Progress,
    Store,
    checked,
    key_problem,
)
from shim.upload import MIN_PART, WRITE_ID, Write, condition, send

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

TRIES = 5  # of a write that met another one, and of a download that broke
GONE = ("NoSuchKey", "NoSuchUpload")


class BeyondEnd(Exception):  # noqa: N818  a state of the store that callers handle, not a failure
    """The object ends before the byte that was asked for."""


class S3Store(Store):
    """Objects of one bucket below an optional prefix."""

    etag_tells_content = True

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._bucket = bucket
        self._base = f"{prefix}/" if prefix else ""
        self._aws = Connection(self.uri, lambda: self.hurried)
        self._writer = uuid.uuid4().hex

    @property
    def endpoint(self) -> str:  # type: ignore[override]  # an attribute where there is none
        with self._aws.s3():
            return self._aws.client().meta.endpoint_url.rstrip("/")

    def head(self, key: str) -> Object | None:
        return self._look(key)[0]

    def read(self, key: str) -> tuple[bytes, Object] | None:
        answer = self._open(key)
        if answer is None:
            return None
        found = Object(key, answer["ContentLength"], answer["ETag"], _utc(answer["LastModified"]))
        return b"".join(self._body(key, answer)), found

    def pieces(self, key: str, etag: str | None = None, start: int = 0) -> Iterator[bytes]:
        try:
            answer = self._open(key, etag, start)
        except BeyondEnd:
            return
        if answer is None:
            raise Missing(key)
        yield from self._body(key, answer, start)

    def put(
        self, key: str, body: bytes | Path, expect: Expect = None, progress: Progress | None = None
    ) -> Object:
        if isinstance(body, bytes):
            size = len(body)
        else:
            try:
                size = body.stat().st_size
            except OSError as error:
                raise RecordError(f"cannot read {body} ({error.strerror})") from error
        write_id = uuid.uuid4().hex
        return self._write(
            Write(self._at(key), key, body, size, expect, write_id, progress=progress)
        )

    def extend(self, key: str, source: Path, done: int, size: int, etag: str | None) -> str:
        for _ in range(TRIES):
            if etag and done == size:
                return etag
            copied = done if done > MIN_PART else 0
            write_id = f"{self._writer}-{size}"
            write = Write(self._at(key), key, source, size, etag or ABSENT, write_id, copied)
            try:
                return self._write(write).etag
            except Conflict:
                # An earlier call may have failed here and yet have reached S3.
                found, writer = self._look(key)
                if not found or not writer.startswith(self._writer) or found.etag == etag:
                    raise
                done, etag = found.size, found.etag
        raise Conflict(key)

    def delete(self, key: str, expect: Expect = None) -> None:
        if isinstance(expect, Absent):
            if self.head(key):
                raise Conflict(key)
            return
        with self._aws.s3(writing=True) as s3:
            try:
                s3.delete_object(**self._at(key), **condition(expect))
            except ClientError as error:
                if error_status(error) == 412:
                    raise Conflict(key) from error
                if error_code(error) != "NoSuchKey":
                    raise

    def list(self, prefix: str) -> Iterator[Object]:
        for page in self._pages(self._base + prefix):
            for entry in page.get("Contents", []):
                key = entry["Key"].removeprefix(self._base)
                if key_problem(key) is None:  # a console's folder marker ends with a slash
                    yield Object(key, entry["Size"], entry["ETag"], _utc(entry["LastModified"]))

    def folders(self, prefix: str) -> listed[str]:
        start = self._base + (f"{prefix.rstrip('/')}/" if prefix else "")
        pages = self._pages(start, Delimiter="/")
        found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        return sorted(name[len(start) : -1] for name in found)

    def now(self) -> datetime:
        with self._aws.s3() as s3:
            answer = s3.list_objects_v2(Bucket=self._bucket, Prefix=self._base, MaxKeys=1)
        return date(answer)

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._base + checked(key)}

    def _pages(self, start: str, **more: Any) -> Iterator[ListObjectsV2OutputTypeDef]:
        while True:
            with self._aws.s3() as s3:
                page = s3.list_objects_v2(Bucket=self._bucket, Prefix=start, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _look(self, key: str) -> tuple[Object | None, str]:
        """Return what a key holds and the id of the write that made it."""
        with self._aws.s3() as s3:
            try:
                answer = s3.head_object(**self._at(key))
            except ClientError as error:
                if error_status(error) == 404:
                    return None, ""
                raise
        found = Object(key, answer["ContentLength"], answer["ETag"], _utc(answer["LastModified"]))
        return found, answer["Metadata"].get(WRITE_ID, "")

    def _open(
        self, key: str, etag: str | None = None, start: int = 0
    ) -> GetObjectOutputTypeDef | None:
        more: dict[str, Any] = {"Range": f"bytes={start}-"} if start else {}
        with self._aws.s3() as s3:
            try:
                return s3.get_object(**self._at(key), **condition(etag), **more)
            except ClientError as error:
                if error_code(error) == "NoSuchKey":
                    return None
                if error_status(error) == 412:
                    raise Conflict(key) from error
                if error_status(error) == 416:
                    raise BeyondEnd(key) from error
                raise

    def _body(self, key: str, answer: GetObjectOutputTypeDef, start: int = 0) -> Iterator[bytes]:
        """Stream a body; one that breaks off is taken up again where it broke."""
        size, etag, got = answer["ContentLength"], answer["ETag"], 0
        for left in reversed(range(TRIES)):
            try:
                with closing(answer["Body"]) as body:
                    for piece in body.iter_chunks(PIECE):
                        yield piece
                        got += len(piece)
            except FlexibleChecksumError as error:  # all of it came, and it is not what was put
                raise self._aws.explain(error) from error
            except BROKEN as error:
                if not left:
                    raise self._aws.explain(error) from error
            if got == size:
                return
            again = self._open(key, etag, start + got)
            if again is None:
                raise Missing(key)
            answer = again

    def _write(self, write: Write) -> Object:
        sent: dict[str, Write] = {}
        for left in reversed(range(TRIES)):
            # Each try has an id of its own, and reads its bytes anew: they may be others.
            tried = replace(write, write_id=f"{write.write_id}-{left}", sent=hashlib.sha256())
            sent[tried.write_id] = tried
            with self._aws.s3(writing=True) as s3:
                try:
                    return send(s3, tried)
                except ClientError as error:
                    if error_status(error) == 412 or error_code(error) in GONE:
                        found, write_id = self._look(write.key)
                        if found and write_id in sent:
                            return replace(found, sha256=sent[write_id].sha256)
                        raise Conflict(write.key) from error
                    if error_status(error) != 409 or not left:
                        raise
            time.sleep(random.uniform(0, 0.1 * 2 ** (TRIES - left)))  # noqa: S311  a pause
        raise AssertionError("the last try returns or raises")


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
