"""What AWS refuses, and what it never answers: the exit code, and what the message says to do."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shim import aws
from shim.errors import AccessError, PreflightError, RecordError, UsageError
from shim.store import Store, open_store
from tests.lab import S3Lab
from tests.lab.files import MIB, file


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The URL of a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("403 AccessDenied", "policy"),
        ("403 InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("403 SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("400 ExpiredToken", "token"),
        ("400 InvalidToken", "token"),
        ("403 RequestTimeTooSkewed", "clock"),
        ("400 AuthorizationHeaderMalformed", "AWS_REGION"),
        ("301 PermanentRedirect", "AWS_REGION"),
        ("401 SomethingElse", "policy"),
    ],
)
def test_a_refusal_is_77_and_explained(s3: S3Lab, s3_uri: str, status: str, hint: str) -> None:
    """With S3's own code, where the credentials came from, and what to do."""
    s3.fail("GET", "list-type=2", status, times=9)

    with pytest.raises(AccessError) as error:
        open_store(s3_uri).now()

    assert status.split()[1] in error.value.message
    assert "credentials: env" in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_without_a_reason_is_77(remote: Store, s3: S3Lab, status: int) -> None:
    """The answer to a HEAD has no body."""
    s3.fail("HEAD", "/a", status, times=9)

    with pytest.raises(AccessError):
        remote.head("a")


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "AWS_PROFILE"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "AWS_PROFILE"),
    ],
)
def test_no_credentials_are_77(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch, names: dict[str, str | None], hint: str
) -> None:
    """None, half of them, or a profile that is not configured."""
    for name, value in names.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)

    with pytest.raises(AccessError) as error:
        open_store(s3_uri).now()

    assert hint in str(error.value)


def test_a_profile_and_its_region_are_honoured(
    s3: S3Lab, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, region and endpoint all from a file."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile here]\naws_access_key_id = k\naws_secret_access_key = s\n"
        f"region = eu-north-1\nendpoint_url = {s3.url}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "here")

    assert open_store(s3_uri).put("a", b"x").size == 1


def test_a_bucket_that_does_not_exist_is_69(s3: S3Lab) -> None:
    """Asking for the time is enough to learn it."""
    store = open_store("s3://nobody-made-this")

    for ask in ("now", "put", "list"):
        with pytest.raises(PreflightError, match="bucket does not exist"):
            _ask(store, ask)


def test_an_endpoint_that_is_no_url_is_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that holds it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not a url")

    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL"):
        open_store("s3://bucket").now()


def test_failing_answers_are_69_for_a_reader_and_73_for_a_writer(
    remote: Store, s3: S3Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is there and does not do its work."""
    monkeypatch.setitem(aws.PATIENT, "attempts", 1)
    s3.fail("GET", "/a?", 500)
    s3.fail("PUT", "/a?", "503 SlowDown")

    with pytest.raises(PreflightError, match="InternalServerError"):
        remote.read("a")
    with pytest.raises(RecordError, match="SlowDown"):
        remote.put("a", b"")


def test_a_refused_connection_is_69_within_20_seconds() -> None:
    """The endpoint of these tests' environment is a port that nothing listens on."""
    assert _unreachable() < 20


@pytest.mark.slow
@pytest.mark.parametrize("act", ["now", "head", "put"])
def test_silence_is_69_within_20_seconds(
    act: str, black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is taken, and nothing ever comes back."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", black_hole)

    assert _unreachable(act) < 20


@pytest.mark.slow
def test_eight_silent_addresses_are_69_within_20_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a network has no way to S3: its name has many addresses, and none takes a connection.

    A full queue of connections does the same on this machine (listen(2)); the name server is faked.
    """
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 8)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

        assert 10 < _unreachable() < 20


def test_a_first_call_that_is_answered_may_take_long(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many requests, and only the first is hurried."""
    monkeypatch.setattr(aws, "LAST_ATTEMPT", 0)

    assert open_store(s3_uri).put("a", file(tmp_path / "source", 9 * MIB)).size == 9 * MIB


def test_the_longest_wait_for_a_first_answer_is_under_20_seconds() -> None:
    """By what the last attempt may wait for, at eight addresses or at one that is silent."""
    last = max(8 * aws.HURRIED["connect_timeout"], aws.HURRIED["read_timeout"] + 1)

    assert aws.LAST_ATTEMPT + last < 20


def _unreachable(act: str = "now") -> float:
    """Return the seconds that it takes to learn that the store is not there."""
    store = open_store("s3://bucket")
    start = time.monotonic()
    with pytest.raises(PreflightError, match=r"127\.0\.0\.1"):
        _ask(store, act)
    return time.monotonic() - start


def _ask(store: Store, act: str) -> object:
    if act == "put":
        return store.put("a", b"x")
    if act == "list":
        return list(store.list(""))
    return store.head("a") if act == "head" else store.now()
