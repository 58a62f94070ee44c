"""The lab's AWS: what was called by whom, faults at any call, and a lab for a person."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.children import PATIENCE, ROOT, alive, children, until
from tests.entry import base_env
from tests.lab.aws import LAUNCHER, REGION, AwsLab, Call

SESSION = boto3.session.Session(
    aws_access_key_id="the tests", aws_secret_access_key="secret", region_name=REGION
)
PLAY = [sys.executable, "-m", "tests.lab"]
DROPPED = ConnectionClosedError


@cache
def client(service: str, url: str, key: str, attempts: int, wait: float) -> Any:
    """Return a client with an access key of its own, which tries so often and waits so long."""
    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    make: Any = SESSION.client
    return make(
        service,
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key="secret",
        config=Config(retries=retries, read_timeout=wait),
    )


@dataclass(frozen=True)
class Ask:
    """Clients of a lab, which ask once."""

    aws: AwsLab
    key: str = "the tests"
    attempts: int = 1
    wait: float = 20.0

    @property
    def s3(self) -> Any:
        """The client of S3."""
        return client("s3", self.aws.url, self.key, self.attempts, self.wait)

    @property
    def ec2(self) -> Any:
        """The client of EC2."""
        return client("ec2", self.aws.url, self.key, self.attempts, self.wait)

    def put(self, key: str = "k") -> None:
        """Put an object."""
        self.s3.put_object(Bucket=self.aws.bucket, Key=key, Body=b"body")

    def keys(self) -> list[str]:
        """Return the keys in the bucket."""
        answer = self.s3.list_objects_v2(Bucket=self.aws.bucket)
        return [row["Key"] for row in answer.get("Contents", [])]

    def launch(self, **more: Any) -> None:
        """Launch an instance."""
        self.ec2.create_fleet(**fleet(self.aws.template, **more))


def fleet(template: str, **more: Any) -> dict[str, Any]:
    """Return a request for an instance."""
    used = {"LaunchTemplateName": template, "Version": "$Default"}
    pool = {"InstanceType": "c5.large"}
    return {
        "Type": "instant",
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": used, "Overrides": [pool]}],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1},
        **more,
    }


def outcomes(aws: AwsLab, operation: str) -> list[str]:
    """Return the outcome of each call of an operation."""
    return [call.outcome for call in aws.calls if call.operation == operation]


# What was called


def test_a_call_of_ec2_is_recorded_with_its_parameters(aws: AwsLab) -> None:
    """Under botocore's own names and with their types, whoever answers it."""
    ask = Ask(aws)
    aws.no_capacity(market="on-demand")
    with pytest.raises(ClientError, match="DryRunOperation"):
        ask.launch(DryRun=True)
    ask.launch()
    ask.ec2.describe_subnets(SubnetIds=list(aws.subnets))
    with pytest.raises(ClientError):
        ask.ec2.describe_subnets(SubnetIds=["subnet-1"])

    assert [(call.service, call.operation, call.outcome) for call in aws.calls] == [
        ("ec2", "CreateFleet", "DryRunOperation"),
        ("ec2", "CreateFleet", "ok"),
        ("ec2", "DescribeSubnets", "ok"),
        ("ec2", "DescribeSubnets", "InvalidSubnetID.NotFound"),
    ]
    sent = {**fleet(aws.template), "DryRun": True}
    token = aws.calls[0].params.pop("ClientToken", None)
    assert (aws.calls[0].params, bool(token)) == (sent, True), "botocore adds a token"
    assert aws.calls[3].params == {"SubnetIds": ["subnet-1"]}
    assert [call.at for call in aws.calls] == sorted(call.at for call in aws.calls)


