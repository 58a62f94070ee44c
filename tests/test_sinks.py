"""Where the bytes go: a log on a full disk, a console that is stuck, slow, shared or gone."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.logfile import TAIL
from tests.children import alive, finished, python, read, shell, until, wrapped


def test_a_stuck_console_and_a_daemon_together_lose_nothing(tmp_path: Path) -> None:
    """I35: the drain ends while the command's last megabyte is still in the pipe."""
    big = "import os; os.write(1, b'0123456789' * 230000)"
    command = shell(f'sleep 60 & echo $!; {sys.executable} -c "{big}"; exit 4')
    with wrapped(tmp_path, command) as ran:
        until(lambda: len(read(ran.log)) > 2_300_000)
        console, _ = ran.front.communicate()
        assert ran.front.returncode == 4
    daemon, _, rest = console.partition(b"\n")
    ended = b"\n[spot_backtest: ended what the command left running: sleep (%s)]\n" % daemon
    assert read(ran.log) == console + ended
    assert rest == b"0123456789" * 230000


def test_a_reader_that_leaves_ends_the_console_and_nothing_else(tmp_path: Path) -> None:
    """stdout closed early: the command sees no SIGPIPE, the log is whole."""
    program = "import sys; sys.stdout.write('0123456789' * 500000); sys.exit(4)"
    with wrapped(tmp_path, python(program)) as ran:
        assert os.read(ran.console, 1) == b"0"
        ran.close_console()
        assert ran.wait() == 4
    assert read(ran.log) == b"0123456789" * 500000


def test_a_stdout_that_is_closed_from_the_start_gets_no_other_file_in_its_place(
    tmp_path: Path,
) -> None:
    """The log or a pipe must not become descriptor 1, where the console's copy would go."""
    script = "echo out; sleep 0.3; echo more; exit 6"
    with wrapped(tmp_path, shell(script), before=lambda: os.closerange(0, 3)) as ran:
        assert ran.wait() == 6
    assert read(ran.log) == b"out\nmore\n"


def test_a_console_on_a_full_disk_is_told_and_given_up(tmp_path: Path) -> None:
    """The command's status and the log stay."""
    with open("/dev/full", "wb") as full:
        status, _, errors, log = finished(tmp_path, shell("echo out; exit 6"), stdout=full)
    assert (status, log) == (6, b"out\n")
    assert b"the console cannot be written (No space left on device)" in errors


