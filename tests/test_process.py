"""One command under the wrapper: its bytes, its status and its end, with real children."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.children import alive, finished, python, read, shell, until, wrapped

MEMORY = 80_000  # kilobytes that the supervisor may use, whatever the command writes
QUIET_SIGNALS = {  # their default is not to end a process (signal(7))
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGURG,
    signal.SIGWINCH,
}
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def test_every_exit_code_is_returned_unchanged(tmp_path: Path) -> None:
    """0 to 255, through one supervisor; I03."""
    commands = [shell(f"exit {code}") for code in range(256)]
    with wrapped(tmp_path, [], all_of=commands) as ran:
        assert ran.wait() == 255
        assert ran.result()["codes"] == list(range(256))


def test_a_death_by_any_signal_is_returned_as_128_and_its_number(tmp_path: Path) -> None:
    """Also those that nobody can catch, and the real-time ones."""
    deadly = sorted(signal.valid_signals() - QUIET_SIGNALS)
    commands = [shell(f"ulimit -c 0; kill -{number:d} $$; exit 1") for number in deadly]
    with wrapped(tmp_path, [], all_of=commands) as ran:
        assert ran.wait() == 128 + deadly[-1]
        assert ran.result()["codes"] == [128 + number for number in deadly]


@pytest.mark.parametrize(
    ("content", "mode", "code", "how"),
    [
        (None, 0, 127, "not found"),
        ("#!/bin/sh\n", 0o600, 126, "cannot run"),
        ("no program", 0o700, 126, "cannot run"),
        ("#!/no/such/interpreter\n", 0o700, 127, "not found"),
    ],
)
def test_a_command_that_cannot_start_is_told_in_the_log_by_the_codes_of_a_shell(
    tmp_path: Path, content: str | None, mode: int, code: int, how: str
) -> None:
    """126 and 127 as in POSIX, Shell Command Language, 2.8.2."""
    program = tmp_path / "a program"
    if content is not None:
        program.write_text(content)
        program.chmod(mode)
    status, console, _, log = finished(tmp_path, [str(program)])
    assert status == code
    assert console == log
    assert log.startswith(f"spot_backtest: cannot run {program} (".encode())


def test_a_working_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It is not the command that is missing."""
    status, _, _, log = finished(tmp_path, ["true"], cwd="/no/such/place")
    assert status == 126
    assert b"true in /no/such/place" in log


def test_stdout_and_stderr_are_one_stream_in_the_order_of_writing(tmp_path: Path) -> None:
    """Byte for byte, in the log and on the console, without a newline at the end."""
    program = "import os\nfor n in range(20000): os.write(1 + n % 2, b'%d ' % n)"
    _, console, errors, log = finished(tmp_path, python(program))
    assert console == log == b"".join(b"%d " % n for n in range(20000))
    assert errors == b""


@pytest.mark.parametrize(
    "megabytes", [64, pytest.param(1024, marks=pytest.mark.slow)], ids=lambda m: f"{m} MiB"
)
@pytest.mark.parametrize("secrets", [[], ["a secret", "another one"]], ids=["plain", "masked"])
def test_binary_output_of_any_size_is_kept_whole_with_little_memory(
    tmp_path: Path, megabytes: int, secrets: list[str]
) -> None:
    """Log and console have the digest of what was written; all byte values occur."""
    program = f"""
import os, random
block = random.Random(1).randbytes(1 << 20)
for n in range({megabytes}):
    view = memoryview(block[n % 977:] + block[:n % 977])
    while view:
        view = view[os.write(1, view):]
"""
    with wrapped(tmp_path, python(program), secrets=secrets) as ran:
        shown = digest(ran.console)
        assert ran.wait() == 0
    with subprocess.Popen(python(program), stdout=subprocess.PIPE) as alone:
        assert alone.stdout is not None
        assert shown == digest(alone.stdout.fileno())
    with ran.log.open("rb") as log:
        assert shown == digest(log.fileno())
    assert ran.result()["kilobytes"] < MEMORY
    assert ran.result()["bytes"] == megabytes << 20
    ran.log.unlink()


def digest(descriptor: int) -> str:
    """Return the SHA-256 of everything that can be read from a descriptor."""
    found = hashlib.sha256()
    for piece in iter(lambda: os.read(descriptor, 1 << 18), b""):
        found.update(piece)
    return found.hexdigest()


