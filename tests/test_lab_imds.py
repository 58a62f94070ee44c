"""The lab's metadata service behaves as AWS documents its own."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from subprocess import run
from urllib.parse import quote, urlsplit

import pytest

from tests.lab import NO_CONFIG
from tests.lab.imds import LONGEST, Imds

NOW = datetime(2026, 5, 17, 23, 0, tzinfo=UTC)
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
NOTICE = "spot/instance-action"


@dataclass(frozen=True)
class Instance:
    """A spot instance."""

    id: str = "i-0123456789abcdef0"
    type: str = "c7a.large"
    zone: str = "eu-west-1b"
    subnet: str = "subnet-1"
    market: str = "spot"
    tags: dict[str, str] = field(default_factory=dict)


class Lab:
    """A lab whose clock stands, unless it is the real one."""

    real = False

    def role_key(self, instance_id: str) -> str:
        """Return the access key id of a role."""
        return f"ASIA-{instance_id}"

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC) if self.real else NOW


class Client:
    """A service, the clock of its tokens, and requests to it."""

    def __init__(self, instance: Instance, user_data: bytes = b"#!/bin/sh\n") -> None:
        self.seconds = 1000.0
        self.lab = Lab()
        self.imds = Imds(instance, user_data, self.lab, lambda: self.seconds)
        self.imds.on()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Return the status and the body; an underscore in a header's name is a hyphen."""
        server = http.client.HTTPConnection(urlsplit(self.imds.url).netloc, timeout=10)
        with closing(server):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            server.request(method, f"/{quote(path)}", headers=given)
            answer = server.getresponse()
            return answer.status, answer.read().decode()

    def token(self, seconds: str = "60") -> str:
        """Return a session token."""
        status, token = self.ask("latest/api/token", "PUT", **{TTL: seconds})
        assert status == 200
        return token

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Return an item of the metadata."""
        return self.ask(f"latest/meta-data/{path}", X_aws_ec2_metadata_token=token or self.token())


@pytest.fixture
def instance() -> Instance:
    """A spot instance without tags."""
    return Instance()


@pytest.fixture
def client(instance: Instance) -> Iterator[Client]:
    """Its service, turned on."""
    made = Client(instance)
    yield made
    made.imds.close()


def test_without_a_token_nothing_is_told(client: Client) -> None:
    """Version 1 is off; another instance's token is worth nothing."""
    assert client.ask("latest/meta-data/instance-id")[0] == 401
    assert client.get("instance-id", "made up")[0] == 401
    assert client.ask("latest/user-data")[0] == 401
    assert client.get("instance-id") == (200, "i-0123456789abcdef0")


@pytest.mark.parametrize("seconds", ["", "0", "-1", "21601", "60.0", "a minute", "9" * 30])
def test_a_token_needs_a_lifetime_of_one_second_to_six_hours(client: Client, seconds: str) -> None:
    """Else 400, and so without the header."""
    given = {TTL: seconds} if seconds else {}
    assert client.ask("latest/api/token", "PUT", **given)[0] == 400
    assert client.get("instance-id", client.token("1"))[0] == 200
    assert client.get("instance-id", client.token(str(LONGEST)))[0] == 200


def test_a_token_ends_with_its_lifetime(client: Client) -> None:
    """To the second; an older one may live longer."""
    long, short = client.token("100"), client.token("10")
    client.seconds += 9.9
    assert client.get("instance-id", short)[0] == 200
    client.seconds += 0.1
    assert client.get("instance-id", short)[0] == 401
    assert client.get("instance-id", long)[0] == 200


def test_a_token_is_not_given_through_a_proxy(client: Client) -> None:
    """403 for a PUT that was forwarded."""
    forwarded = {TTL: "60", "X-Forwarded-For": "10.0.0.1"}
    assert client.ask("latest/api/token", "PUT", **forwarded)[0] == 403


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("instance-type", "c7a.large"),
        ("instance-life-cycle", "spot"),
        ("placement/availability-zone", "eu-west-1b"),
        ("placement/region", "eu-west-1"),
        ("placement/", "availability-zone\nregion"),
        ("iam/security-credentials/", "spot-backtest"),
        ("iam/", "info\nsecurity-credentials/"),
    ],
)
def test_an_item_is_text_and_a_folder_is_a_list(client: Client, path: str, text: str) -> None:
    """A folder in a list ends with a slash."""
    assert client.get(path) == (200, text)


def test_a_local_zone_is_in_its_region() -> None:
    """Its name has more parts: us-west-2-lax-1a."""
    client = Client(Instance(zone="us-west-2-lax-1a"))
    assert client.get("placement/region") == (200, "us-west-2")
    client.imds.close()


def test_what_is_not_there_is_404(client: Client) -> None:
    """As are the tags of an instance without tags."""
    assert client.get("no-such-item")[0] == 404
    assert client.get("tags/instance")[0] == 404
    assert client.ask("latest/meta-data/instance-id", "POST")[0] == 405


def test_tags_are_told_as_they_are_now(client: Client, instance: Instance) -> None:
    """Keys in a list, without a final newline; colons and spaces reach the caller as they are."""
    tags = {"Name": "a b", "spot-backtest:launch": "s3://b/été/x.json", "spot": ""}
    instance.tags.update(tags)
    assert client.get("tags/instance") == (200, "Name\nspot\nspot-backtest:launch")
    assert client.get("tags/instance/spot-backtest:launch") == (200, "s3://b/été/x.json")
    assert client.get("tags/instance/spot") == (200, "")
    instance.tags["Name"] = "c"
    assert client.get("tags/instance/Name") == (200, "c")


