"""The offline AWS: S3 and EC2 behind one address, every call recorded, a fault at any of them.

Who calls is known by the access key id in the signature, and so is which service is meant
(docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import boto3
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import create_backend_app

from tests.lab import NO_CONFIG, ec2_wire, outage, s3_server
from tests.lab.ec2 import Ec2
from tests.lab.ec2_instances import LabInstance, MachineLike
from tests.lab.ec2_requests import TAKES, Ec2Error
from tests.lab.machine import Machine

ROOT = Path(__file__).resolve().parent.parent.parent
REGION = "eu-west-1"
LAUNCHER, ROLE = "AKIALABLAUNCHER", "ASIALAB"  # access key ids: who calls
CREDENTIAL = re.compile(r"Credential=([^/]+)/[0-9]{8}/[^/]+/([a-z0-9]+)/")
# The status of an error, 400 for any other one. EC2's are the server's (5xx) or the client's (4xx):
# docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. S3's:
# docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. botocore tries any 5xx again.
THROTTLES = ("RequestLimitExceeded", "SlowDown", "ServiceUnavailable", "Unavailable")
STATUS = {
    **dict.fromkeys(THROTTLES, 503),
    **dict.fromkeys(("InternalError", "InternalFailure", "InsufficientInstanceCapacity"), 500),
    **dict.fromkeys(("InsufficientCapacity", "InsufficientHostCapacity"), 500),
    **dict.fromkeys(("InsufficientAddressCapacity", "InsufficientReservedInstanceCapacity"), 500),
    **dict.fromkeys(("AccessDenied", "UnauthorizedOperation", "InvalidAccessKeyId"), 403),
    **dict.fromkeys(("SignatureDoesNotMatch", "RequestTimeTooSkewed"), 403),
    **dict.fromkeys(("NoSuchBucket", "NoSuchKey"), 404),
    **dict.fromkeys(("OperationAborted", "ConditionalRequestConflict"), 409),
    "PreconditionFailed": 412,
}
OURS = tuple(TAKES)
# What is asked of moto. It would launch, stop and describe instances of its own, so the rest is no
# action of the lab's.
MOTOS = ("CreateLaunchTemplate", "DescribeLaunchTemplateVersions", "DescribeSubnets",
         "DescribeInstanceTypes")  # fmt: skip
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class Call:
    """One request; `at` in seconds of the monotonic clock.

    `outcome` is ok, an error's code (where there is no body, its status), or unanswered: nothing
    was done, and the connection was closed. What was done and then not answered is ok.
    """

    at: float
    service: str
    operation: str
    caller: str
    params: dict[str, Any]
    outcome: str = "unanswered"


@dataclass
class Fault:
    """What is to go wrong at the calls that it matches."""

    service: str
    operation: str
    what: str = ""
    times: int = 1
    after: int = 0
    match: str = ""
    caller: str = ""
    before: Callable[[Call], None] | None = None
    done: Callable[[Call], None] | None = None
    until: float = field(default=float("inf"))


class AwsLab:
    """A running lab. What tests order and ask for stands here; ec2.py says how EC2 behaves."""

    _boots: Callable[..., MachineLike] = Machine  # what an instance is

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.calls: list[Call] = []
        self.instance_env: dict[str, str] = {}
        self.place = ""  # a folder's name, where instances are to have the same path one by one
        self.user_data = (ROOT / "infrastructure" / "bootstrap.sh").read_bytes()
        self.minute = 1.0  # seconds that a minute of `shutdown +N` lasts
        self.on_call: Callable[[Call], None] = lambda _: None  # told of each, with its outcome
        self._faults: list[Fault] = []
        self._address: outage.StoreAddress | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        with socket.create_server(("127.0.0.1", port)) as bound:
            self._server = s3_server.Server(
                "127.0.0.1",
                bound.getsockname()[1],
                self._serve,
                s3_server.Handler,
                fd=bound.fileno(),
            )
        self.url = f"http://127.0.0.1:{self._server.port}"
        # Thousands of images, which take most of the start and which nobody here asks for.
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
        self._s3 = s3_server.Lab(create_backend_app("s3"))
        self._moto: App = create_backend_app("ec2")
        moto_api_backend.reset()
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        self.env = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": LAUNCHER,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **NO_CONFIG,
        }
        self.bucket, self.template = "lab", "spot-backtest"
        self.ec2 = self._furnish()
        self.instances = self.ec2.instances
        self.subnets = self.ec2.subnets
        self.calls.clear()

    @property
    def invisible(self) -> float:
        """Seconds until a launched instance is known everywhere."""
        return self.ec2.invisible

    @invisible.setter
    def invisible(self, seconds: float) -> None:
        self.ec2.invisible = seconds

    def role_key(self, instance: str) -> str:
        """Return the access key id of an instance's role."""
        return ROLE + instance.removeprefix("i-").upper()

    def capacity(self, pools: Mapping[tuple[str, str], str | None], market: str = "spot") -> None:
        """Let pools (type, subnet) have room (None), or none for the reason that is given."""
        for (kind, subnet), problem in pools.items():
            self.ec2.full[kind, subnet, market] = problem

    def no_capacity(self, code: str = "InsufficientInstanceCapacity", market: str = "spot") -> None:
        """Let every pool of a market be without room, unless capacity() says otherwise."""
        self.ec2.nowhere[market] = code

    def prices(self, prices: Mapping[tuple[str, str], float]) -> None:
        """Set prices by type and zone, in USD an hour."""
        self.ec2.price.update(prices)

    def fault(self, service: str, operation: str, what: str = "", **how: Any) -> Fault:
        """Order a fault at the next calls of an operation, `*` for any.

        `what` is an error's code, with a status before it or with its usual one, drop-before,
        drop-after, hang, reset, or outage:SECONDS, in which nothing of the service answers.
        `before` and `done` are called with the call before and after its effect; `after` calls
        that match are let pass, `times` calls are hit. A call matches by `caller`, and by `match`,
        a part of its parameters as they are shown.
        """
        if what.startswith("outage:"):
            seconds = float(what.partition(":")[2])
            how |= {"until": time.monotonic() + seconds, "times": 1 << 30}
            what = "drop-before"
        made = Fault(service, operation, what, **how)
        with self._lock:
            self._faults.append(made)
        return made

    def store_address(self) -> outage.StoreAddress:
        """Give the store an address of its own, from now on in `env`, which outages may need."""
        if self._address is None:
            # process_request() begins a thread, for what the server itself takes too.
            self._address = outage.StoreAddress(self._server.process_request, self.folder)
            self.env["AWS_ENDPOINT_URL_S3"] = self._address.url
        return self._address

    def outage(self, form: str, seconds: float) -> None:
        """Let the store be away for so long, in one of outage.FORMS."""
        if form in outage.FAULTS:
            how = {"until": time.monotonic() + seconds, "times": 1 << 30}
            self.fault("s3", "*", outage.FAULTS[form], **how)
            return
        address = self.store_address()
        address.go(form)
        back = threading.Timer(seconds, address.come_back)
        back.daemon = True
        back.start()

    def heal(self) -> None:
        """Forget all faults, and let the store be there."""
        with self._lock:
            self._faults.clear()
        if self._address is not None:
            self._address.come_back()

    def reclaim(self, instance: str, notice: float | None) -> None:
        """Take an instance back, with so many seconds' notice or with none."""
        self.ec2.reclaim(self.instances[instance], notice)

    def change(self, old: str, new: str) -> None:
        """Let instances run user data in which a text, which must be there, is another."""
        assert old in self.user_data.decode(), old
        self.user_data = self.user_data.replace(old.encode(), new.encode())

    def alive(self) -> list[str]:
        """Return the instances that have not ended."""
        return [i.id for i in self.instances.values() if i.state in ("pending", "running")]

    def client(self, service: str, caller: str = LAUNCHER) -> Any:
        """Return a client for tests, which `calls` then have as that caller."""
        keys = {"aws_access_key_id": caller, "aws_secret_access_key": "secret"}
        return _session().client(service, endpoint_url=self.url, **keys)  # type: ignore[call-overload]

    def close(self) -> None:
        """End the server, then every instance."""
        self._closed.set()
        if self._address is not None:
            self._address.close()
        self._server.shutdown()
        self._server.server_close()
        self.ec2.close()

    def _furnish(self) -> Ec2:
        place: Any = {"LocationConstraint": REGION}
        self.client("s3").create_bucket(Bucket=self.bucket, CreateBucketConfiguration=place)
        ec2 = self.client("ec2")
        template: dict[str, Any] = {
            "LaunchTemplateName": self.template,
            "LaunchTemplateData": {
                "ImageId": "ami-12c6146b",
                "UserData": base64.b64encode(self.user_data).decode(),
                "InstanceInitiatedShutdownBehavior": "terminate",
                "MetadataOptions": {"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
                "IamInstanceProfile": {"Name": "spot-backtest"},
            },
        }
        made = ec2.create_launch_template(**template)["LaunchTemplate"]
        template["LaunchTemplateId"] = made["LaunchTemplateId"]
        rows = ec2.describe_subnets()["Subnets"]
        subnets = {row["SubnetId"]: row["AvailabilityZone"] for row in rows}
        return Ec2(subnets, template, self._machine)

    def _machine(self, instance: LabInstance) -> MachineLike:
        folder = self.folder / (self.place or instance.id)
        if self.place:
            shutil.rmtree(folder, ignore_errors=True)
        return self._boots(instance, self.user_data, folder, self)

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        found = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        key, service = found.groups() if found else ("", "s3")
        if service == "ec2":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            operation, params = ec2_wire.request(dict(parse_qsl(body.decode(), True)))
            environ["wsgi.input"] = BytesIO(body)
        else:
            operation, params = _s3_call(environ)
            # In any other name moto would look for that of a bucket.
            environ["HTTP_HOST"] = f"127.0.0.1:{self._server.port}"
        call = Call(time.monotonic(), service, operation, self._caller(key), params)
        with self._lock:
            self.calls.append(call)
        try:
            return self._answer(call, environ, start)
        finally:
            self.on_call(call)

    def _answer(
        self, call: Call, environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        fault = self._due(call)
        if fault and fault.before:
            fault.before(call)
        what = fault.what if fault else ""
        if what == "reset" and environ["REQUEST_METHOD"] != "GET":
            return self._s3.break_off(environ)
        if what in ("drop-before", "hang"):
            if what == "hang":
                self._closed.wait(s3_server.HANG)
            self._s3.drop(environ)
        if what and what not in ("drop-after", "reset"):
            call.outcome = what
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refuse(start, call.service, what, "ordered by a test")
        answer: list[Any] = []
        if call.service == "s3":
            parts = self._s3(environ, lambda *given: answer.extend(given))
        else:
            parts = self._ec2(call, environ, lambda *given: answer.extend(given))
        done = b"".join(parts)
        code = re.search(rb"<Code>([^<]+)</Code>", done)
        call.outcome = "ok" if answer[0][0] in "23" else (code[1].decode() if code else answer[0])
        if fault and fault.done:
            fault.done(call)
        if what == "drop-after":
            self._s3.drop(environ)
        if what == "reset":
            return self._s3.break_off(environ, start, answer, done)
        start(*answer)
        return [done]

    def _ec2(
        self, call: Call, environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        if call.operation in MOTOS:
            return self._moto(environ, start)
        if call.operation not in OURS:
            return _refuse(start, "ec2", "InvalidAction", f"the lab has no {call.operation}")
        try:
            found = self.ec2.answer(call.operation, call.params)
        except Ec2Error as error:
            return _refuse(start, "ec2", error.code, error.message)
        body = ec2_wire.answer(call.operation, found)
        start("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
        return [body]

    def _due(self, call: Call) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if (
                    fault.times > 0
                    and fault.service in (call.service, "*")
                    and fault.operation in (call.operation, "*")
                    and fault.caller in (call.caller, "")
                    and fault.match in str(call.params)
                    and time.monotonic() < fault.until
                ):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def _caller(self, key: str) -> str:
        if key.startswith(ROLE):
            return "i-" + key.removeprefix(ROLE).lower()
        return "launcher" if key == LAUNCHER else key


@cache
def _session() -> boto3.session.Session:
    """Return a session for all labs: it keeps the models that botocore reads for a client."""
    return boto3.session.Session(region_name=REGION)


def _refuse(start: Callable[..., Any], service: str, code: str, message: str) -> Iterable[bytes]:
    given, _, named = code.partition(" ")
    status, code = (int(given), named) if given.isdigit() else (STATUS.get(code, 400), code)
    if service == "ec2":
        body = ec2_wire.refusal(code, message)
    else:
        body = s3_server.ERROR.format(code).encode()
    start(f"{status} {http.client.responses[status]}", [("Content-Length", str(len(body)))])
    return [body]


def _s3_call(environ: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return S3's name for a request, and its bucket and key (API_Operations_Amazon_S3.html)."""
    path = environ["PATH_INFO"].encode("latin-1").decode()  # PEP 3333; unquoted
    bucket, _, key = path.lstrip("/").partition("/")
    query, method = parse_qs(environ["QUERY_STRING"], True), environ["REQUEST_METHOD"]
    copied = "HTTP_X_AMZ_COPY_SOURCE" in environ
    if "uploadId" in query:
        names = {"PUT": "UploadPartCopy" if copied else "UploadPart",
                 "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}  # fmt: skip
        name = names.get(method, "ListParts")
    elif method == "POST":
        name = "CreateMultipartUpload" if "uploads" in query else "DeleteObjects"
    elif not bucket:
        name = "ListBuckets"
    elif not key:
        listing = "ListObjectsV2" if "list-type" in query else "ListObjects"
        names = {"PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}
        name = names.get(method, "ListMultipartUploads" if "uploads" in query else listing)
    else:
        name = f"{method.capitalize()}Object" if not copied else "CopyObject"
    return name, {"Bucket": bucket, "Key": key}


@contextmanager
def aws_lab(folder: Path, port: int = 0) -> Iterator[AwsLab]:
    """Run a lab; whatever it launched has ended when the block has. Raises OSError for a port."""
    folder.mkdir(parents=True, exist_ok=True)
    lab = AwsLab(folder, port)
    try:
        yield lab
    finally:
        lab.close()
