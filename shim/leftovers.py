"""What a command leaves running when it ends: it is found, ended, named and reaped.

A subreaper becomes the parent of every orphan below it, whatever session or group that moved to
(PR_SET_CHILD_SUBREAPER in prctl(2)). So only our own children are ever signalled: a child that is
not reaped keeps its process id, and nobody else can be hit. Where there is no prctl or no /proc
nothing is found here, and the command's process group is all that is ended.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from shim.liveness import PRCTL

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36  # prctl(2)
PROC = Path("/proc")
# A supervisor of ours below a command ends its own work in order once its front is gone.
SUPERVISOR = b"spot_backtest"
SETTLING = 0.5  # seconds in which what is about to end may do so by itself
GRACE = 2.0  # seconds from TERM to KILL
HOPE = 3.0  # seconds of KILL, after which what is left, or made anew, is given up
PAUSE = 0.02  # seconds between two looks
AT_ONCE = 50  # looks without a pause, so that what forks and ends all the time is hit
SHOWN = 8


def adopt() -> None:
    """Become the parent of whatever is orphaned below this process."""
    if PRCTL is not None:
        PRCTL(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def be_supervisor() -> None:
    """Be known as a supervisor to another one above this process."""
    if PRCTL is not None:
        PRCTL(PR_SET_NAME, SUPERVISOR, 0, 0, 0)


def children() -> list[int]:
    """Return the process ids of our children, dead ones that are not reaped among them."""
    with suppress(OSError, ValueError):
        lists = [*(PROC / "self/task").glob("*/children")]
        if lists:
            return [int(word) for found in lists for word in found.read_text().split()]
    return [*_by_parent(os.getpid())]  # a kernel without CONFIG_PROC_CHILDREN (proc(5))


def reap(command: int) -> None:
    """Collect orphans that have ended; the command's status and our helpers' are left to others."""
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid == command or not _orphan(found.si_pid):
                return
            os.waitpid(found.si_pid, os.WNOHANG)


class Leftovers:
    """Those that are left of a command, and their end: TERM, a short grace, KILL.

    `keep` are children that stay. Our own helpers, which are in our session, and supervisors of
    ours, which end by themselves, stay too. Nothing here takes longer than the three times above.
    """

    def __init__(self, keep: Collection[int], grace: float = GRACE) -> None:
        self._keep = keep
        now = time.monotonic()
        self._term_at = now + SETTLING
        self._kill_at = self._term_at + grace
        self._until = self._kill_at + HOPE
        self._asked: set[int] = set()
        self._found: dict[int, str] = {}
        self._beyond: dict[int, str] = {}  # what we may not signal, with the reason

    @property
    def due(self) -> float:
        """When to call `step` again, at the latest."""
        return time.monotonic() + PAUSE

    def step(self) -> bool:
        """Do what is due; return whether there is somebody to wait for."""
        now = time.monotonic()
        alive = self._alive()
        if now < self._term_at or not alive:
            return bool(alive)
        if now < self._kill_at:
            for pid in alive:
                if pid not in self._asked:
                    self._asked.add(pid)
                    self._send(pid, signal.SIGTERM)
                    self._send(pid, signal.SIGCONT)  # a stopped one acts on TERM when it goes on
            return True
        for _ in range(AT_ONCE):
            for pid in alive:
                self._send(pid, signal.SIGKILL)
            alive = self._alive()
            if not alive:
                return False
            if time.monotonic() >= self._until:
                break
        else:
            return True
        self._beyond |= dict.fromkeys(alive, "it does not end")
        return False

    def end(self) -> None:
        """End them all, without doing anything else meanwhile."""
        while self.step():
            time.sleep(PAUSE)

    def named(self) -> tuple[str, ...]:
        """Return who was found, as `name (process id)`; beyond the first few only their number."""
        # What could not be ended is the news, so it comes first.
        order = sorted(self._found, key=lambda pid: (pid not in self._beyond, pid))
        lines = [
            f"{self._found[pid]} ({pid}, not ended: {self._beyond[pid]})"
            if pid in self._beyond
            else f"{self._found[pid]} ({pid})"
            for pid in order
        ]
        more = len(lines) - SHOWN
        return (*lines[:SHOWN], *([f"{more} more"] if more > 0 else []))

    def _alive(self) -> list[int]:
        """Return the children that are to end, and reap those that have."""
        alive = []
        for pid in children():
            if pid in self._keep:
                continue
            with suppress(ProcessLookupError, ChildProcessError):
                if not _orphan(pid) or os.waitpid(pid, os.WNOHANG)[0] == pid:
                    continue
                name = _name(pid)
                if name == SUPERVISOR and os.getsid(pid) == pid:
                    continue
                if time.monotonic() >= self._term_at and pid not in self._found:
                    text = name.decode(errors="replace")
                    self._found[pid] = "".join(c if c.isprintable() else "?" for c in text)
                if pid not in self._beyond:
                    alive.append(pid)
        return alive

    def _send(self, pid: int, number: int) -> None:
        """Signal a child, and its group if it leads one."""
        try:
            if os.getpgid(pid) == pid:
                with suppress(PermissionError):
                    os.killpg(pid, number)
            os.kill(pid, number)
        except PermissionError as error:  # it runs as somebody else (kill(2))
            self._beyond[pid] = error.strerror or "refused"
        except ProcessLookupError:
            pass  # it ended; the next look reaps it


def _orphan(pid: int) -> bool:
    """Return whether a child is a command's: our own helpers stay in our session."""
    return os.getsid(pid) != os.getsid(0)


def _name(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "comm").read_bytes().rstrip(b"\n")
    except OSError:
        return b"?"


def _by_parent(parent: int) -> Iterator[int]:
    for entry in PROC.glob("[0-9]*"):
        with suppress(OSError, IndexError):
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield int(entry.name)
