"""A lock that somebody else holds: asked for with patience, named, and given up on a signal."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shim import locking
from shim.endure import Enduring
from shim.errors import LockedError, PreflightError, ShimError
from shim.store import ABSENT, open_store
from tests.children import read, until
from tests.stages import PREFIX, WAIT_FOR_GO, Table

HOLD = """
import fcntl, sys
handle = open(sys.argv[1], "a")
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Let another process hold the lock of a store."""
    root.mkdir(exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(root / ".shim-lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == b"held\n"
        yield ran


def let_go(holder: subprocess.Popen[bytes]) -> None:
    """End the process that holds the lock."""
    assert holder.stdin is not None
    holder.stdin.close()
    holder.wait()


def named(holder: subprocess.Popen[bytes], text: str) -> bool:
    """Return whether a text says who holds the lock, as far as this kernel tells."""
    kernel = Path("/proc/locks")
    known = kernel.exists() and f" {holder.pid} " in kernel.read_text()
    return (f"process {holder.pid} ('{sys.executable}')" if known else "another process") in text


class StoppedError(ShimError):
    """Somebody asked to stop."""


def test_who_holds_a_lock_is_named_and_the_wait_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I53: 75, for the same command may work later; nothing is written, and no file is left."""
    monkeypatch.setattr(locking, "SOON", 0.05)
    monkeypatch.setattr(locking, "PATIENCE", 0.1)
    store = open_store(str(tmp_path / "store"))
    store.put("there", b"x")
    log = tmp_path / "log"
    log.write_bytes(b"log")

    with held(tmp_path / "store") as holder:
        for act in (
            lambda: store.put("a", b"x"),
            lambda: store.delete("there"),
            lambda: store.extend("log", log, 0, 3, None),
        ):
            with pytest.raises(LockedError) as error:
                act()
            assert f"{tmp_path}/store/.shim-lock is locked by" in error.value.message
            assert named(holder, error.value.message), error.value
            assert (error.value.code, error.value.passing) == (75, True)

    assert {path.name for path in (tmp_path / "store").iterdir()} >= {".shim-lock", "there"}
    assert [found.key for found in store.list("")] == ["there"]
    assert not list((tmp_path / "store").glob(".shim-tmp-*"))


def test_a_lock_that_is_let_go_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I53: one line says what is waited for, and then it goes on; the body is written once."""
    monkeypatch.setattr(locking, "SOON", 0.05)
    said: list[str] = []
    pieces: list[int] = []
    with held(tmp_path / "store") as holder:

        def tell(line: str) -> None:
            said.append(line)
            let_go(holder)

        store = Enduring(open_store(str(tmp_path / "store")), lambda: None, tell)
        put = store.put("a", b"body", ABSENT, pieces.append)

    assert (put.size, pieces) == (4, [4])
    (line,) = said
    assert line.startswith(f"waits for {tmp_path}/store/.shim-lock, which is locked by ")


def test_who_is_told_to_stop_does_not_wait_for_a_lock(tmp_path: Path) -> None:
    """I53: within a second or so, though flock(2) itself goes on after a signal (PEP 475)."""
    began = time.monotonic()

    def go_on() -> None:
        raise StoppedError("stopped")

    store = Enduring(open_store(str(tmp_path / "store")), go_on, lambda _: None)
    with held(tmp_path / "store"), pytest.raises(StoppedError):
        store.put("a", b"x")

    assert time.monotonic() - began < 10


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I53: as with NFS that is mounted without them; the kernel's answer is faked."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)

    with pytest.raises(PreflightError, match="its file system has no locks; mount it with them"):
        open_store(str(tmp_path / "store")).put("a", b"x")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("preflight",), ("stage", "a")])
def test_at_the_start_a_lock_that_is_held_is_75_and_says_by_whom(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """I53: nothing has run, and a person is there to look."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    table.stage("a", "touch ran")

    with held(tmp_path / "store") as holder:
        done = table.run(*words)
        assert named(holder, done.stderr), done.stderr

    assert done.returncode == 75, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_stage_that_waits_for_a_lock_says_so_and_ends_with_a_signal(tmp_path: Path) -> None:
    """I53: with the signal's status, within seconds; what it wrote is not committed."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    table.stage("a", f'{WAIT_FOR_GO}; echo a > "$ARTIFACTS_DIR/a.txt"')
    out = tmp_path / "out"
    with out.open("wb") as stream:
        ran = table.start("stage", "a", stdout=stream)
    until(lambda: b"begun" in read(out))
    with held(tmp_path / "store") as holder:
        (tmp_path / "go").touch()
        until(lambda: b"which is locked by" in read(out))
        assert named(holder, out.read_text())
        ran.send_signal(signal.SIGTERM)
        began = time.monotonic()

        assert ran.wait(60) == 143, out.read_text()

        assert time.monotonic() - began < 15  # it takes four, on a machine that has time
    assert table.commit("a") is None
    assert table.store.head(f"{PREFIX}a.txt") is None


def test_a_stage_goes_on_when_the_lock_is_let_go(tmp_path: Path) -> None:
    """I53: it commits as if nothing had been."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    table.stage("a", f'{WAIT_FOR_GO}; echo a > "$ARTIFACTS_DIR/a.txt"')
    out = tmp_path / "out"
    with out.open("wb") as stream:
        ran = table.start("stage", "a", stdout=stream)
    until(lambda: b"begun" in read(out))
    with held(tmp_path / "store") as holder:
        (tmp_path / "go").touch()
        until(lambda: b"which is locked by" in read(out))
        let_go(holder)

        assert ran.wait(60) == 0, out.read_text()

    assert table.commit("a") is not None
