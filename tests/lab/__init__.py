"""The offline AWS of the tests: an S3 endpoint in a process of its own, and its controls."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

OURS = ("AWS_", "BOTO_", "SPOT_", "SHIM_", "SSM_")
PLAIN = ("RUN_DATE", "SKIP_STAGES", "ONLY_STAGES", "DRY_RUN", "EXECUTION_ID", "STAGE", "STAGES")
SERVER = Path(__file__).with_name("s3_server.py")


@dataclass(frozen=True)
class S3Lab:
    """A running endpoint; `url` is what AWS_ENDPOINT_URL is to be."""

    url: str

    def make_bucket(self, name: str) -> None:
        """Create a bucket."""
        self._ask("PUT", f"/{name}")

    def fail(self, method: str, match: str, status: int | str, times: int = 1) -> None:
        """Order faults; see s3_server.py for the statuses."""
        fault = {"method": method, "match": match, "times": times, "status": status}
        self._ask("POST", "/_lab/faults", json.dumps(fault))

    def refuse(self, key: str, status: str = "403 InvalidAccessKeyId") -> None:
        """Refuse an access key id from now on, as after a rotation."""
        self._ask("POST", "/_lab/keys", json.dumps({"id": key, "status": status}))

    def heal(self) -> None:
        """Forget all faults."""
        self._ask("DELETE", "/_lab/faults")

    def uploaded(self, uri: str) -> int:
        """Return how many bytes of bodies were uploaded to s3://bucket/key so far."""
        counts: dict[str, int] = json.loads(self._ask("GET", "/_lab/bytes"))
        return counts.get(uri.removeprefix("s3:/"), 0)

    def unfinished(self, bucket: str) -> int:
        """Return how many multipart uploads were neither completed nor aborted."""
        return self._ask("GET", f"/{bucket}?uploads").count(b"<UploadId>")

    def _ask(self, method: str, path: str, body: str = "") -> bytes:
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)) as server:
            server.request(method, quote(path, safe="/?=&"), body)
            answer = server.getresponse()
            text = answer.read()
        assert answer.status < 300, text
        return text


@contextmanager
def s3_lab() -> Iterator[S3Lab]:
    """Run an endpoint; it ends with the block, or with this process."""
    command = [sys.executable, str(SERVER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None
        try:
            yield S3Lab(ran.stdout.readline().strip())
        finally:
            ran.terminate()


def unset(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without a variable of AWS or of ours."""
    return {k: v for k, v in env.items() if not k.startswith(OURS) and k not in PLAIN}


def fake_credentials(url: str) -> dict[str, Any]:
    """Return the environment that makes boto3 talk to the endpoint and read nothing else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        **NO_CONFIG,
    }


NO_CONFIG = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
