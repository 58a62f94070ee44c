"""The instance's metadata service, version 2 only.

docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime

from shim.errors import ShimError

ENDPOINT = "http://169.254.169.254"
VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"  # the SDKs' own
TTL = 21600  # seconds, the longest that a token may live
TIMEOUT = 2.0  # seconds; the service is on the instance's own host
# docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
ACTION = "latest/meta-data/spot/instance-action"


class UnreachableError(ShimError):
    """The service does not answer, or not with what it should."""


@dataclass(frozen=True)
class Notice:
    """EC2 will take the instance back: `action` is terminate, stop or hibernate, `at` in UTC."""

    action: str
    at: datetime


class Imds:
    """A client that keeps its token."""

    def __init__(self) -> None:
        self._base = (os.environ.get(VARIABLE) or ENDPOINT).rstrip("/")
        # Never through a proxy: the address means this host.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._token = ""

    def get(self, path: str) -> bytes | None:
        """Return what is at a path, None where there is nothing. Raises UnreachableError."""
        for fresh in (False, True):
            if fresh or not self._token:
                self._token = self._new_token()
            status, body = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
            if status == 200:
                return body
            if status == 404:
                return None
            if status != 401:  # 401: the token has expired, or the service has restarted
                break
        raise UnreachableError(f"the metadata service answered {status} to {path}")

    def notice(self) -> Notice | None:
        """Return the interruption that is announced, if one is. Raises UnreachableError."""
        body = self.get(ACTION)
        if body is None:
            return None
        try:
            values = json.loads(body)
            at = datetime.fromisoformat(values["time"])
            return Notice(str(values["action"]), at.replace(tzinfo=at.tzinfo or UTC))
        except (ValueError, TypeError, KeyError) as error:
            raise UnreachableError(f"the metadata service announced {body[:200]!r}") from error

    def _new_token(self) -> str:
        status, body = self._ask(
            "PUT", "latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TTL)}
        )
        if status != 200:
            raise UnreachableError(f"the metadata service gave no token ({status})")
        return body.decode("ascii", "replace")

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        asked = urllib.request.Request(f"{self._base}/{path}", headers=headers, method=method)  # noqa: S310  http by its nature
        try:
            with self._open(asked, timeout=TIMEOUT) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""
        except (OSError, ValueError) as error:
            raise UnreachableError(f"the metadata service does not answer ({error})") from error
