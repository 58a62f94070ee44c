"""A log that is no file, and what reaches a log of Python's output when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shim.store import open_store
from tests.children import PATIENCE, finished, python, read, until, wrapped
from tests.test_capture import TWO_WORDS, logs, options


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "FIFO": (os.mkfifo, "it is a FIFO"),
    "socket": (_socket, "it is a socket"),
    "folder": (Path.mkdir, "Is a directory"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_is_no_file_is_never_waited_for_and_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """I70: the command runs, its log is in a file and in the store, the place and why are named."""
    make, why = KINDS[kind]
    monkeypatch.chdir(tmp_path)  # a socket's address is short
    make(Path("odd"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    store = open_store(str(tmp_path / "store"))
    how = options(store.uri)
    with wrapped(tmp_path, ["sh", "-c", TWO_WORDS], **how, log=tmp_path / "odd") as ran:
        console, errors = ran.front.communicate(timeout=PATIENCE)
        status, said = ran.front.returncode, errors.decode()
    kept = Path(said.partition("; it is kept in ")[2].partition("\n")[0])
    assert status == 3
    assert f"the log {tmp_path / 'odd'} cannot be opened ({why}); it is kept in {kept}" in said
    assert logs(store) == [read(kept)] == [console] == [b"out\nerr\nend"]


def test_a_fifo_that_somebody_reads_is_refused_as_well(tmp_path: Path) -> None:
    """I70: a reader that stops reading would hold up the command."""
    os.mkfifo(tmp_path / "odd")
    reader = os.open(tmp_path / "odd", os.O_RDONLY | os.O_NONBLOCK)
    how = options(None)
    with wrapped(tmp_path, ["true"], **how, log=tmp_path / "odd") as ran:
        _, errors = ran.front.communicate(timeout=PATIENCE)
        assert ran.front.returncode == 0
    os.close(reader)
    assert b"it is a FIFO" in errors


def test_what_python_prints_under_capture_is_in_the_log_before_it_is_killed(
    tmp_path: Path,
) -> None:
    """I42: as under a stage, unless the caller has said otherwise."""
    store = open_store(str(tmp_path / "store"))
    command = python("import time\nprint('precious')\ntime.sleep(60)")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with wrapped(tmp_path, command, env=env, **options(store.uri)) as ran:
        until(lambda: read(ran.log) == b"precious\n")
        os.kill(ran.command, signal.SIGKILL)
        assert ran.wait() == 137
    assert logs(store) == [b"precious\n"]


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("", ""), ("2", "2")])
def test_output_of_python_is_not_held_back_unless_the_caller_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, seen: str
) -> None:
    """I20, I42: for every command that we start."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTHONUNBUFFERED", given)
    command = [sys.executable, "-c", "import os; print(os.environ['PYTHONUNBUFFERED'])"]
    assert finished(tmp_path, command)[1] == f"{seen}\n".encode()
