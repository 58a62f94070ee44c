"""The front and its supervisor: signals go through, death is seen, the status is kept."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from shim.detach import FORWARDED
from tests.children import ROOT, alive, children, read, until, wrapped

# Prints each signal that it gets, without handlers, so that none is lost; ends on the last one.
LISTENER = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.write(1, b"ready\\n")
while True:
    number = signal.sigwait(signal.valid_signals() - {signal.SIGCHLD})
    os.write(1, b"%d\\n" % number)
    if number == signal.SIGTERM:
        sys.exit(9)
"""
POLITE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("bye") or 3))
print("up", flush=True)
signal.pause()
"""
STATE = "grep -E 'Sig(Blk|Ign)' /proc/self/status"
IGNORED = signal.SIG_IGN
NAP = ["sleep", "60"]


def test_every_signal_that_can_be_forwarded_reaches_the_command_once(tmp_path: Path) -> None:
    """Each is sent to the front alone and shows in the command's output, TERM last."""
    order = [*sorted(FORWARDED - {signal.SIGTERM}), signal.SIGTERM]
    with wrapped(tmp_path, [sys.executable, "-c", LISTENER], stderr=None) as ran:
        until(lambda: read(ran.log) == b"ready\n")
        for number in order:
            os.kill(ran.front.pid, number)
            until(lambda line: read(ran.log).endswith(line), b"\n%d\n" % number)
        assert ran.wait() == 9
    assert [int(word) for word in read(ran.log).split()[1:]] == order


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, 40])
def test_a_command_that_dies_of_a_forwarded_signal_ends_as_128_and_the_signal(
    tmp_path: Path, number: int
) -> None:
    """The front itself is not killed by it and reports the command's death."""
    with wrapped(tmp_path, NAP) as ran:
        until(lambda: ran.command)
        os.kill(ran.front.pid, number)
        assert ran.wait() == 128 + number
    assert (ran.result()["how"], ran.result()["signal"]) == ("signalled", number)


def test_a_signal_to_the_whole_group_of_the_front_reaches_the_command_once(tmp_path: Path) -> None:
    """The supervisor is in another session, so the front alone passes it on."""
    with wrapped(tmp_path, [sys.executable, "-c", LISTENER]) as ran:
        until(lambda: read(ran.log))
        os.killpg(ran.front.pid, signal.SIGUSR1)
        until(lambda: b"10" in read(ran.log))
        os.killpg(ran.front.pid, signal.SIGTERM)
        assert ran.wait() == 9
    assert read(ran.log) == b"ready\n10\n15\n"


# The signal comes after the fork and before the supervisor has left the group.
EARLY = """
import os, select, signal
from shim import detach
leave = os.setsid
os.setsid = lambda: (os.killpg(0, signal.SIGWINCH), leave())
def work(lifeline):
    assert select.select(lifeline.descriptors[1:], [], [], 20)[0]
    return len(lifeline.hear())
raise SystemExit(detach.detached(work, print))
"""


def test_a_signal_to_the_group_during_the_fork_is_forwarded_once(tmp_path: Path) -> None:
    """It is pending in both halves, and the front alone passes it on."""
    ran = subprocess.run([sys.executable, "-c", EARLY], cwd=ROOT, process_group=0, check=False)
    assert ran.returncode == 1


def test_sigkill_to_the_group_of_the_front_ends_the_command_with_its_last_words(
    tmp_path: Path,
) -> None:
    """I05: no trap runs in the front, and still the command gets TERM and its output is kept."""
    with wrapped(tmp_path, [sys.executable, "-c", POLITE]) as ran:
        until(lambda: read(ran.log) == b"up\n")
        command, supervisor = ran.command, ran.supervisor
        os.killpg(ran.front.pid, signal.SIGKILL)
        result = ran.result()
        until(lambda: not alive(supervisor))
    assert not alive(command)
    assert read(ran.log) == b"up\nbye\n"
    assert (result["how"], result["code"]) == ("front died", 3)


def test_a_supervisor_that_is_killed_takes_the_command_with_it_and_is_reported(
    tmp_path: Path,
) -> None:
    """The front kills the group that it was told of, calls `lost` and exits 128+9."""
    with wrapped(tmp_path, ["sh", "-c", "echo up; sleep 60; exit 0"]) as ran:
        until(lambda: read(ran.log))
        command = ran.command
        os.kill(ran.supervisor, signal.SIGKILL)
        assert ran.wait() == 137
        until(lambda: not alive(command))
    assert ran.result() == {"lost": "the supervisor was ended by SIGKILL"}


