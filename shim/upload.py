"""One write to S3 under a condition: in one request, or in parts that can begin with a copy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from shim.aws import date
from shim.errors import ShimError
from shim.store import Absent, Expect, Object, Progress, cut

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MIN_PART = 5 << 20  # bytes; the last part may be smaller, and a source of ranges must be larger
MAX_PARTS = 10_000
PART = 8 << 20  # bytes in memory at a time; a file that is not longer goes in one request
COPIED = 256 << 20  # bytes that S3 copies in one request, in seconds
WRITE_ID = "shim-write"  # metadata: which write made the object


@dataclass(frozen=True)
class Write:
    """What is written: body[:size], of which the object already holds the first `copied` bytes.

    `at` is the bucket and the full key; `copied` is 0 or more than MIN_PART, and then `expect` is
    the etag of what is copied. `sent` takes every byte that is sent, in order: botocore may send a
    piece again, but from memory.
    """

    at: dict[str, Any]
    key: str
    body: bytes | Path
    size: int
    expect: Expect
    write_id: str
    copied: int = 0
    progress: Progress | None = None
    sent: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of what was sent, if that was all of it."""
        return None if self.copied else self.sent.hexdigest()


def send(s3: S3Client, write: Write) -> Object:
    """Make the write and return the object.

    Raises botocore's ClientError with 412, or with 404 for a key or an upload that is gone, when
    the condition fails; with 409 when another write was under way and this one is to be made again:
    docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html.
    """
    if write.copied or (isinstance(write.body, Path) and write.size > PART):
        return _in_parts(s3, write)
    body = b"".join(cut(write.body, 0, write.size))
    write.sent.update(body)
    answer = s3.put_object(
        **write.at,
        Body=body,
        Metadata={WRITE_ID: write.write_id},
        **condition(write.expect),
    )
    if write.progress:
        write.progress(write.size)
    return Object(write.key, write.size, answer["ETag"], date(answer), write.sha256)


def condition(expect: Expect) -> dict[str, Any]:
    """Return the argument of a request that carries an expectation."""
    if isinstance(expect, Absent):
        return {"IfNoneMatch": "*"}
    return {} if expect is None else {"IfMatch": expect}


def _in_parts(s3: S3Client, write: Write) -> Object:
    """docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html."""
    created = s3.create_multipart_upload(**write.at, Metadata={WRITE_ID: write.write_id})
    upload = {**write.at, "UploadId": created["UploadId"]}
    try:
        parts = [*_copies(s3, upload, write)]
        parts += _parts(s3, upload, write, len(parts))
        answer = s3.complete_multipart_upload(
            **upload, MultipartUpload={"Parts": parts}, **condition(write.expect)
        )
    except BaseException:
        # Parts are paid for until they are dropped; the failure that led here is the one to tell.
        with suppress(BotoCoreError, ClientError, ShimError):
            s3.abort_multipart_upload(**upload)
        raise
    # Its age is that of its first request: docs.aws.amazon.com/AmazonS3/latest/userguide/
    # UsingMetadata.html.
    return Object(write.key, write.size, answer["ETag"], date(created), write.sha256)


def _copies(s3: S3Client, upload: dict[str, Any], write: Write) -> Iterator[Any]:
    """docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html."""
    count = -(-write.copied // COPIED)
    for number in range(count):
        start, end = (write.copied * edge // count for edge in (number, number + 1))
        answer = s3.upload_part_copy(
            **upload,
            PartNumber=number + 1,
            CopySource={"Bucket": write.at["Bucket"], "Key": write.at["Key"]},
            CopySourceRange=f"bytes={start}-{end - 1}",
            CopySourceIfMatch=str(write.expect),
        )
        yield _done(number + 1, answer["CopyPartResult"])


def _parts(s3: S3Client, upload: dict[str, Any], write: Write, before: int) -> Iterator[Any]:
    length = max(PART, -(-(write.size - write.copied) // (MAX_PARTS - before)))
    for number, start in enumerate(range(write.copied, write.size, length), before + 1):
        piece = b"".join(cut(write.body, start, min(start + length, write.size)))
        write.sent.update(piece)
        answer = s3.upload_part(**upload, PartNumber=number, Body=piece)
        yield _done(number, answer)
        if write.progress:
            write.progress(len(piece))


def _done(number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part for CompleteMultipartUpload, with the checksums that S3 gave for it."""
    sums = {name: answer[name] for name in answer if name.startswith("Checksum")}
    return {"PartNumber": number, "ETag": answer["ETag"], **sums}