def test_a_call_of_s3_is_recorded_by_its_name_there(aws: AwsLab) -> None:
    """With bucket and key, however the key is written on the wire."""
    s3, key = Ask(aws).s3, "a b/é+%2B.txt"
    here = {"Bucket": aws.bucket, "Key": key}
    source = {"Bucket": aws.bucket, "Key": "k"}

    def part(upload: str) -> dict[str, Any]:
        return {**here, "UploadId": upload, "PartNumber": 1}

    s3.put_object(**here, Body=b"x")
    s3.get_object(**here)
    s3.head_object(**here)
    s3.copy_object(Bucket=aws.bucket, Key="k", CopySource=here)
    upload = s3.create_multipart_upload(**here)["UploadId"]
    s3.list_multipart_uploads(Bucket=aws.bucket)
    s3.upload_part_copy(**part(upload), CopySource=source)
    s3.abort_multipart_upload(**here, UploadId=upload)
    upload = s3.create_multipart_upload(**here)["UploadId"]
    etag = s3.upload_part(**part(upload), Body=b"x")["ETag"]
    s3.list_parts(**here, UploadId=upload)
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(**here, UploadId=upload, MultipartUpload=parts)
    s3.delete_object(**here)
    for ask in (s3.get_object, s3.head_object):
        with pytest.raises(ClientError):
            ask(**here)
    s3.list_objects_v2(Bucket=aws.bucket)
    s3.list_objects(Bucket=aws.bucket)
    s3.delete_objects(Bucket=aws.bucket, Delete={"Objects": [{"Key": "k"}]})
    s3.create_bucket(Bucket="other", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.head_bucket(Bucket="other")
    s3.delete_bucket(Bucket="other")
    s3.list_buckets()

    names = (
        "PutObject GetObject HeadObject CopyObject CreateMultipartUpload ListMultipartUploads "
        "UploadPartCopy AbortMultipartUpload CreateMultipartUpload UploadPart ListParts "
        "CompleteMultipartUpload DeleteObject GetObject HeadObject ListObjectsV2 ListObjects "
        "DeleteObjects CreateBucket HeadBucket DeleteBucket ListBuckets"
    )
    assert " ".join(call.operation for call in aws.calls) == names
    assert {call.service for call in aws.calls} == {"s3"}
    assert aws.calls[0].params == aws.calls[12].params == here
    assert aws.calls[3].params == source
    wrong = [call.outcome for call in aws.calls if call.outcome != "ok"]
    assert wrong == ["NoSuchKey", "404 NOT FOUND"], "a HEAD has no body that holds a code"


def test_a_caller_is_known_by_its_access_key(aws: AwsLab) -> None:
    """The launcher, an instance by its role, or the key itself."""
    instance = "i-0123456789abcdef0"
    for key in (LAUNCHER, aws.role_key(instance), "AKIAOTHER"):
        ask = Ask(aws, key)
        ask.put()
        ask.ec2.describe_instances()
    callers = [(call.service, call.caller) for call in aws.calls]
    assert callers == [
        (service, caller)
        for caller in ("launcher", instance, "AKIAOTHER")
        for service in ("s3", "ec2")
    ]


def test_who_looks_on_is_told_of_each_call_with_its_outcome(aws: AwsLab) -> None:
    """Also of one that is not answered."""
    seen: list[tuple[str, str]] = []
    aws.on_call = lambda call: seen.append((call.operation, call.outcome))
    aws.fault("s3", "PutObject", "drop-before", after=1)
    ask = Ask(aws)
    ask.put()
    with pytest.raises(DROPPED):
        ask.put()
    until(lambda: len(seen) == 2)
    assert seen == [("PutObject", "ok"), ("PutObject", "unanswered")]


# Faults


def test_an_error_that_is_ordered_is_answered_with_its_status_and_nothing_is_done(
    aws: AwsLab,
) -> None:
    """As AWS groups them: the client's fault, missing rights, the server's fault, too much."""
    ask = Ask(aws)
    orders: list[tuple[str, str, int, Any]] = [
        ("CreateFleet", "InvalidAMIID.NotFound", 400, lambda: ask.launch()),
        ("CreateFleet", "UnauthorizedOperation", 403, lambda: ask.launch()),
        (
            "CreateFleet",
            "InsufficientInstanceCapacity",
            500,
            lambda: ask.launch(),
        ),
        ("DescribeInstances", "RequestLimitExceeded", 503, lambda: ask.ec2.describe_instances()),
        ("DescribeSubnets", "InternalError", 500, lambda: ask.ec2.describe_subnets()),
        ("PutObject", "AccessDenied", 403, lambda: ask.put()),
        ("PutObject", "PreconditionFailed", 412, lambda: ask.put()),
        ("PutObject", "ConditionalRequestConflict", 409, lambda: ask.put()),
        ("PutObject", "SlowDown", 503, lambda: ask.put()),
        ("GetObject", "NoSuchKey", 404, lambda: ask.s3.get_object(Bucket=aws.bucket, Key="k")),
    ]
    for operation, code, status, call in orders:
        service = "s3" if operation.endswith("Object") else "ec2"
        aws.fault(service, operation, code)
        with pytest.raises(ClientError) as caught:
            call()
        response = caught.value.response
        assert response["Error"]["Code"] == code
        assert response["ResponseMetadata"]["HTTPStatusCode"] == status, code
    assert [call.outcome for call in aws.calls] == [code for _, code, _, _ in orders]
    assert aws.instances == {}
    assert Ask(aws).keys() == []


def test_an_error_of_a_request_without_a_body_is_its_status(aws: AwsLab) -> None:
    """HeadObject has no code to give (API_HeadObject.html in S3's API reference)."""
    aws.fault("s3", "HeadObject", "AccessDenied")
    with pytest.raises(ClientError) as caught:
        Ask(aws).s3.head_object(Bucket=aws.bucket, Key="k")
    assert caught.value.response["Error"]["Code"] == "403"
    assert outcomes(aws, "HeadObject") == ["AccessDenied"]


def test_a_client_comes_through_a_throttle(aws: AwsLab) -> None:
    """botocore tries again what AWS calls throttling, of both services."""
    ask = Ask(aws, attempts=2)
    aws.fault("ec2", "DescribeInstances", "RequestLimitExceeded")
    aws.fault("s3", "PutObject", "SlowDown")
    ask.ec2.describe_instances()
    ask.put()
    assert outcomes(aws, "DescribeInstances") == ["RequestLimitExceeded", "ok"]
    assert outcomes(aws, "PutObject") == ["SlowDown", "ok"]
    assert Ask(aws).keys() == ["k"]


@pytest.mark.parametrize(("when", "done"), [("before", False), ("after", True)])
def test_a_connection_is_dropped_before_or_after_the_effect(
    aws: AwsLab, when: str, done: bool
) -> None:
    """The caller cannot tell which; the record can."""
    aws.fault("s3", "PutObject", f"drop-{when}")
    aws.fault("ec2", "CreateFleet", f"drop-{when}")
    ask = Ask(aws)
    with pytest.raises(DROPPED):
        ask.put()
    with pytest.raises(DROPPED):
        ask.launch(ClientToken="a token")
    assert Ask(aws).keys() == (["k"] if done else [])
    assert len(aws.instances) == done
    outcome = "ok" if done else "unanswered"
    assert outcomes(aws, "PutObject") == outcomes(aws, "CreateFleet") == [outcome]

    ask.launch(ClientToken="a token")
    assert len(aws.instances) == 1, "the token finds what was launched"


def test_a_call_that_hangs_is_given_up_by_the_caller(aws: AwsLab) -> None:
    """Nothing is done; other calls are answered meanwhile."""
    aws.fault("s3", "PutObject", "hang")
    with pytest.raises(ReadTimeoutError):
        Ask(aws, wait=0.2).put()
    assert Ask(aws).keys() == []
    assert outcomes(aws, "PutObject") == ["unanswered"]
    Ask(aws).put()


def test_a_call_that_hangs_ends_with_the_lab(aws: AwsLab) -> None:
    """So no test waits for it."""
    aws.fault("s3", "PutObject", "hang")
    failed = threading.Event()

    def ask() -> None:
        with pytest.raises(DROPPED):
            Ask(aws).put()
        failed.set()

    threading.Thread(target=ask).start()
    until(lambda: outcomes(aws, "PutObject"))
    aws.close()
    assert failed.wait(PATIENCE)


def test_an_outage_is_of_one_service_and_over_after_a_while(aws: AwsLab) -> None:
    """Every operation of it, however often it is tried."""
    ask, began = Ask(aws), time.monotonic()
    outage = aws.fault("ec2", "*", "outage:1000")
    for call in (ask.ec2.describe_instances, ask.ec2.describe_subnets, ask.ec2.describe_instances):
        with pytest.raises(DROPPED):
            call()
    ask.put()
    assert began + 1000 <= outage.until <= time.monotonic() + 1000

    outage.until = time.monotonic()
    ask.ec2.describe_instances()
    assert outcomes(aws, "DescribeSubnets") == ["unanswered"]
    assert outcomes(aws, "DescribeInstances") == ["unanswered", "unanswered", "ok"]


def test_a_fault_lets_some_pass_and_hits_so_many(aws: AwsLab) -> None:
    """Counted over the calls that it matches; where two are due, the first that was ordered."""
    aws.fault("s3", "PutObject", "AccessDenied", after=1, times=2)
    aws.fault("s3", "PutObject", "SlowDown", after=2)
    ask = Ask(aws)
    for _ in range(7):
        with suppress(ClientError):
            ask.put()
    hit = ["ok", "AccessDenied", "AccessDenied", "ok", "SlowDown", "ok", "ok"]
    assert outcomes(aws, "PutObject") == hit


def test_a_fault_is_of_a_service_an_operation_a_parameter_and_a_caller(aws: AwsLab) -> None:
    """All of them; * is any service or operation."""
    launcher, other = Ask(aws, LAUNCHER), Ask(aws, "AKIAOTHER")
    aws.fault("s3", "PutObject", "AccessDenied", match="here/", caller="launcher", times=9)
    launcher.put("else/x")
    other.put("here/x")
    with pytest.raises(ClientError, match="AccessDenied"):
        launcher.put("here/x")
    launcher.s3.get_object(Bucket=aws.bucket, Key="here/x")
    aws.fault("*", "*", "ServiceUnavailable", caller="AKIAOTHER", times=2)
    for call in (other.ec2.describe_instances, other.s3.list_buckets):
        with pytest.raises(ClientError, match="ServiceUnavailable"):
            call()
    launcher.ec2.describe_instances()


def test_a_test_may_act_around_the_effect_of_a_call(aws: AwsLab) -> None:
    """Before it and once it is done, with the call; the answer waits for both."""
    seen: list[tuple[str, list[str], str]] = []

    def look(when: str, call: Call) -> None:
        seen.append((when, Ask(aws).keys(), call.outcome))

    aws.fault(
        "s3",
        "PutObject",
        before=lambda call: look("before", call),
        done=lambda call: look("done", call),
    )
    Ask(aws).put()
    assert seen == [("before", [], "unanswered"), ("done", ["k"], "ok")]
    Ask(aws).put()
    assert len(seen) == 2


def test_all_faults_are_forgotten(aws: AwsLab) -> None:
    """Those that were not due yet too."""
    aws.fault("s3", "*", "AccessDenied", times=1000)
    aws.fault("*", "*", "outage:1000")
    aws.heal()
    Ask(aws).put()
    Ask(aws).ec2.describe_instances()
    assert {call.outcome for call in aws.calls} == {"ok"}


# A lab for a person


class Play:
    """A lab in a process of its own, on a terminal of its own if that is asked for."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.output, its = pty.openpty() if terminal else os.pipe()
        self.lab = subprocess.Popen(
            PLAY,
            cwd=ROOT,
            env=base_env(AWS_PROFILE="nobody", AWS_ENDPOINT_URL="http://127.0.0.1:9"),
            stdin=its if terminal else subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if terminal else None,
        )
        os.close(its)

    @cached_property
    def text(self) -> str:
        """What is to be typed, once it is there."""
        return self.read("Each call:\n\n")

    @property
    def exports(self) -> dict[str, str]:
        """The variables in it."""
        lines = [shlex.split(line) for line in self.text.splitlines()]
        return dict(line[1].split("=", 1) for line in lines if line[:1] == ["export"])

    def read(self, end: str) -> str:
        """Return what it prints up to a text."""
        found = ""
        while not found.endswith(end):
            ready, _, _ = select.select([self.output], [], [], PATIENCE)
            try:
                piece = os.read(self.output, 1) if ready else b""
            except OSError:  # a terminal that nobody has open any more
                piece = b""
            assert piece, found
            found += piece.decode().replace("\r", "")
        return found

    def launch(self) -> list[int]:
        """Launch an instance with the variables alone; return its processes."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.exports.items():
                patch.setenv(name, value)
            session = boto3.session.Session()
            session.client("ec2").create_fleet(**fleet("spot-backtest"))
        (init,) = until(lambda: children(self.lab.pid))
        return [init, *until(lambda: children(init))]

    def ended(self, pids: list[int]) -> int:
        """Return its exit code; nothing of it is left, not even its files."""
        code = self.lab.wait(PATIENCE)
        assert [pid for pid in pids if alive(pid)] == []
        (folder,) = re.findall(r"^(/\S+)\. Each call:$", self.text, re.MULTILINE)
        assert not Path(folder).exists()
        return code


@contextmanager
def playing(count: int) -> Iterator[list[Play]]:
    """Start labs at once, the first on a terminal; end what is left of them."""
    labs = [Play(terminal=n == 0) for n in range(count)]
    try:
        yield labs
    finally:
        for play in labs:
            play.lab.kill()
            play.lab.wait()
            with suppress(OSError):  # a test has closed it
                os.close(play.output)


def test_what_a_lab_prints_can_be_typed_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """The variables and the command as they stand there; each call is a line."""
    with playing(1) as (play,):
        pids = play.launch()
        told = play.read("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\d  launcher +ec2  CreateFleet +ok\n", told), told
        typed = play.text[play.text.index("cd ") : play.text.index("Without --dry-run")]
        done = subprocess.run(
            ["bash", "-euc", typed],
            env=base_env(AWS_PROFILE="nobody"),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert re.match(r"c7i\.large +- +eu-west-1a +0\.0300 USD/h\n", done.stdout)
        assert "nothing is launched" in done.stderr
        os.write(play.output, b"\x03")
        assert play.ended(pids) == 0


@pytest.mark.slow
def test_a_lab_ends_with_its_terminal_and_on_term() -> None:
    """And its instances with it; a reader that has left is no hindrance."""
    with playing(2) as (closed, stopped):
        pids = [closed.launch(), stopped.launch()]
        for play in (closed, stopped):
            os.close(play.output)
        stopped.lab.terminate()
        assert [closed.ended(pids[0]), stopped.ended(pids[1])] == [0, 0]


def test_a_lab_listens_where_it_is_told_and_says_that_it_cannot(
    aws: AwsLab, tmp_path: Path
) -> None:
    """On 127.0.0.1; a port that is taken is exit 2, and leaves no folder."""
    port = aws.url.rpartition(":")[2]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [*PLAY, "--port", port],
        cwd=ROOT,
        env=base_env(TMPDIR=str(temporary)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lab: cannot listen ")
    assert done.stderr.endswith(f", --port {port}); name another\n")
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_lab_runs_the_lab() -> None:
    """In place of its shell, so that signals reach it."""
    command = ["make", "--dry-run", "lab"]
    # Not as a part of the make that runs the tests.
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.endswith('exec "$python" -m tests.lab\n')