def test_term_to_the_supervisor_itself_cancels_the_command(tmp_path: Path) -> None:
    """Whoever finds the supervisor and asks it to stop gets an orderly end."""
    with wrapped(tmp_path, NAP) as ran:
        command = ran.command
        os.kill(ran.supervisor, signal.SIGTERM)
        assert ran.wait() == 143
        assert not alive(command)
    assert (ran.result()["how"], ran.result()["stop"]) == ("cancelled", "SIGTERM")


def test_the_command_starts_with_no_signal_blocked_and_none_ignored(tmp_path: Path) -> None:
    """Python ignores SIGPIPE, a caller may block and ignore more; a command must not inherit it."""

    def before() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)

    with wrapped(tmp_path, ["sh", "-c", STATE], before=before) as ran:
        assert ran.wait() == 0
    blocked, ignored = (int(line.split()[1], 16) for line in read(ran.log).splitlines())
    # 32 and 33 belong to the C library (signal(7)): no program can set them, nor reset them.
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)


def test_a_hangup_that_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    """Neither the front, the supervisor nor the command acts on it."""
    with wrapped(tmp_path, [sys.executable, "-c", LISTENER], call=["nohup"]) as ran:
        until(lambda: read(ran.log))
        command = ran.command
        for pid in (ran.front.pid, ran.supervisor):
            os.kill(pid, signal.SIGHUP)
        os.kill(ran.front.pid, signal.SIGTERM)
        assert ran.wait() == 9
        assert not alive(command)
    assert read(ran.log) == b"ready\n15\n"


def test_an_interrupt_is_forwarded_from_a_job_that_sh_started_with_an_ampersand(
    tmp_path: Path,
) -> None:
    """There INT is ignored on entry, and the launcher still has to pass it on."""
    with wrapped(tmp_path, NAP, before=partial(signal.signal, signal.SIGINT, IGNORED)) as ran:
        until(lambda: ran.command)
        os.kill(ran.front.pid, signal.SIGINT)
        assert ran.wait() == 130


def test_the_status_is_kept_when_the_caller_ignores_sigchld(tmp_path: Path) -> None:
    """wait(2): under an inherited SIG_IGN children vanish without a status."""
    ignore = partial(signal.signal, signal.SIGCHLD, IGNORED)
    with wrapped(tmp_path, ["sh", "-c", "exit 5"], before=ignore) as ran:
        assert ran.wait() == 5


def test_a_front_that_inherits_orphans_reaps_them(tmp_path: Path) -> None:
    """As process 1 of a container or as a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    script = "(sleep 0.01 & echo $!); echo done; sleep 60"
    become_reaper = partial(ctypes.CDLL(None).prctl, 36, 1, 0, 0, 0)
    with wrapped(tmp_path, ["sh", "-c", script], before=become_reaper) as ran:
        until(lambda: b"done" in read(ran.log))
        orphan = int(read(ran.log).split()[0])
        until(lambda: not Path(f"/proc/{orphan}").exists())
        assert children(ran.front.pid) == [ran.supervisor]


def test_ctrl_c_on_a_terminal_interrupts_the_command(tmp_path: Path) -> None:
    """The terminal signals the front's group; the command is in another session."""
    keyboard, terminal = pty.openpty()
    # setsid(1): a session whose controlling terminal is its stdin.
    call = ["setsid", "--ctty"]
    with wrapped(tmp_path, NAP, call=call, stdin=terminal, stdout=terminal, group=None) as ran:
        until(lambda: ran.command)
        os.write(keyboard, b"\x03")
        assert ran.wait() == 130
    os.close(keyboard)
    os.close(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_at_any_moment_of_the_start_leaves_nobody_behind(
    tmp_path: Path, number: int
) -> None:
    """To the front's group before the fork, within it, after it; I05 where it is SIGKILL."""
    statuses = set()
    for step in range(9):
        folder = tmp_path / str(step)
        folder.mkdir()
        moment = time.monotonic() + step * 0.02
        with wrapped(folder, ["sh", "-c", f": {folder}; sleep 57; exit 0"]) as ran:
            until(lambda due: time.monotonic() >= due, moment)
            os.killpg(ran.front.pid, number)
            statuses.add(ran.wait())
            until(lambda text: not any(mentioning(text)), str(folder))
    assert statuses <= {-number, 128 + number}


def mentioning(text: str) -> Iterator[int]:
    """Return the processes with a text in their arguments."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended in the meantime
            if f"{text};".encode() in entry.read_bytes():
                yield int(entry.parent.name)