def test_a_million_short_lines_arrive_in_order(tmp_path: Path) -> None:
    """Each is a write of its own."""
    program = "import os\nfor n in range(1000000): os.write(1, b'%d\\n' % n)"
    console = tmp_path / "console"
    with console.open("wb") as out, wrapped(tmp_path, python(program), stdout=out) as ran:
        assert ran.wait() == 0
    assert read(console) == read(ran.log)
    assert read(ran.log) == b"".join(b"%d\n" % n for n in range(1000000))


TALKING = pytest.param("while :; do echo x; sleep 0.05; done", marks=pytest.mark.slow)


@pytest.mark.parametrize("voice", ["sleep 60", TALKING], ids=["silent", "talking"])
def test_a_daemon_that_keeps_the_pipe_does_not_hold_the_wrapper(tmp_path: Path, voice: str) -> None:
    """I35: silent or talking, the wrapper goes on soon after the command's own end."""
    began = time.monotonic()
    with wrapped(tmp_path, shell(f"({voice}) & echo $!; exit 5")) as ran:
        assert ran.wait() == 5
        assert not alive(int(read(ran.log).split()[0]))
        assert time.monotonic() - began < (5 if voice.startswith("sleep") else 9)


def test_a_command_that_ignores_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    """124, and nobody of its group is left."""
    with wrapped(tmp_path, shell(STUBBORN), timeout=0.3, grace=0.3) as ran:
        command = ran.command
        assert ran.wait() == 124
        assert not alive(command)
    assert (ran.result()["how"], ran.result()["signal"]) == ("timed out", signal.SIGKILL)


def test_a_timeout_that_is_heeded_is_still_a_timeout(tmp_path: Path) -> None:
    """As in timeout(1): 124 also if the command then exits with 0; its last words are kept."""
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    with wrapped(tmp_path, shell(script), timeout=0.5) as ran:
        assert ran.wait() == 124
    assert read(ran.log).startswith(b"up\n")
    assert read(ran.log).endswith(b"bye\n")


def test_what_a_timed_out_command_leaves_in_its_group_is_killed(tmp_path: Path) -> None:
    """The leader goes at once, its stubborn child at the end of the grace."""
    script = f"(sh -c \"{STUBBORN}\") & echo $!; trap 'exit 0' TERM; wait"
    with wrapped(tmp_path, shell(script), timeout=0.5, grace=0.5) as ran:
        assert ran.wait() == 124
        child = int(read(ran.log).split(b"up")[0] or read(ran.log).split()[1])
        until(lambda: not alive(child))


def test_the_rest_of_a_command_has_its_grace_after_the_leader_is_gone(tmp_path: Path) -> None:
    """The shell ends at once; what it ran still saves its work and says so."""
    program = "trap 'sleep 0.3; echo saved; exit' TERM; echo up; while :; do sleep 0.05; done"
    script = f"trap 'exit 0' TERM; sh -c \"{program}\" & wait"
    with wrapped(tmp_path, shell(script), timeout=0.5) as ran:
        assert ran.wait() == 124
    assert read(ran.log).endswith(b"saved\n")


def test_a_stopped_command_can_be_ended(tmp_path: Path) -> None:
    """TERM waits for CONT (signal(7)), so both are sent."""
    with wrapped(tmp_path, shell("echo up; exec sleep 60"), timeout=1, grace=30) as ran:
        until(lambda: read(ran.log))
        os.kill(ran.command, signal.SIGSTOP)
        assert ran.wait() == 124
    assert ran.result()["signal"] == signal.SIGTERM


def test_a_cancel_ends_the_command_within_a_second(tmp_path: Path) -> None:
    """Whoever sets the event, from another thread."""
    at = tmp_path / "cancel"
    with wrapped(tmp_path, shell("echo up; sleep 60"), cancel_at=str(at)) as ran:
        until(lambda: read(ran.log))
        at.touch()
        began = time.monotonic()
        assert ran.wait() == 143
        assert time.monotonic() - began < 2
    assert ran.result()["how"] == "cancelled"


def test_somebody_is_told_when_a_command_is_silent_and_its_bytes_stay_its_own(
    tmp_path: Path,
) -> None:
    """I20: once per interval without output, with the seconds since the start."""
    script = "sleep 0.5; echo out; sleep 0.7"
    with wrapped(tmp_path, shell(script), silent_every=0.3) as ran:
        assert ran.wait() == 0
    told = ran.result()["quiet"]
    assert len(told) >= 2
    assert told[0] >= 0.3
    assert min(later - earlier for earlier, later in pairwise(told)) > 0.25
    assert read(ran.log) == b"out\n"
