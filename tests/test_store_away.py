"""A store that nobody answers for: waited for when the work is done, and said at once before."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shim import aws, preflight
from shim.endure import Enduring
from shim.errors import PreflightError, RecordError, ShimError
from shim.store import Store, open_store
from tests.children import read, until
from tests.lab import S3Lab
from tests.lab.files import MIB, file, sha256
from tests.lab.gate import Gate, gate
from tests.stages import WAIT_FOR_GO, Table

# What a stage waits for where nobody answers; nothing that is proven depends on it.
PACE = """
from shim import aws, endure
aws.PATIENT |= {"attempts": 1, "read_timeout": 0.5}
endure.PAUSE = endure.LONGEST = endure.TICK = 0.05
"""
HTTP = [
    *("429 TooManyRequests", "400 RequestTimeout", "503 SlowDown", "500 InternalError"),
    *("400 ThrottlingException", "503 ServiceUnavailable", "408 RequestTimeout", "504 html"),
    *("200 html", "403 html", "404 html", "409 OperationAborted"),
]
ACTS = ("put", "digest", "list", "delete", "extend")  # no divisor of the statuses' number


@pytest.fixture
def way(s3: S3Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate to the endpoint, which clients now ask; they ask once, and not for long."""
    monkeypatch.setitem(aws.PATIENT, "attempts", 1)
    monkeypatch.setitem(aws.PATIENT, "read_timeout", 0.3)
    monkeypatch.setattr("shim.endure.PAUSE", 0.01)
    monkeypatch.setattr("shim.endure.LONGEST", 0.01)
    with gate(urlsplit(s3.url).port or 0) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


def patiently(store: Store, comes_back: Callable[[], Any]) -> tuple[Enduring, list[str]]:
    """Return a store that is waited for, and what a person is told, at which it comes back."""
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        comes_back()

    return Enduring(store, lambda: None, tell), said


def each(store: Store, tmp_path: Path) -> dict[str, Callable[[], Any]]:
    """Return a call of each kind."""
    long = file(tmp_path / "long", 9 * MIB)
    return {
        "put": lambda: store.put("put", b"x"),
        "parts": lambda: store.put("parts", long),
        "read": lambda: store.read("there"),
        "digest": lambda: store.digest("there"),
        "head": lambda: store.head("there"),
        "list": lambda: list(store.list("")),
        "folders": lambda: store.folders(""),
        "delete": lambda: store.delete("there"),
        "extend": lambda: store.extend("log", long, 0, 10, None),
        "now": store.now,
    }


@pytest.mark.parametrize("act", ["put", "parts", "digest", "list"])
@pytest.mark.parametrize("state", ["refused", "silent", "reset"])
def test_what_nobody_answers_is_waited_for_and_then_done(
    way: Gate, remote: Store, tmp_path: Path, state: str, act: str
) -> None:
    """I51: whichever way nobody answers, and whatever was asked, it is asked again."""
    remote.put("there", b"x")
    store, said = patiently(remote, lambda: way.turn("open"))
    way.turn(state)

    each(store, tmp_path)[act]()

    assert len(said) == 2, said
    assert "tried again for 15 minutes" in said[0]
    if act == "parts":
        assert remote.digest(act) == sha256((tmp_path / "long").read_bytes())


