"""The one place that makes AWS clients and turns botocore's errors into ours.

Timeouts and retries are botocore's (retry mode `standard`,
docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html), set so that an endpoint that
never answers is given up within 20 s, and one that has answered once is waited for longer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore import exceptions
from botocore.config import Config

from shim.errors import AccessError, PreflightError, RecordError, ShimError, UsageError, shown

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

# Seconds and attempts in all. A name may have eight addresses, and the connect timeout is for each;
# so a hurried call begins no attempt later than LAST_ATTEMPT seconds after its first, and a body
# may wait one second more for leave to be sent.
HURRIED = {"connect_timeout": 2, "read_timeout": 10, "attempts": 3}
LAST_ATTEMPT = 3
PATIENT = {"connect_timeout": 5, "read_timeout": 30, "attempts": 4}

STALE = "log in again or renew the session token"
KEYS = "see AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
NETWORK = "see the network, AWS_ENDPOINT_URL and AWS_REGION"
REGION = "set AWS_REGION to the bucket's region"
# docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
HINTS = {
    "AccessDenied": "its policy must allow s3:ListBucket and s3:Get-, Put- and DeleteObject",
    "AuthorizationHeaderMalformed": REGION,
    "ExpiredToken": STALE,
    "IllegalLocationConstraintException": REGION,
    "InvalidAccessKeyId": KEYS,
    "InvalidToken": STALE,
    "PermanentRedirect": REGION,
    "RequestTimeTooSkewed": "set this machine's clock: it is more than 15 minutes off",
    "SignatureDoesNotMatch": KEYS,
    "TokenRefreshRequired": STALE,
}
UNUSABLE = (
    exceptions.ConfigParseError,
    exceptions.CredentialRetrievalError,
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.ProfileNotFound,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
)
UNREACHED = (exceptions.HTTPClientError, exceptions.IncompleteReadError)


class Connection:
    """S3 clients for one store, made when first needed.

    Honours AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the rest of what boto3 reads.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._session: boto3.session.Session | None = None
        self._clients: dict[bool, S3Client] = {}
        self._answered = False
        self._began: float | None = None

    @contextmanager
    def s3(self, *, writing: bool = False) -> Iterator[S3Client]:
        """Lend a client; what botocore raises leaves as PreflightError, AccessError, RecordError.

        Until the endpoint has answered once it is the hurried client.
        """
        self._began = None
        try:
            yield self._client()
        except exceptions.ClientError as error:
            raise self._answer(error, writing) from error
        except exceptions.BotoCoreError as error:
            raise self._failure(error, writing) from error

    def explain(self, error: exceptions.BotoCoreError) -> ShimError:
        """Return our error for one that came while a body was read."""
        return self._failure(error, writing=False)

    def _client(self) -> S3Client:
        if self._answered not in self._clients:
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
            if not self._answered:
                client.meta.events.register("before-send.s3", self._hurry)
            self._clients[self._answered] = client
        return self._clients[self._answered]

    def _heard(self, **_: object) -> None:
        self._answered = True

    def _hurry(self, request: AWSPreparedRequest, **_: object) -> None:
        now = time.monotonic()
        self._began = self._began or now
        if not self._answered and now - self._began > LAST_ATTEMPT:
            message = f"{self._uri}: no answer from {request.url}"
            raise PreflightError(message, NETWORK, passing=True)

    def _answer(self, error: exceptions.ClientError, writing: bool) -> ShimError:
        code = error_code(error)
        status = error_status(error)
        said = error.response["Error"].get("Message") or "no reason given"
        message = f"{self._uri}: {code}: {said.rstrip('.')}"
        if code == "NoSuchBucket":
            return PreflightError(
                f"{self._uri}: the bucket does not exist", "create it, or see --store"
            )
        # A HEAD has no body to tell why: an expired token or a wrong region answers 400.
        if code in HINTS or status in (301, 401, 403) or code == "400":
            hint = HINTS.get(code, HINTS["AccessDenied"])
            return AccessError(f"{message} (credentials: {self._source()})", hint)
        hint = "try again; if it stays, see health.aws.amazon.com" if status >= 500 else ""
        kind = RecordError if writing else PreflightError
        return kind(message, hint, passing=status >= 500)

    def _failure(self, error: exceptions.BotoCoreError, writing: bool) -> ShimError:
        message = f"{self._uri}: {error}".rstrip(".")
        if isinstance(error, UNUSABLE):
            return AccessError(message, KEYS)
        if isinstance(error, exceptions.NoRegionError | exceptions.InvalidRegionError):
            return AccessError(message, REGION)
        if isinstance(error, UNREACHED):
            return PreflightError(message, NETWORK, passing=True)
        return (RecordError if writing else PreflightError)(message)

    def _source(self) -> str:
        found = self._session.get_credentials() if self._session else None
        return found.method if found else "none"


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


def error_code(error: exceptions.ClientError) -> str:
    """Return S3's error code; for a HEAD, which has no body, the HTTP status as text."""
    return error.response["Error"].get("Code", "")


def error_status(error: exceptions.ClientError) -> int:
    """Return the HTTP status."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"]
