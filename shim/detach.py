"""A front that is killed and a supervisor that is not: two processes around every command.

Run Command and process managers end a command with SIGKILL to its whole process group, and no
handler runs for that. So the front (the process that was called) forks at once: the supervisor
leads a session of its own, does all the work, and hears through a pipe, the lifeline, what happens
to the front. The front only forwards signals and waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

from shim import leftovers
from shim.leftovers import Leftovers

# Forwarded is every signal that can be caught, but for these:
NOT_FORWARDED = {
    signal.SIGKILL,  # cannot be caught (signal(7)); the supervisor sees the lifeline close
    signal.SIGSTOP,
    signal.SIGCHLD,  # about our own children
    signal.SIGTSTP,  # suspend the front alone: a process group that is alone in its session is
    signal.SIGTTIN,  # orphaned, and the kernel does not let these stop it (setpgid(2))
    signal.SIGTTOU,
    signal.SIGPIPE,  # about our own writes
    signal.SIGXFSZ,
    signal.SIGSEGV,  # faults of the front itself: a handler that returns would loop
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSYS,
    signal.SIGTRAP,
    signal.SIGABRT,
}
FORWARDED: frozenset[int] = frozenset(signal.valid_signals()) - NOT_FORWARDED
STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
FRONT_DIED: Final = "front died"


class Lifeline:
    """What the supervisor hears: signals sent to the front, the front's death, its own signals.

    Not for use from more than one thread.
    """

    def __init__(self, front: int, own: int, up: int) -> None:
        self._front: int | None = front
        self._own = own
        self._up = up
        self._waiting: list[int] = []
        self._stop: str | None = None
        self.addressed = False  # somebody asked the supervisor itself to stop

    @property
    def descriptors(self) -> list[int]:
        """The descriptors to poll for reading: news from the front, and SIGCHLD among our own."""
        return [self._own] if self._front is None else [self._own, self._front]

    @property
    def front_died(self) -> bool:
        """Whether the front is gone, as after SIGKILL to its process group."""
        self._listen()
        return self._front is None

    @property
    def stop(self) -> str | None:
        """Why to end early: `front died`, the name of a signal that asks to stop, or None."""
        self._listen()
        return self._stop

    def hear(self) -> list[int]:
        """Return the signals that came since the last call and are to be forwarded."""
        self._listen()
        heard, self._waiting = self._waiting, []
        return heard

    def tell(self, group: int) -> None:
        """Tell the front which process group to end if the supervisor dies; 0 when none is left."""
        with contextlib.suppress(BrokenPipeError):  # a dead front needs to know nothing
            os.write(self._up, b"%d\n" % group)

    def _listen(self) -> None:
        for number in _read_all(self._own)[0]:
            if number in STOPPING:
                self.addressed = True
                self._stop = self._stop or signal.Signals(number).name
            elif number != signal.SIGCHLD:
                self._waiting.append(number)
        if self._front is None:
            return
        numbers, ended = _read_all(self._front)
        for number in numbers:
            self._waiting.append(number)
            if number in STOPPING:
                self._stop = self._stop or signal.Signals(number).name
        if ended:
            os.close(self._front)
            self._front = None
            self._stop = FRONT_DIED


def detached(work: Callable[[Lifeline], int], lost: Callable[[str], None]) -> int:
    """Run `work` in a supervisor with a session of its own and return its status, 0 to 255.

    To be called in the main thread of a process without other threads: after a fork only the
    thread that forked goes on (fork(2)). An exception of `work` leaves this function in the
    supervisor, so that the same caller prints it; the front ends with the supervisor's status. If
    the supervisor is itself ended by signal n, the front ends the command's group and all that is
    left of it, calls `lost` with the reason and returns 128+n. SIGHUP that is ignored at the start
    (nohup) stays ignored. INT and QUIT do not: a shell without job control ignores them in whatever
    it starts with `&` (POSIX, Shell Command Language, 2.11), and there they are meant for the
    command.
    """
    _open_standard_descriptors()
    _flush()
    # A parent that ignores SIGCHLD passes that on, and then waitpid finds nothing (wait(2)).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    forwarded: set[int] = set(FORWARDED)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        forwarded.discard(signal.SIGHUP)
    down, up = os.pipe(), os.pipe()
    for descriptor in (*down, up[0]):
        os.set_blocking(descriptor, False)
    # Blocked over the fork: a signal that comes now waits until its handler is there.
    signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
    # Of whoever called: a process can have children from before it became this program (execve(2)).
    strangers = leftovers.children()
    leftovers.adopt()  # not inherited by children, so each of the two does it for itself (prctl(2))
    supervisor = os.fork()
    if supervisor == 0:
        os.close(down[1])
        os.close(up[0])
        return _supervise(work, forwarded, down[0], up[1])
    os.close(up[1])
    # The front keeps the lifeline's reading end: without a reader a late signal would be reported
    # as a failed write. End of file depends on the writing end alone (pipe(7)).
    signal.set_wakeup_fd(down[1], warn_on_full_buffer=False)
    for number in forwarded:
        signal.signal(number, _noted)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return _attend(supervisor, up[0], strangers, lost)


def _supervise(work: Callable[[Lifeline], int], forwarded: set[int], front: int, up: int) -> int:
    os.setsid()
    leftovers.adopt()
    leftovers.be_supervisor()
    own = os.pipe()
    for descriptor in own:
        os.set_blocking(descriptor, False)
    for number in forwarded:
        # What was sent to the whole group since the fork is pending here as well as in the front;
        # ignoring discards it (POSIX, 2.4.3 Signal Actions), so that it is not forwarded twice.
        signal.signal(number, signal.SIG_IGN)
        signal.signal(number, _noted)
    signal.signal(signal.SIGCHLD, _noted)
    signal.set_wakeup_fd(own[1], warn_on_full_buffer=False)
    # The command inherits this mask; its dispositions are the default ones, for execve(2) resets
    # whatever has a handler.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    code = work(Lifeline(front, own[0], up))
    _flush()
    os._exit(code)


def _attend(supervisor: int, up: int, strangers: list[int], lost: Callable[[str], None]) -> int:
    while True:
        # Any child: as process 1 of a container the front inherits strangers and must reap them.
        pid, status = os.waitpid(-1, 0)
        if pid == supervisor:
            break
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    told = bytes(_read_all(up)[0]).split()
    if told and int(told[-1]):
        signal_group(int(told[-1]), signal.SIGKILL)
    left = Leftovers(strangers)
    left.end()
    more = f"; ended what it left running: {', '.join(named)}" if (named := left.named()) else ""
    lost(f"the supervisor was ended by {signal_name(-code)}{more}")
    return 128 - code


def signal_group(group: int, number: int) -> None:
    """Send a signal to a process group, if anybody is left in it who may be signalled.

    ESRCH: nobody is left. EPERM: all of them run as somebody else (kill(2)); nothing can be done.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def signal_name(number: int) -> str:
    """Return a signal's name, such as SIGTERM, or `signal 40` for one that has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the number is already in the wakeup descriptor, written by Python's own handler.

    See signal.set_wakeup_fd; this is the self-pipe of signal-safety(7).
    """


def _read_all(descriptor: int) -> tuple[list[int], bool]:
    """Return the bytes that wait in a non-blocking pipe, and whether it is at its end."""
    found: list[int] = []
    while True:
        try:
            data = os.read(descriptor, 4096)
        except BlockingIOError:
            return found, False
        if not data:
            return found, True
        found.extend(data)


def _open_standard_descriptors() -> None:
    """Point closed standard descriptors at /dev/null, so that no pipe or log gets their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # EBADF is the only error that fstat(2) has for a number
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # closed early: nobody to write for
                stream.flush()
