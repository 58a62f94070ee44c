"""The one place that makes clients of S3, and reads their keys again when they were rotated.

Timeouts and retries are botocore's (retry mode `standard`,
docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html), set so that an endpoint that
never answers is given up within 20 s, and one that has answered once is waited for longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from shim import aws_errors
from shim.aws_errors import BUSY_STATUS, NETWORK, UNUSABLE, from_s3, refused
from shim.errors import PreflightError, ShimError, UsageError, shown
from shim.store import go_on

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client

# Seconds and attempts in all. A name may have eight addresses, and the connect timeout is for each;
# so a hurried call begins no attempt later than LAST_ATTEMPT seconds after its first, and a body
# may wait one second more for leave to be sent.
HURRIED = {"connect_timeout": 2, "read_timeout": 10, "attempts": 3}
LAST_ATTEMPT = 3
PATIENT = {"connect_timeout": 5, "read_timeout": 30, "attempts": 4}


class Connection:
    """S3 clients for one store, made when first needed; threads may share it.

    Honours AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the rest of what boto3 reads.
    """

    def __init__(self, uri: str, hurried: Callable[[], bool]) -> None:
        self._uri, self._hurried = uri, hurried
        self._lock = threading.RLock()
        self._session: boto3.session.Session | None = None
        self._clients: dict[bool, S3Client] = {}
        self._answered = False
        self._call = threading.local()  # `began`: when the present call of a thread did

    @contextmanager
    def s3(self, *, writing: bool = False) -> Iterator[S3Client]:
        """Lend a client; what botocore raises leaves as PreflightError, AccessError, RecordError.

        Until the endpoint has answered once it is the hurried client. It has no paginators.
        """
        self._call.began = None
        try:
            yield cast("S3Client", _Lent(self))
        except exceptions.ClientError as error:
            raise aws_errors.answered(self._uri, error, writing, self._source()) from error
        except (exceptions.BotoCoreError, HTTPError) as error:
            # urllib3's own, of a refusal whose body broke off, which botocore does not wrap.
            raise aws_errors.failed(self._uri, error, writing, self._answered) from error
        except ResponseParserError as error:
            raise aws_errors.not_s3(self._uri) from error

    def explain(self, error: Exception) -> ShimError:
        """Return our error for one that came while a body was read."""
        return aws_errors.failed(self._uri, error, False, self._answered)

    def client(self) -> S3Client:
        """Return the client for the next call."""
        with self._lock:
            return self._clients.get(self._answered) or self._made()

    def keys(self) -> ReadOnlyCredentials | None:
        """Return the credentials that the next call is signed with, if they can be had."""
        with self._lock:
            return _keys(self._session) if self._session else None

    def renew(self, used: ReadOnlyCredentials | None) -> bool:
        """Read the credentials again from where they come; return whether there are others now.

        `used` are those that were refused. They may have been rotated since they were read, as
        those of a file are read once for the life of a session.
        """
        with self._lock:
            if self.keys() not in (used, None):
                return True  # another thread was here before
            try:
                session = boto3.session.Session()
            except exceptions.BotoCoreError:  # the answer is the refusal, which the caller has
                return False
            if _keys(session) in (used, None):
                return False
            self._session, self._clients = session, {}
            return True

    def _made(self) -> S3Client:
        limits = PATIENT if self._answered else HURRIED
        config = Config(
            connect_timeout=limits["connect_timeout"],
            read_timeout=limits["read_timeout"],
            retries={"mode": "standard", "total_max_attempts": limits["attempts"]},
            tcp_keepalive=True,
        )
        self._session = self._session or boto3.session.Session()
        try:
            client = self._session.client("s3", config=config)
        except ValueError as error:  # an endpoint that is no URL
            raise UsageError(
                f"{self._uri}: {error}", "see AWS_ENDPOINT_URL; it looks like https://host"
            ) from error
        client.meta.events.register("after-call.s3", self._heard)
        client.meta.events.register("needs-retry.s3", self._stop_waiting)
        if not self._answered:
            client.meta.events.register("before-send.s3", self._hurry)
        self._clients[self._answered] = client
        return client

    def _heard(self, http_response: AWSResponse, model: OperationModel, **_: object) -> None:
        if not from_s3(http_response, model):
            raise aws_errors.not_s3(self._uri)
        status = http_response.status_code
        self._answered = self._answered or (status < 500 and status not in BUSY_STATUS)

    def _hurry(self, request: AWSPreparedRequest, **_: object) -> None:
        now = time.monotonic()
        self._call.began = self._call.began or now
        if not self._answered and now - self._call.began > LAST_ATTEMPT:
            message = f"{self._uri}: no answer from {request.url}"
            raise PreflightError(message, NETWORK, passing=True)

    def _stop_waiting(self, caught_exception: Exception | None = None, **_: object) -> None:
        """Ask after each silence, which has taken its whole timeout, whether to try once more."""
        silent = exceptions.ReadTimeoutError | exceptions.ConnectTimeoutError
        if isinstance(caught_exception, silent):
            go_on()
            if self._hurried():
                raise caught_exception

    def _source(self) -> str:
        found = self._session and _found(self._session)
        return found.method if found else "none"


class _Lent:
    """A client each of whose calls is made once more when its keys were refused and there are new.

    So one that holds many requests, as a long upload, goes on where it was.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            client, used = self._connection.client(), self._connection.keys()
            try:
                return getattr(client, name)(**arguments)
            except (exceptions.ClientError, *UNUSABLE) as error:
                mine = not isinstance(error, exceptions.ClientError) or refused(error)
                if not mine or not self._connection.renew(used):
                    raise
            return getattr(self._connection.client(), name)(**arguments)

        return call


def _found(session: boto3.session.Session) -> Credentials | None:
    try:
        return session.get_credentials()
    except (exceptions.BotoCoreError, exceptions.ClientError):  # the call will fail and say why
        return None


def _keys(session: boto3.session.Session) -> ReadOnlyCredentials | None:
    try:
        found = _found(session)
        return found.get_frozen_credentials() if found else None
    except (exceptions.BotoCoreError, exceptions.ClientError):  # the same
        return None


def date(answer: Mapping[str, Any]) -> datetime:
    """Return the clock of the server that answered, in UTC, in whole seconds.

    Every response has one:
    docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html.
    """
    text = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError as error:
        raise PreflightError(f"the store's answer has the Date {shown(text)}") from error
