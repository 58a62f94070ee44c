"""The S3 stand-in itself: what it adds to moto is as AWS documents it, and its faults are real."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from shim.aws_errors import UNREACHED
from tests.lab import SERVER, S3Lab

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20


@pytest.fixture
def client(s3: S3Lab) -> S3Client:
    """A client that asks once and shows what was answered."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=0.5)
    return boto3.session.Session().client("s3", config=config)


@pytest.fixture
def bucket(s3: S3Lab) -> str:
    """An empty bucket."""
    name = f"lab-{uuid.uuid4().hex[:12]}"
    s3.make_bucket(name)
    return name


def started(client: S3Client, at: dict[str, Any], body: bytes = b"parts") -> dict[str, Any]:
    """Return the arguments that complete an upload of one part."""
    upload = {**at, "UploadId": client.create_multipart_upload(**at)["UploadId"]}
    etag = client.upload_part(**upload, PartNumber=1, Body=body)["ETag"]
    return {**upload, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}}


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    """Return the status and the code of a refusal."""
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_completing_an_upload_honours_if_match(client: S3Client, bucket: str) -> None:
    """AWS: API_CompleteMultipartUpload, If-Match."""
    at: dict[str, Any] = {"Bucket": bucket, "Key": "a key/é"}
    etag = client.put_object(**at, Body=b"old")["ETag"]

    with pytest.raises(ClientError) as error:
        client.complete_multipart_upload(**started(client, at), IfMatch='"0000"')
    client.complete_multipart_upload(**started(client, at), IfMatch=etag)

    assert refusal(error) == (412, "PreconditionFailed")
    assert client.get_object(**at)["Body"].read() == b"parts"


def test_completing_an_upload_over_an_absent_key_is_refused(client: S3Client, bucket: str) -> None:
    """AWS: conditional-writes.html, If-Match without a current object is 404."""
    with pytest.raises(ClientError) as error:
        client.complete_multipart_upload(
            **started(client, {"Bucket": bucket, "Key": "k"}), IfMatch='"0000"'
        )

    assert refusal(error) == (404, "NoSuchKey")


def test_completing_an_upload_honours_if_none_match(client: S3Client, bucket: str) -> None:
    """AWS: API_CompleteMultipartUpload, If-None-Match."""
    at: dict[str, Any] = {"Bucket": bucket, "Key": "k"}
    client.complete_multipart_upload(**started(client, at), IfNoneMatch="*")

    with pytest.raises(ClientError) as error:
        client.complete_multipart_upload(**started(client, at), IfNoneMatch="*")

    assert refusal(error) == (412, "PreconditionFailed")


def test_a_part_is_copied_only_from_the_source_that_was_meant(
    client: S3Client, bucket: str
) -> None:
    """AWS: API_UploadPartCopy, x-amz-copy-source-if-match and x-amz-copy-source-range."""
    at: dict[str, Any] = {"Bucket": bucket, "Key": "a key/é+&"}
    etag = client.put_object(**at, Body=b"a" * (6 * MIB) + b"tail")["ETag"]
    part: dict[str, Any] = {
        **at,
        "UploadId": client.create_multipart_upload(**at)["UploadId"],
        "PartNumber": 1,
        "CopySource": at,
        "CopySourceRange": f"bytes=1-{6 * MIB + 1}",
    }

    with pytest.raises(ClientError) as error:
        client.upload_part_copy(**part, CopySourceIfMatch='"0000"')
    with pytest.raises(ClientError) as absent:
        client.upload_part_copy(
            **part | {"CopySource": {**at, "Key": "none"}}, CopySourceIfMatch=etag
        )
    copied = client.upload_part_copy(**part, CopySourceIfMatch=etag)["CopyPartResult"]["ETag"]
    client.complete_multipart_upload(
        **at,
        UploadId=part["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": copied}]},
    )

    assert (refusal(error)[0], refusal(absent)[0]) == (412, 404)
    assert client.get_object(**at)["Body"].read() == b"a" * (6 * MIB - 1) + b"ta"


def test_one_of_many_conditional_puts_wins(client: S3Client, bucket: str) -> None:
    """AWS: conditional-writes.html; moto alone checks and writes in two steps."""
    gate = threading.Barrier(8)

    def put(number: int, key: int) -> bool:
        gate.wait()
        try:
            client.put_object(
                Bucket=bucket, Key=str(key), Body=bytes([number]) * MIB, IfNoneMatch="*"
            )
        except ClientError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        wins = [sum(pool.map(put, range(8), [key] * 8)) for key in range(10)]

    assert wins == [1] * 10


def test_uploaded_bytes_are_counted_and_copied_ones_are_not(
    client: S3Client, bucket: str, s3: S3Lab
) -> None:
    """Only bodies that arrived count."""
    at: dict[str, Any] = {"Bucket": bucket, "Key": "k"}
    client.put_object(**at, Body=b"a" * 1000)
    client.complete_multipart_upload(**started(client, at, b"b" * 50))
    client.copy_object(
        **at, CopySource=f"{bucket}/k", MetadataDirective="REPLACE", Metadata={"a": "b"}
    )

    assert s3.uploaded(f"s3://{bucket}/k") == 1050


def test_unfinished_uploads_are_counted(client: S3Client, bucket: str, s3: S3Lab) -> None:
    """An upload is unfinished until it is completed or aborted."""
    client.create_multipart_upload(Bucket=bucket, Key="k")

    assert s3.unfinished(bucket) == 1


def test_a_status_can_be_ordered(client: S3Client, bucket: str, s3: S3Lab) -> None:
    """As often as ordered, on the method and the text that were given, with a code if wished."""
    s3.fail("GET", "list-type=2", "503 SlowDown", times=2)

    seen = []
    for _ in range(3):
        try:
            client.list_objects_v2(Bucket=bucket)
            seen.append("answered")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])

    assert seen == ["SlowDown", "SlowDown", "answered"]


@pytest.mark.parametrize(("status", "there"), [("drop-before", False), ("drop-after", True)])
def test_a_connection_can_be_dropped(
    client: S3Client, bucket: str, s3: S3Lab, status: str, there: bool
) -> None:
    """Before anything is done, or when all is done and nothing is said."""
    s3.fail("PUT", "/k", status)

    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket=bucket, Key="k", Body=b"x")

    assert ("Contents" in client.list_objects_v2(Bucket=bucket)) is there


def test_an_answer_can_be_withheld(client: S3Client, bucket: str, s3: S3Lab) -> None:
    """The connection stays open and silent, and others are served meanwhile."""
    s3.fail("GET", "list-type=2", "hang")

    with pytest.raises(ReadTimeoutError):
        client.list_objects_v2(Bucket=bucket)

    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_body_can_be_cut(client: S3Client, bucket: str, s3: S3Lab) -> None:
    """Half of it comes."""
    client.put_object(Bucket=bucket, Key="k", Body=b"a" * 1000)
    s3.fail("GET", "/k", "cut")

    body = client.get_object(Bucket=bucket, Key="k")["Body"]

    with pytest.raises(UNREACHED):
        body.read()
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"a" * 1000


def test_faults_can_be_forgotten(client: S3Client, bucket: str, s3: S3Lab) -> None:
    """What was ordered and has not happened does not happen."""
    s3.fail("GET", "list-type=2", 500)
    s3.heal()

    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_the_endpoint_ends_with_who_started_it() -> None:
    """Its standard input ends when its parent does, however that dies."""
    command = [sys.executable, str(SERVER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline().startswith(b"http://127.0.0.1:")
        server.stdin.close()

        assert server.wait(timeout=10) == 0
