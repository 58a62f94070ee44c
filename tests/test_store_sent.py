"""The digest of what is put is that of the bytes as they were sent, whatever the file does then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shim import aws
from shim.endure import Enduring
from shim.store import ABSENT, Store, open_store
from tests.lab import S3Lab
from tests.lab.files import MIB, file, sha256
from tests.stages import DATE, PREFIX, Table

# Changes a file through memory until its input ends, without a new time of the file (mmap(2)).
MUTATE = """
import mmap, os, select, sys
with open(sys.argv[1], "r+b") as stream, mmap.mmap(stream.fileno(), 0) as there:
    number = 0
    while not select.select([0], [], [], 0)[0]:
        for at in range(0, len(there), 4096):
            there[at:at + 8] = number.to_bytes(8, "big")
        if number == 0:
            print("begun", flush=True)
        number += 1
"""


@contextmanager
def mutating(path: Path) -> Iterator[None]:
    """Let another process change a file all the time."""
    command = [sys.executable, "-c", MUTATE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == b"begun\n"
        yield


@pytest.mark.parametrize("size", [100, 3 * MIB, 17 * MIB])
def test_a_put_tells_the_digest_of_what_it_sent(store: Store, tmp_path: Path, size: int) -> None:
    """I50: of bytes and of a file, short and in parts; nothing else knows it."""
    source = file(tmp_path / "source", size)
    body = source.read_bytes()

    assert store.put("file", source).sha256 == store.digest("file") == sha256(body)
    assert store.put("bytes", body).sha256 == store.digest("bytes") == sha256(body)
    there = store.head("file")
    assert there is not None
    assert there.sha256 is None
    assert [found.sha256 for found in store.list("")] == [None, None]


@pytest.mark.parametrize("size", [MIB, 17 * MIB])
def test_a_file_that_changes_while_it_is_put_has_the_digest_of_what_is_there(
    store: Store, tmp_path: Path, size: int
) -> None:
    """I50: a process that has it mapped into memory leaves no other trace."""
    source = file(tmp_path / "source", size)

    with mutating(source):
        for number in range(3):
            put = store.put(str(number), source)
            assert put.sha256 == store.digest(str(number), put.etag)


@pytest.mark.parametrize("fault", ["drop-after", "drop-before", "409 ConditionalRequestConflict"])
@pytest.mark.parametrize("size", [100, 9 * MIB])
def test_a_put_that_was_sent_again_has_the_digest_of_what_is_there(
    remote: Store, s3: S3Lab, tmp_path: Path, fault: str, size: int
) -> None:
    """I50: also where the answer was lost, and it then meets itself."""
    source = file(tmp_path / "source", size)
    method, match = ("POST", "uploadId") if size > MIB else ("PUT", "/a?")

    with mutating(source):
        s3.fail(method, match, fault)
        put = remote.put("a", source, ABSENT)

    assert put.sha256 == remote.digest("a", put.etag)


def test_a_put_that_is_made_again_after_an_outage_has_the_new_digest(
    remote: Store, s3: S3Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I50: the file is read once more then, and may be another."""
    monkeypatch.setitem(aws.PATIENT, "attempts", 1)
    monkeypatch.setattr("shim.endure.PAUSE", 0.01)
    source = tmp_path / "source"
    source.write_bytes(b"before")
    s3.fail("PUT", "/a?", "drop-before")

    def tell(_: str) -> None:
        source.write_bytes(b"after!")

    put = Enduring(remote, lambda: None, tell).put("a", source)

    assert put.sha256 == sha256(b"after!") == remote.digest("a")


LEFT = f"""
import os, subprocess, sys
path = os.environ["ARTIFACTS_DIR"] + "/a.bin"
with open(path, "wb") as stream:
    stream.write(os.urandom({9 * MIB}))
left = subprocess.Popen([sys.executable, "-c", {MUTATE!r}, path], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, start_new_session=True)
left.stdout.readline()
with open("left", "w") as stream:
    stream.write(str(left.pid))
os.set_inheritable(left.stdin.fileno(), True)
# Somebody keeps its input open when this one has ended.
subprocess.Popen(["sh", "-c", "while ! [ -e go ]; do sleep 0.05; done"], stdin=subprocess.DEVNULL,
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
                 start_new_session=True)
"""


def test_a_commit_never_lists_a_digest_that_was_not_published(table: Table, tmp_path: Path) -> None:
    """I50: what a process left behind changes meanwhile is a broken contract, or what is there."""
    (tmp_path / "left.py").write_text(LEFT)
    table.stage("left", command=[sys.executable, "left.py"], produces=["a.bin"])
    try:
        done = table.run("stage", "left")
    finally:
        (tmp_path / "go").touch()

    if done.returncode == 0:  # it was held still, or was ended
        made = table.commit("left")
        assert made is not None
        store = open_store(table.store.uri)
        assert store.digest(f"{PREFIX}a.bin") == made.artifacts["a.bin"].sha256
    else:
        assert done.returncode == 65, done.stderr
        assert "a.bin changed while it was published" in done.stderr
        assert table.commit("left") is None
    assert DATE in PREFIX