def test_a_notice_is_404_until_it_is_given(client: Client) -> None:
    """Its time is UTC to the second; only an instance that is ended has a termination time."""
    times = (NOTICE, "spot/termination-time", "events/recommendations/rebalance")
    assert [client.get(path)[0] for path in times] == [404, 404, 404]
    summer = NOW.astimezone(datetime.strptime("+0200", "%z").tzinfo)
    client.imds.notice("terminate", summer + timedelta(minutes=15))
    status, body = client.get(NOTICE)
    assert (status, json.loads(body)) == (
        200,
        {"action": "terminate", "time": "2026-05-17T23:15:00Z"},
    )
    assert client.get("spot/termination-time") == (200, "2026-05-17T23:15:00Z")
    client.imds.rebalance(NOW)
    assert json.loads(client.get(times[2])[1]) == {"noticeTime": "2026-05-17T23:00:00Z"}


def test_an_instance_that_is_stopped_has_no_termination_time(client: Client) -> None:
    """It is not marked for termination."""
    client.imds.notice("stop", NOW)
    assert json.loads(client.get(NOTICE)[1])["action"] == "stop"
    assert client.get("spot/termination-time")[0] == 404


def test_the_role_has_a_key_and_six_hours(client: Client) -> None:
    """In the form of a temporary credential."""
    found = json.loads(client.get("iam/security-credentials/spot-backtest")[1])
    assert found["AccessKeyId"] == "ASIA-i-0123456789abcdef0"
    assert (found["Code"], found["Type"]) == ("Success", "AWS-HMAC")
    assert found["Expiration"] == "2026-05-18T05:00:00Z"
    profile = json.loads(client.get("iam/info")[1])["InstanceProfileArn"]
    assert profile == "arn:aws:iam::123456789012:instance-profile/spot-backtest"


def test_the_identity_document_and_the_user_data_are_told(client: Client) -> None:
    """Outside of meta-data/, with a token as well; no user data is 404."""
    given = {"X_aws_ec2_metadata_token": client.token()}
    status, body = client.ask("latest/dynamic/instance-identity/document", **given)
    found = json.loads(body)
    assert (status, found["instanceId"], found["region"]) == (
        *(200, "i-0123456789abcdef0", "eu-west-1"),
    )
    assert found["pendingTime"] == "2026-05-17T23:00:00Z"
    assert client.ask("latest/user-data", **given) == (200, "#!/bin/sh\n")
    without = Client(Instance(), b"")
    assert without.ask("latest/user-data", X_aws_ec2_metadata_token=without.token())[0] == 404
    without.imds.close()


def test_faults_hit_the_next_requests_for_a_path(client: Client) -> None:
    """So many of them, others not; one that hangs is not answered."""
    client.imds.fault(NOTICE, 503, times=2)
    client.imds.fault("api/token", 500)
    assert client.ask("latest/api/token", "PUT", **{TTL: "60"})[0] == 500
    assert [client.get(path)[0] for path in (NOTICE, "instance-id", NOTICE, NOTICE)] == [
        *(503, 200, 503, 404)
    ]
    client.imds.fault("instance-id", "hang")
    token = client.token()
    hung = http.client.HTTPConnection(urlsplit(client.imds.url).netloc, timeout=0.1)
    hung.request(
        "GET", "/latest/meta-data/instance-id", headers={"X-aws-ec2-metadata-token": token}
    )
    with pytest.raises(TimeoutError):
        hung.getresponse()
    hung.close()


def test_a_service_that_is_off_refuses_until_it_is_on(client: Client) -> None:
    """On the same port, with the tokens of before; closed is for ever."""
    token = client.token()
    client.imds.off()
    with pytest.raises(ConnectionRefusedError):
        client.get("instance-id", token)
    client.imds.on()
    assert client.get("instance-id", token)[0] == 200
    client.imds.close()
    client.imds.on()
    with pytest.raises(ConnectionRefusedError):
        client.get("instance-id", token)


def test_every_request_is_recorded(client: Client) -> None:
    """With what it was answered."""
    client.ask("latest/meta-data/instance-id")
    client.get(NOTICE)
    assert client.imds.requests == [
        ("GET", "latest/meta-data/instance-id", 401),
        ("PUT", "latest/api/token", 200),
        ("GET", f"latest/meta-data/{NOTICE}", 404),
    ]


def test_botocore_finds_the_role_with_nothing_but_the_endpoint(client: Client) -> None:
    """The SDK's own provider, in a process with no other variable and no configuration."""
    program = (
        "from botocore.session import Session\n"
        "found = Session().get_credentials()\n"
        "print(found.method, found.access_key, found.token)"
    )
    client.lab.real = True  # as is the SDK's: the credentials are not to have expired
    config = {name: value for name, value in NO_CONFIG.items() if value == "/dev/null"}
    done = run(
        [sys.executable, "-c", program],
        env={"AWS_EC2_METADATA_SERVICE_ENDPOINT": client.imds.url, **config},
        capture_output=True,
        text=True,
        check=True,
    )
    session = "a session of i-0123456789abcdef0"
    assert done.stdout == f"iam-role ASIA-i-0123456789abcdef0 {session}\n"
    assert ("PUT", "latest/api/token", 200) in client.imds.requests
    assert {status for _, _, status in client.imds.requests} == {200}
