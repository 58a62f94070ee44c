"""The first process of a lab instance: it starts the user data, keeps the timers, ends everything.

Usage: python tests/lab/init.py
The first line of standard input is the order {"folder", "env", "files", "minute"}; when standard
input ends, the power is cut: all is killed at once. After a shutdown ordered by power.py it ends
by itself, with 0. Whatever its processes fork, and however, it stays their ancestor: orphans come
back to it (PR_SET_CHILD_SUBREAPER in prctl(2)).

User data is run as cloud-init runs it: what begins with `#!` is a program, run once, in / and with
hardly an environment; anything else is not run
(docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html). Its end does not end the instance.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
PRCTL = ctypes.CDLL(None).prctl
GRACE = 0.5  # seconds from SIGTERM to SIGKILL in a shutdown; systemd gives 90
FREEZE = 2.0  # seconds until those are killed too that cannot be stopped
PAUSE = 0.002
Found = dict[int, str]  # the state of each process, as in proc(5); an ancestor before its children


def find(root: int | None, mark: str | None) -> Found:
    """Return the live processes below `root`, and those that were started with the variable `mark`.

    The second for those whose parent ended in the moment when it was looked at. A mark is
    NAME=value: an empty one would be found in the environment of every process.
    """
    if mark is not None and not re.fullmatch(r"\w+=.+", mark):
        raise ValueError(f"{mark!r} marks no process")
    parents: dict[int, int] = {}
    states: Found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - some thousand times in a test
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as stat:
                # The name, in parentheses, may hold anything.
                fields = stat.read().rpartition(b")")[2].split()
                states[int(entry)], parents[int(entry)] = fields[0].decode(), int(fields[1])
    families: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        families.setdefault(parent, []).append(pid)
    order = [] if root is None else [root]
    for pid in order:  # grows while it is read
        order += families.get(pid, [])
    known = {*order, os.getpid()}
    if mark is not None:
        order += [pid for pid in states if pid not in known and _is_marked(pid, mark.encode())]
    return {pid: states[pid] for pid in order if pid != root and states.get(pid, "Z") not in "ZX"}


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def cut(found: Callable[[], Found]) -> None:
    """End processes as a power cut does, so that none of them sees and reports another's end.

    All are stopped, from the top, until none is left that runs; then all are killed.
    """
    deadline, quiet = time.monotonic() + FREEZE, 0
    while quiet < 2 and time.monotonic() < deadline:
        running = [pid for pid, state in found().items() if state not in "Tt"]
        _send(running, signal.SIGSTOP)
        quiet = 0 if running else quiet + 1
    while left := found():
        _send(left, signal.SIGKILL)
        time.sleep(PAUSE)


def _send(pids: Found | list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Init:
    """The state of an instance."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.folder, self.env = Path(order["folder"]), order["env"]
        self._minute = float(order["minute"])
        self._mark = f"SPOT_HOME={self.env['SPOT_HOME']}"
        self._timers: dict[str, tuple[float, dict[str, Any]]] = {}
        # Here and not in the lab, whose other threads fork: a program that somebody has open for
        # writing, if only between fork and exec, cannot be executed (ETXTBSY in execve(2)).
        for name, text in order["files"].items():
            self._program(self.folder / "bin" / name, text.encode())
        os.mkfifo(self.folder / "control", 0o600)
        # For both, so that it never ends while nobody writes.
        self._control = os.open(self.folder / "control", os.O_RDWR | os.O_NONBLOCK)
        self._heard = b""

    def boot(self) -> None:
        """Run the user data."""
        body = (self.folder / "user-data").read_bytes()
        script = self.folder / "part-001"
        if body.startswith(b"#!"):
            self._program(script, body)
            self._start([str(script)])
        elif body:
            with (self.folder / "console").open("a") as console:
                console.write("Unhandled non-multipart (text/x-not-multipart) userdata\n")

    def run(self) -> None:
        """Serve until a shutdown, or until standard input ends."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        # Like every first process it is not ended by these; a handler, for those that it starts
        # would inherit that they are ignored (execve(2)).
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.boot()
        while True:
            ready, _, _ = select.select([0, self._control, woken], [], [], self._pause())
            if 0 in ready:
                break
            if woken in ready:
                os.read(woken, 4096)
            self._reap()
            if self._control in ready:
                self._hear()
            if (caller := self._fire()) is not None:
                self._ask_to_end(caller)
                break
        cut(self._found)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()

    def _hear(self) -> None:
        *lines, self._heard = (self._heard + os.read(self._control, 65536)).split(b"\n")
        now = time.monotonic()
        for order in map(json.loads, lines):
            after = order["minutes"] * self._minute + order["seconds"]
            self._timers[order["unit"]] = (now + after, order)

    def _fire(self) -> int | None:
        """Start what is due and was not cancelled; return who ordered a shutdown that is."""
        for unit, (due, order) in list(self._timers.items()):
            if time.monotonic() >= due:
                del self._timers[unit]
                file = self.folder / "timers" / unit
                if file.exists():
                    file.unlink()
                    if not order["command"]:
                        return int(order["caller"])
                    self._start(order["command"])
        return None

    def _pause(self) -> float | None:
        moments = [due for due, _ in self._timers.values()]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _ask_to_end(self, caller: int) -> None:
        """Send TERM to all, and give them a moment, as systemd does: systemd.kill(5).

        Who ordered the shutdown has its answer by then.
        """
        self._wait_while(lambda: caller in self._found())
        _send(self._found(), signal.SIGTERM)
        self._wait_while(lambda: bool(self._found()))

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GRACE
        while condition() and time.monotonic() < deadline:
            self._reap()
            time.sleep(5 * PAUSE)  # in which the others run

    def _found(self) -> Found:
        return find(os.getpid(), self._mark)

    def _start(self, command: list[str]) -> None:
        me = os.getpid()

        def with_me() -> None:
            PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:  # killed before the request
                os._exit(1)

        with (self.folder / "console").open("ab") as console:
            try:
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env=self.env,
                    cwd="/",
                    umask=0o022,
                    start_new_session=True,
                    preexec_fn=with_me,
                )
            except OSError as error:  # an interpreter that is not there
                console.write(f"{command[0]}: {error}\n".encode())

    @staticmethod
    def _program(path: Path, body: bytes) -> None:
        path.write_bytes(body)
        path.chmod(0o700)

    @staticmethod
    def _reap() -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def main() -> None:
    """Be the init of the instance that standard input describes."""
    line = sys.stdin.buffer.readline()
    if not line:  # the lab is gone already
        return
    PRCTL(PR_SET_CHILD_SUBREAPER, 1)
    Init(json.loads(line)).run()


if __name__ == "__main__":
    main()