def test_a_log_on_a_full_disk_is_told_once_and_the_command_goes_on(tmp_path: Path) -> None:
    """The console still gets every byte; the result counts what the log lacks."""
    with wrapped(tmp_path, shell("seq 100000; exit 7"), log="/dev/full") as ran:
        console, errors = ran.front.communicate()
        assert ran.front.returncode == 7
    assert console == b"".join(b"%d\n" % n for n in range(1, 100001))
    assert errors.count(b"the log /dev/full cannot be written (No space left on device)") == 1
    assert ran.result()["lost"] == ran.result()["bytes"] == len(console)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "small"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(["mount", *options], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_log_goes_on_when_a_full_disk_has_room_again(tmp_path: Path, small_disk: Path) -> None:
    """In place of what is lost stands a line with the number of bytes."""
    ballast, log, stop = small_disk / "ballast", small_disk / "the.log", tmp_path / "stop"
    ballast.write_bytes(bytes(1 << 19))
    more = f"until [ -e {stop} ]; do echo more; sleep 0.02; done"
    script = f"head -c 1000000 /dev/zero; {more}; exit 3"
    with wrapped(tmp_path, shell(script), stdout=subprocess.DEVNULL, log=log) as ran:
        assert ran.front.stderr is not None
        assert b"cannot be written" in ran.front.stderr.readline()
        ballast.unlink()
        until(lambda: re.search(rb"lost here\]\n\0*more\n", read(log)))
        stop.touch()
        assert ran.wait() == 3
    result, kept = ran.result(), read(log)
    notes = re.findall(rb"\n\[spot_backtest: (\d+) bytes lost here\]\n", kept)
    rest = re.sub(rb"\n\[spot_backtest: \d+ bytes lost here\]\n", b"", kept)
    assert 200_000 < result["lost"] == sum(map(int, notes))
    assert len(rest) + result["lost"] == result["bytes"]


def test_the_end_of_what_a_full_disk_did_not_take_is_in_the_log_in_the_end(
    tmp_path: Path, small_disk: Path
) -> None:
    """I68: the disk has room again only when the command says nothing any more."""
    ballast, log, go = small_disk / "ballast", small_disk / "the.log", tmp_path / "go"
    ballast.write_bytes(bytes(1 << 19))
    script = (
        f"head -c 1000000 /dev/zero; echo; echo done >&2; until [ -e {go} ]; do sleep 0.02; done"
    )
    with wrapped(tmp_path, shell(script), log=log) as ran:
        shown = b""
        while not shown.endswith(b"done\n"):
            shown += os.read(ran.console, 1 << 16)
        ballast.unlink()
        go.touch()
        assert ran.wait() == 0
    lost = ran.result()["lost"]
    note, tail = b"\n[spot_backtest: %d bytes lost here]\n" % lost, shown[-TAIL:]
    assert lost
    assert read(log) == shown[: len(shown) - lost - TAIL] + note + tail


def test_a_console_that_nobody_reads_delays_no_signal(tmp_path: Path) -> None:
    """The command waits for room on the console, and TERM still ends it at once."""
    with wrapped(tmp_path, python("while True: print('x' * 99)")) as ran:
        until(lambda: len(read(ran.log)) > 1 << 16)
        os.kill(ran.front.pid, signal.SIGTERM)
        assert ran.wait() == 143


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_console_that_nobody_reads_delays_no_timeout(tmp_path: Path, kind: str) -> None:
    """A write to a terminal can block where poll reports room, so a thread does it."""
    reader, writer = os.pipe() if kind == "pipe" else pty.openpty()
    command = python("while True: print('x' * 99)")
    with wrapped(tmp_path, command, stdout=writer, timeout=0.5, grace=0.5) as ran:
        assert ran.wait() == 124
    os.close(reader)
    os.close(writer)


def test_a_slow_reader_of_the_console_gets_everything_in_the_end(tmp_path: Path) -> None:
    """What the command left in the pipe and in the console waits for its reader."""
    program = "import os; os.write(1, b'0123456789' * 250000)"
    with wrapped(tmp_path, python(program)) as ran:
        command = ran.command
        fcntl.fcntl(ran.console, fcntl.F_SETPIPE_SZ, 4096)
        until(lambda: read(ran.log))
        assert ran.front.stdout is not None
        assert ran.front.stdout.read() == b"0123456789" * 250000
        assert ran.wait() == 0
        assert not alive(command)


def test_the_console_stays_blocking_for_the_others_who_share_it(tmp_path: Path) -> None:
    """O_NONBLOCK belongs to the open file description, so it is never set on stdout."""
    reader, writer = os.pipe()
    with wrapped(tmp_path, shell("echo up; sleep 60"), stdout=writer) as ran:
        assert select.select([reader], [], [], 10)[0]
        assert os.get_blocking(writer)
        os.kill(ran.front.pid, signal.SIGTERM)
        ran.wait()
        assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


def test_a_console_that_somebody_else_made_non_blocking_loses_nothing(tmp_path: Path) -> None:
    """Node and ssh leave such descriptors behind."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    program = "import os; os.write(1, b'0123456789' * 100000)"
    with wrapped(tmp_path, python(program), stdout=writer) as ran, open(reader, "rb") as console:
        os.close(writer)
        assert console.read() == b"0123456789" * 100000
        assert ran.wait() == 0


def test_output_reaches_the_log_and_the_console_as_it_is_written(tmp_path: Path) -> None:
    """I20: no buffer waits to be full, and there is no need for a newline."""
    with wrapped(tmp_path, shell("printf half; sleep 60")) as ran:
        assert os.read(ran.console, 100) == b"half"
        assert read(ran.log) == b"half"
        os.kill(ran.front.pid, signal.SIGTERM)
        ran.wait()


def test_a_log_is_created_with_its_folders_for_its_owner_alone_and_appended_to(
    tmp_path: Path,
) -> None:
    """Mode 0600; what is in it stays."""
    log = tmp_path / "a folder" / "another" / "the.log"
    finished(tmp_path, ["echo", "one"], log=log)
    finished(tmp_path, ["echo", "two"], log=log)
    assert read(log) == b"one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600