@pytest.mark.parametrize("act", ["put", "head", "list"])
def test_a_name_that_does_not_resolve_is_waited_for(
    way: Gate, remote: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """I51: the name server of a network that is down knows nobody; it is faked."""
    real = socket.getaddrinfo

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    way.turn("refused")  # connections that are open already end with it
    way.turn("open")
    store, said = patiently(remote, lambda: monkeypatch.setattr(socket, "getaddrinfo", real))

    each(store, tmp_path)[act]()

    assert len(said) == 2, said


@pytest.mark.parametrize(("status", "act"), [*zip(HTTP, itertools.cycle(ACTS), strict=False)])
def test_an_answer_that_asks_to_come_later_is_waited_for(
    way: Gate, remote: Store, s3: S3Lab, tmp_path: Path, status: str, act: str
) -> None:
    """I51: too many requests, a time-out, a fault of S3 and the page of a proxy are no refusals."""
    remote.put("there", b"x")
    store, said = patiently(remote, s3.heal)
    for method in ("GET", "PUT", "POST", "DELETE"):
        s3.fail(method, remote.uri.split("/")[2], status, times=99)

    each(store, tmp_path)[act]()

    assert len(said) == 2, said


@pytest.mark.parametrize("act", ["put", "head", "now"])
def test_what_is_refused_is_not_waited_for(
    way: Gate, remote: Store, s3: S3Lab, tmp_path: Path, act: str
) -> None:
    """I51: a refusal is one still, at once."""
    store, said = patiently(remote, s3.heal)
    for method in ("GET", "PUT", "HEAD"):
        s3.fail(method, remote.uri.split("/")[2], "403 AccessDenied", times=99)

    with pytest.raises(ShimError) as error:
        each(store, tmp_path)[act]()

    assert (error.value.code, said) == (77, [])


@pytest.mark.parametrize("status", [None, "503 SlowDown", "429 TooManyRequests", "200 html"])
def test_before_a_run_it_is_69_with_what_to_look_at(
    tmp_path: Path, s3: S3Lab, s3_uri: str, monkeypatch: pytest.MonkeyPatch, status: str | None
) -> None:
    """I51: not 73, which is said of a record that could not be written in a store that is there."""
    table = Table(tmp_path, open_store(s3_uri))
    table.stage("a")
    if status:
        s3.fail("PUT", s3_uri.split("/")[2], status, times=99)
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    (problem,) = preflight.check(table.plan())

    assert problem.code == 69
    assert "AWS_ENDPOINT_URL" in problem.hint
    if not status:
        assert all(what in problem.hint for what in ("network", "AWS_REGION"))


@pytest.mark.parametrize("words", [("preflight",), ("stage", "a")])
def test_a_refused_connection_at_the_start_is_69_through_the_command_line(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """I51: the claim of a stage is a write too, and nothing has run yet."""
    table = Table(tmp_path, open_store("s3://bucket"))  # the tests' endpoint is a closed port
    table.stage("a", "touch ran")

    done = table.run(*words)

    assert done.returncode == 69, done.stderr
    assert "see the network, AWS_ENDPOINT_URL and AWS_REGION" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_stage_that_ends_while_the_store_refuses_connections_commits_when_it_is_back(
    tmp_path: Path, way: Gate, s3_uri: str
) -> None:
    """I51: hours of work are not thrown away for ten seconds."""
    table = Table(tmp_path, open_store(s3_uri))
    table.stage("a", f'{WAIT_FOR_GO}; echo a > "$ARTIFACTS_DIR/a.txt"')
    out = tmp_path / "out"
    with out.open("wb") as stream:
        ran = table.start("stage", "a", patch=PACE, stdout=stream)
    until(lambda: b"begun" in read(out))
    way.turn("refused")
    (tmp_path / "go").touch()
    until(lambda: b"tried again for 15 minutes" in read(out))
    way.turn("open")

    assert ran.wait(60) == 0, out.read_text()
    assert "the store answers again" in out.read_text()
    assert table.commit("a") is not None


def test_a_stage_that_waits_for_a_store_and_its_records_ends_with_a_signal(
    tmp_path: Path, way: Gate, s3_uri: str
) -> None:
    """I51: a signal is heard once, and also ends the wait for the receipt that is closed then."""
    table = Table(tmp_path, open_store(s3_uri))
    table.stage("a", f'{WAIT_FOR_GO}; echo a > "$ARTIFACTS_DIR/a.txt"')
    out = tmp_path / "out"
    with out.open("wb") as stream:
        patch = f"{PACE}\nfrom shim import stage; stage.SHIP_LAST = 0.1"
        ran = table.start("stage", "a", patch=patch, stdout=stream)
    until(lambda: b"begun" in read(out))
    way.turn("refused")
    (tmp_path / "go").touch()
    until(lambda: b"tried again for 15 minutes" in read(out))
    ran.send_signal(signal.SIGTERM)

    assert ran.wait(60) == 143, out.read_text()
    assert "its receipt stays open" in out.read_text()


def test_a_silence_is_borne_once_by_who_was_told_to_end(
    way: Gate, remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I51: botocore alone would wait for its timeout four times; the others are not told."""
    monkeypatch.setitem(aws.PATIENT, "attempts", 4)
    store = open_store(remote.uri)
    store.now()
    way.turn("refused")  # what is open already ends with it
    way.turn("silent")
    store.hurried = True
    before = way.taken

    with pytest.raises(PreflightError):
        store.head("a")

    assert way.taken == before + 1


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_file_server_that_does_not_answer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """I51: what a mounted folder says then, see nfs(5); there is none here, so it is faked."""
    monkeypatch.setattr("shim.endure.PAUSE", 0.01)
    real = os.fsync

    def away(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", away)
    store, said = patiently(
        open_store(str(tmp_path / "store")), lambda: monkeypatch.setattr(os, "fsync", real)
    )

    store.put("a", b"x")

    assert len(said) == 2, said
    assert store.read("a") is not None


def test_a_full_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I51: nobody frees it meanwhile."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    store, said = patiently(open_store(str(tmp_path / "store")), lambda: None)

    with pytest.raises(RecordError, match="free some space"):
        store.put("a", b"x")

    assert said == []
