"""What S3 refuses, what it never answers, and what passes: botocore's errors turned into ours.

Whatever says that nobody did what was asked, and that the same request may be answered later, is
`passing`; a refusal, and all that is wrong with a request itself, is not.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from botocore import exceptions
from urllib3.exceptions import HTTPError

from shim.errors import AccessError, PreflightError, RecordError, ShimError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel

STALE = "log in again or renew the session token"
KEYS = "see AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
NETWORK = "see the network, AWS_ENDPOINT_URL and AWS_REGION"
TRUST = "see AWS_CA_BUNDLE, AWS_ENDPOINT_URL and this machine's clock"
LATER = "try again; if it stays, see health.aws.amazon.com, the network and AWS_ENDPOINT_URL"
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
    "RequestExpired": STALE,
    "RequestTimeTooSkewed": "set this machine's clock: it is more than 15 minutes off",
    "SignatureDoesNotMatch": KEYS,
    "TokenRefreshRequired": STALE,
}
# Nobody did what was asked, and the same request may be answered later: these codes and statuses,
# beside every 5xx. «Retry behavior» names the first (docs.aws.amazon.com/sdkref/latest/guide/
# feature-retry-behavior.html), «Error responses» the rest.
BUSY = (
    *("RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "SlowDown"),
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled"),
    *("RequestThrottledException", "TooManyRequests", "TooManyRequestsException"),
    *("BandwidthLimitExceeded", "RequestLimitExceeded", "LimitExceededException"),
    *("InternalError", "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict"),
)
BUSY_STATUS = (408, 425, 429)
UNUSABLE = (
    exceptions.ConfigParseError,
    exceptions.CredentialRetrievalError,
    exceptions.MetadataRetrievalError,
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.ProfileNotFound,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
)
# What tells the keys did not answer: a service of the instance or of the network, or a program.
KEYS_AWAY = (exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError)
# Nobody answered. botocore has two families for it: EndpointConnectionError (refused, or a name
# that does not resolve), ConnectTimeoutError, ProxyConnectionError and SSLError are of the first.
UNREACHED = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
)
# A body that broke off: botocore wraps not all of what urllib3 raises while one is read.
BROKEN = (*UNREACHED, HTTPError)
TAGGED = ("GetObject", "HeadObject", "PutObject", "UploadPart")  # what S3 answers with an ETag


def not_s3(uri: str) -> ShimError:
    """Return the error for an answer that S3 did not give."""
    what = f"{uri}: what answers is not S3 (a page of a proxy or a portal?)"
    return PreflightError(what, NETWORK, passing=True)


def answered(uri: str, error: exceptions.ClientError, writing: bool, source: str) -> ShimError:
    """Return our error for one of S3's; `source` is where the credentials came from."""
    code = error_code(error)
    status = error_status(error)
    said = error.response["Error"].get("Message") or "no reason given"
    message = f"{uri}: {code}: {said.rstrip('.')}"
    if code == "NoSuchBucket":
        return PreflightError(f"{uri}: the bucket does not exist", "create it, or see --store")
    kind = RecordError if writing else PreflightError
    if status >= 500 or status in BUSY_STATUS or code in BUSY:
        return kind(message, LATER, passing=True)
    if code in HINTS or status == 301 or refused(error):
        hint = HINTS.get(code, HINTS["AccessDenied"])
        return AccessError(f"{message} (credentials: {source})", hint)
    return kind(message)


def failed(uri: str, error: Exception, writing: bool, known: bool) -> ShimError:
    """Return our error for a request that has no answer; `known` is whether S3 gave one before."""
    message = f"{uri}: {error}".rstrip(".")
    if isinstance(error, UNUSABLE):
        # What has told the keys before will tell them again.
        return AccessError(message, KEYS, passing=known and isinstance(error, KEYS_AWAY))
    if isinstance(error, exceptions.NoRegionError | exceptions.InvalidRegionError):
        return AccessError(message, REGION)
    if _untrusted(error):
        return PreflightError(message, TRUST)
    if isinstance(error, BROKEN):
        return PreflightError(message, NETWORK, passing=True)
    if isinstance(error, exceptions.FlexibleChecksumError):  # damaged on its way
        return PreflightError(message, passing=True)
    return (RecordError if writing else PreflightError)(message)


def refused(error: exceptions.ClientError) -> bool:
    """Return whether S3 or STS refused whoever asked.

    A HEAD has no body to tell why: an expired token or a wrong region answers 400.
    """
    code = error_code(error)
    return error_status(error) in (401, 403) or code == "400" or HINTS.get(code) in (STALE, KEYS)


def from_s3(answer: AWSResponse, model: OperationModel) -> bool:
    """Return whether an answer can be S3's: no page in HTML, which a proxy sends with any status.

    By the body, for the type of an object can be text/html too.
    """
    if answer.status_code < 300 and model.name in TAGGED:
        return "ETag" in answer.headers
    start = answer.content[:512].lstrip().lower()
    return not start.startswith((b"<!doctype html", b"<html"))


def _untrusted(error: BaseException | None) -> bool:
    """Return whether a certificate did not verify, or those to verify it with are not there."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError | FileNotFoundError):
            return True
        inner = (*getattr(error, "kwargs", {}).values(), *error.args)
        error = next((one for one in inner if isinstance(one, BaseException)), None)
    return False


def error_code(error: exceptions.ClientError) -> str:
    """Return S3's error code; for a HEAD, which has no body, the HTTP status as text."""
    return error.response["Error"].get("Code", "")


def error_status(error: exceptions.ClientError) -> int:
    """Return the HTTP status."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"]
