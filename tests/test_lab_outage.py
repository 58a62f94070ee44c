"""The lab's store when it is away: what a plain client sees of each form, and when it is back."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.children import until
from tests.lab import outage
from tests.lab.aws import AwsLab

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LONG = 60.0  # seconds; longer than a test


@pytest.fixture
def client(aws: AwsLab, monkeypatch: pytest.MonkeyPatch) -> S3Client:
    """A client that asks once, with the store at its own address, and an object of a KiB."""
    address = aws.store_address()
    monkeypatch.setattr(socket, "getaddrinfo", socket.getaddrinfo)  # so that it is as it was after
    exec(address.resolve("socket"), {"socket": socket})  # noqa: S102 - what a child would run
    config = Config(retries={"total_max_attempts": 1}, read_timeout=0.5)
    made = boto3.session.Session().client("s3", endpoint_url=address.url, config=config)
    made.put_object(Bucket=aws.bucket, Key="k", Body=b"x" * 1024)
    return made


def seen(client: S3Client, call: Callable[[], object]) -> str:
    """Return what a client sees of a call: its answer's status, or what botocore raises and why."""
    try:
        answer = call()
    except ClientError as error:
        about = error.response
        return f"{about['ResponseMetadata']['HTTPStatusCode']} {about['Error']['Code']}"
    except (ConnectionClosedError, EndpointConnectionError, ReadTimeoutError) as error:
        return f"{type(error).__name__}: {error.kwargs['error']}"
    except ResponseStreamingError as error:
        return f"{type(error).__name__}: {error}"
    return str(answer)


def put(client: S3Client) -> Callable[[], object]:
    """Return a call that writes."""
    return lambda: client.put_object(Bucket="lab", Key="k", Body=b"y" * 4096)


def get(client: S3Client) -> Callable[[], object]:
    """Return a call that reads a whole body."""
    return lambda: len(client.get_object(Bucket="lab", Key="k")["Body"].read())


def test_a_refused_store_is_a_closed_port(aws: AwsLab, client: S3Client) -> None:
    """Its port is closed, and nobody else gets it meanwhile; EC2 is there."""
    aws.outage("refused", LONG)

    assert "[Errno 111] Connection refused" in seen(client, put(client))
    assert "[Errno 111] Connection refused" in seen(client, get(client))
    assert aws.client("ec2").describe_instances()["Reservations"] == []
    aws.heal()
    assert seen(client, get(client)) == "1024"


def test_an_unresolvable_store_is_a_name_without_an_address(aws: AwsLab, client: S3Client) -> None:
    """As getaddrinfo(3) says it."""
    aws.outage("unresolvable", LONG)

    assert "Name or service not known" in seen(client, put(client)) + seen(client, get(client))
    aws.heal()
    assert seen(client, get(client)) == "1024"


def test_a_silent_store_takes_connections_and_answers_none(aws: AwsLab, client: S3Client) -> None:
    """A client waits for as long as it will."""
    aws.outage("silent", LONG)

    assert seen(client, put(client)).startswith("ReadTimeoutError")
    assert seen(client, get(client)).startswith("ReadTimeoutError")
    aws.heal()
    assert seen(client, get(client)) == "1024"


def test_a_reset_breaks_an_upload_and_an_answer_in_the_middle(
    aws: AwsLab, client: S3Client
) -> None:
    """Nothing is written, and half of the body has come when a RST does."""
    aws.outage("reset", LONG)

    written = seen(client, put(client))
    body = client.get_object(Bucket=aws.bucket, Key="k")["Body"]
    half = body.read(512)
    rest = seen(client, body.read)

    assert "Connection reset by peer" in written
    assert half == b"x" * 512
    assert "Connection reset by peer" in rest
    aws.heal()
    assert seen(client, get(client)) == "1024"


@pytest.mark.parametrize(
    ("form", "answer"), [("429", "429 TooManyRequests"), ("503", "503 ServiceUnavailable")]
)
def test_a_store_that_wants_to_be_left_alone_says_so(
    aws: AwsLab, client: S3Client, form: str, answer: str
) -> None:
    """With an error's document, as S3 and what speaks like it do."""
    aws.outage(form, LONG)

    assert seen(client, put(client)) == seen(client, get(client)) == answer
    aws.heal()
    assert seen(client, get(client)) == "1024"


def test_each_outage_is_over_by_itself(aws: AwsLab, client: S3Client) -> None:
    """After the seconds that were ordered, at the same address."""
    for form in outage.FORMS:
        aws.outage(form, 0.05)

        until(lambda: seen(client, get(client)) == "1024")
