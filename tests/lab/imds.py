"""The metadata service of one lab instance, version 2 only, with faults to order.

Each behaviour is AWS's, from docs.aws.amazon.com/AWSEC2/latest/UserGuide/:
token, its lifetime, 400, 401, 403, no X-Forwarded-For  configuring-instance-metadata-service.html
a list of keys for a folder, 404 for what is not there  instancedata-data-retrieval.html
the categories                                          ec2-instance-metadata.html
spot/instance-action, spot/termination-time             spot-instance-termination-notices.html
events/recommendations/rebalance                        rebalance-recommendations.html
tags/instance, read as they are now                     work-with-tags-in-IMDS.html
iam/                                                    instance-metadata-security-credentials.html
the identity document                                   instance-identity-documents.html
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

TOKEN = "latest/api/token"
DATA = "latest/meta-data/"
LONGEST = 21600  # seconds that a token may live
HANG = "hang"  # a fault: the request is never answered
ROLE = "spot-backtest"
ACCOUNT = "123456789012"
CREDENTIALS = timedelta(hours=6)
REGION = re.compile(r"[a-z]+(?:-[a-z]+)+?-\d+")
ERROR = "<html><head><title>{0} - {1}</title></head><body><h1>{0} - {1}</h1></body></html>"
Fault = int | Literal["hang"]


class Instance(Protocol):
    """What the service says of an instance."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def subnet(self) -> str: ...
    @property
    def market(self) -> str:
        """Either "spot" or "on-demand"."""
        ...

    @property
    def tags(self) -> Mapping[str, str]: ...


class Lab(Protocol):
    """What an instance knows of its lab; the optional attributes are named in machine.py."""

    def role_key(self, instance_id: str) -> str:
        """Return the access key id of the instance's role."""
        ...


class Imds:
    """A server on 127.0.0.1; `requests` holds each request as (method, path, status)."""

    def __init__(
        self,
        instance: Instance,
        user_data: bytes,
        lab: Lab,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self._instance, self._user_data, self._lab = instance, user_data, lab
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, float] = {}
        self._faults: list[list[Any]] = []
        self._events: dict[str, str] = {}
        self._launched = self._now()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._closed = threading.Event()

    @property
    def url(self) -> str:
        """What AWS_EC2_METADATA_SERVICE_ENDPOINT is to be, once it is on."""
        return f"http://127.0.0.1:{self._port}"

    def on(self) -> None:
        """Listen; after `off` on the same port as before."""
        service = self

        class Handler(_Handler):
            imds = service

        with self._lock:
            if self._server is None and not self._closed.is_set():
                self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
                self._server.daemon_threads = True
                self._port = self._server.server_port
                serve = self._server.serve_forever
                threading.Thread(target=serve, args=[0.05], daemon=True).start()

    def off(self) -> None:
        """Refuse connections, as before the network is up."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def close(self) -> None:
        """Refuse connections for ever."""
        self._closed.set()
        self.off()

    def fault(self, path: str, status: Fault, times: int = 1) -> None:
        """Let the next requests whose path holds `path` be answered so, or hang."""
        with self._lock:
            self._faults.append([path, status, times])

    def notice(self, action: str, at: datetime) -> None:
        """Announce an interruption: "terminate", "stop" or "hibernate"."""
        found = {"spot/instance-action": json.dumps({"action": action, "time": rfc3339(at)})}
        if action == "terminate":
            found["spot/termination-time"] = rfc3339(at)
        self._events |= found

    def rebalance(self, at: datetime) -> None:
        """Recommend to rebalance, which may come long before a notice, or with it."""
        body = json.dumps({"noticeTime": rfc3339(at)})
        self._events |= {"events/recommendations/rebalance": body}

    def answer(self, method: str, path: str, headers: Message) -> tuple[int, bytes, dict[str, str]]:
        """Return the status, the body and the headers for a request."""
        fault = self._fault(path)
        if fault == HANG:
            self._closed.wait()
            fault = 503
        if fault:
            return int(fault), b"", {}
        if path == TOKEN and method == "PUT":
            return self._new_token(headers)
        if method != "GET":
            return 405, b"", {}
        with self._lock:
            ends = self._tokens.get(headers.get("X-aws-ec2-metadata-token", ""), 0.0)
        if self._clock() >= ends:
            return 401, b"", {}
        body = self._body(path)
        return (404, b"", {}) if body is None else (200, body, {})

    def _new_token(self, headers: Message) -> tuple[int, bytes, dict[str, str]]:
        if "X-Forwarded-For" in headers:
            return 403, b"", {}
        name = "X-aws-ec2-metadata-token-ttl-seconds"
        asked = headers.get(name, "")
        if not re.fullmatch("[0-9]{1,5}", asked) or not 1 <= int(asked) <= LONGEST:
            return 400, b"", {}
        token = secrets.token_urlsafe(40)
        with self._lock:
            self._tokens[token] = self._clock() + int(asked)
        return 200, token.encode(), {name: asked}

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault[2] > 0 and fault[0] in path:
                    fault[2] -= 1
                    found: Fault = fault[1]
                    return found
        return None

    def _body(self, path: str) -> bytes | None:
        if path == "latest/user-data":
            return self._user_data or None
        if path == "latest/dynamic/instance-identity/document":
            return json.dumps(self._identity(), indent=2).encode()
        if not path.startswith(DATA):
            return None
        known, wanted = self._data(), path.removeprefix(DATA)
        if wanted in known:
            return known[wanted].encode()
        return _listing(known, wanted)

    def _data(self) -> dict[str, str]:
        instance, role = self._instance, f"iam/security-credentials/{ROLE}"
        return {
            "ami-id": getattr(instance, "image", "ami-0123456789abcdef0"),
            "instance-action": "none",
            "instance-id": instance.id,
            "instance-life-cycle": instance.market,
            "instance-type": instance.type,
            "placement/availability-zone": instance.zone,
            "placement/region": self._region(),
            "iam/info": json.dumps(self._profile()),
            role: json.dumps(self._credentials()),
            **{f"tags/instance/{key}": value for key, value in instance.tags.items()},
            **self._events,
        }

    def _profile(self) -> dict[str, str]:
        return {
            "Code": "Success",
            "LastUpdated": rfc3339(self._launched),
            "InstanceProfileArn": f"arn:aws:iam::{ACCOUNT}:instance-profile/{ROLE}",
            "InstanceProfileId": "AIPA0123456789EXAMPLE",
        }

    def _credentials(self) -> dict[str, str]:
        now = self._now()
        return {
            "Code": "Success",
            "LastUpdated": rfc3339(now),
            "Type": "AWS-HMAC",
            "AccessKeyId": self._lab.role_key(self._instance.id),
            "SecretAccessKey": "a secret of the lab",
            "Token": f"a session of {self._instance.id}",
            "Expiration": rfc3339(now + CREDENTIALS),
        }

    def _identity(self) -> dict[str, Any]:
        return {
            "accountId": ACCOUNT,
            "architecture": getattr(self._instance, "architecture", "x86_64"),
            "availabilityZone": self._instance.zone,
            "imageId": self._data()["ami-id"],
            "instanceId": self._instance.id,
            "instanceType": self._instance.type,
            "pendingTime": rfc3339(self._launched),
            "region": self._region(),
            "version": "2017-09-30",
        }

    def _region(self) -> str:
        found = REGION.match(self._instance.zone)
        assert found, self._instance.zone
        return found[0]

    def _now(self) -> datetime:
        lab_now = getattr(self._lab, "now", None)
        found: datetime = lab_now() if lab_now else datetime.now(UTC)
        return found


class _Handler(BaseHTTPRequestHandler):
    imds: Imds
    server_version, sys_version = "EC2ws", ""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        status, body, more = self.imds.answer(self.command, path, self.headers)
        self.imds.requests.append((self.command, path, status))
        if status >= 400:
            body, more = ERROR.format(status, responses[status]).encode(), {}
        self.send_response(status)
        headers = {"Content-Type": "text/plain" if status < 400 else "text/html", **more}
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def rfc3339(moment: datetime) -> str:
    """Return a time as the service writes it, in UTC to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _listing(known: Mapping[str, str], folder: str) -> bytes | None:
    """Return the keys below a folder, a line each; that of another folder ends with a slash."""
    folder = f"{folder.rstrip('/')}/".lstrip("/")
    below = (key.removeprefix(folder) for key in known if key.startswith(folder))
    names = {"".join(key.partition("/")[:2]) for key in below}
    return "\n".join(sorted(names)).encode() or None
