"""One command from start to end: its bytes kept in order, its signals delivered, its status kept.

Runs in the main thread of the supervisor (detach.py). One loop waits for everything at once, so
that neither a stuck console nor a full disk nor a daemon that keeps the pipe delays the rest.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from shim import leftovers
from shim.detach import Lifeline, signal_group
from shim.ended import Ended, Ending, Reason, Refusal
from shim.leftovers import Leftovers
from shim.liveness import die_with
from shim.logfile import LogFile
from shim.redact import Masker
from shim.sinks import CHUNK, PIPE_SIZE, Console, open_pipe, say
from shim.usage import UsageMeter

GRACE = 10.0  # seconds from SIGTERM to SIGKILL
SILENT = 60.0  # seconds without output until somebody is told
TICK = 0.5  # seconds: how late a cancel is seen
QUIET = 1.0  # seconds without a byte after which a pipe that outlives its command is closed
DRAIN = 5.0  # seconds after which it is closed in any case
STUCK = 1.0  # seconds that a console which takes nothing delays a command that is being stopped
NOT_FOUND = {errno.ENOENT, errno.ENOTDIR}  # 127; any other error is 126


def run(
    command: Sequence[str],
    *,
    log: Path,
    lifeline: Lifeline,
    env: Mapping[str, str],
    mask: Masker,
    cwd: Path | None = None,
    console: int | None = None,
    stdin: int | None = None,
    timeout: float | None = None,
    cancel: threading.Event | None = None,
    silent: Callable[[float], None] | None = None,
    make_room: Callable[[], None] | None = None,
    grace: float = GRACE,
    silent_every: float = SILENT,
) -> Ended:
    """Run a command in a session of its own and follow it to its end.

    stdout and stderr are one pipe, so their order is the true one; every byte goes through `mask`,
    to the end of `log` and then to the descriptor `console`. `stdin` None is /dev/null. Durations
    are in seconds. After the timeout, a cancel, the front's death or a request to stop that was
    sent to the supervisor itself, the command's process group gets TERM and after `grace` KILL.
    Once the command has ended and its own output is drained, whatever it left is ended too, also
    what moved to another session. `silent` is called with the seconds since the start, `make_room`
    when the disk of the log is nearly full. A log that cannot be written changes nothing.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    file = LogFile(log, make_room)
    running = _Run(file, console, mask, Ending(lifeline, cancel, deadline))
    try:
        if lifeline.front_died:
            return Ended.never_started()
        refusal = running.start(command, env, None if cwd is None else str(cwd), stdin)
        if refusal is None:
            running.follow(grace, silent, silent_every)
        return running.ended(refusal)
    finally:
        running.close()


class _Run:
    """The state of one command between its start and its end."""

    def __init__(self, file: LogFile, console: int | None, mask: Masker, ending: Ending) -> None:
        self._file, self._screen = file, Console(console)
        self._meter = UsageMeter()
        self._left: tuple[str, ...] = ()
        self._mask = mask
        self._ending, self._lifeline = ending, ending.lifeline
        self._child: subprocess.Popen[bytes] | None = None
        self._source: int | None = None
        self._reason: Reason | None = None
        self._gone, self._bytes = False, 0
        self._kill_at = self._drain_until = math.inf
        self._last_byte = time.monotonic()

    def start(
        self, command: Sequence[str], env: Mapping[str, str], where: str | None, stdin: int | None
    ) -> Refusal | None:
        """Start the command; return why it could not be started, or None."""
        self._source, sink = open_pipe()
        try:
            self._child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=sink,
                stderr=sink,
                cwd=where,
                # What Python prints is in the log when it is printed, not when a buffer is full.
                env={"PYTHONUNBUFFERED": "1", **env},
                start_new_session=True,  # and so a process group with its pid (setsid(2))
                restore_signals=True,  # SIGPIPE and SIGXFSZ, which Python ignores
                preexec_fn=partial(_before, self._meter, os.getpid()),
            )
        except OSError as error:
            no_directory = where is not None and error.filename == where
            what = f"{command[0]} in {where}" if no_directory else command[0]
            line = f"spot_backtest: cannot run {what} ({error.strerror}); check it and PATH\n"
            self._pass(line.encode(errors="backslashreplace"))
            self._close_source()
            return "not found" if error.errno in NOT_FOUND and not no_directory else "cannot run"
        finally:
            os.close(sink)
        # The reading end only: the writing end is an open file description of its own (pipe(7)),
        # and the command's writes stay blocking.
        os.set_blocking(self._source, False)
        self._lifeline.tell(self._child.pid)
        return None

    def follow(
        self, grace: float, silent: Callable[[float], None] | None, silent_every: float
    ) -> None:
        """Return after the end of the command and of its output; the status is collected."""
        assert self._child is not None  # noqa: S101 - follows a start() that returned None
        started = self._last_byte
        next_word = started + silent_every if silent else math.inf
        while not self._drained():
            self._wait(next_word)
            self._advance(self._child.pid, grace)
            if silent and time.monotonic() >= next_word:
                if self._last_byte + silent_every <= next_word:
                    silent(time.monotonic() - started)
                    next_word += silent_every
                else:
                    next_word = self._last_byte + silent_every
        self._end_leftovers(self._child.pid, grace)
        # After a blocked console or a pause of ours the command's own last bytes are still there.
        left = self._bytes + PIPE_SIZE
        while self._bytes < left and self._read():
            pass
        self._close_source()
        self._lifeline.tell(0)
        self._child.wait()

    def ended(self, refusal: Refusal | None) -> Ended:
        """Return the result once the console has everything, or takes nothing in a hurry."""
        self._drain_until = math.inf
        self._pass(self._mask.flush())
        self._screen.finish()
        while not self._screen.closed:
            self._wait()
            self._release_console()
        if self._left:
            text = f"ended what the command left running: {', '.join(self._left)}"
            say(text)
            self._file.line(text)
        rest = self._file.finish()
        if refusal is not None:
            end = Ended.refused(refusal)
        else:
            assert self._child is not None  # noqa: S101 - it was not refused
            end = Ended.of_status(self._child.returncode, self._reason)
            end = replace(end, bytes=self._bytes, leftovers=self._left, usage=self._meter.read())
        return replace(end, lost=self._file.lost, rest=rest)

    def close(self) -> None:
        """Let go of everything; a command that still runs, after an error of ours, is killed."""
        if self._child is not None and self._child.returncode is None:
            signal_group(self._child.pid, signal.SIGKILL)
            self._child.wait()
            Leftovers((), 0).end()
        self._meter.close()
        self._close_source()
        self._screen.drop()
        self._file.close()

    def _end_leftovers(self, command: int, grace: float) -> None:
        """End what the command left and name it; its last words are still heard."""
        left = Leftovers((command,), min(grace, leftovers.GRACE))
        while left.step():
            self._wait(left.due)
            self._release_console()
        self._left = left.named()

    def _drained(self) -> bool:
        if not self._gone or self._kill_at < math.inf:
            return False
        now = time.monotonic()
        return self._source is None or now >= min(self._drain_until, self._last_byte + QUIET)

    def _wait(self, until: float = math.inf) -> None:
        """Wait for the first of: output, room on the console, a signal, the next moment."""
        poller = select.poll()
        for descriptor in self._lifeline.descriptors:
            poller.register(descriptor, select.POLLIN)
        if self._source is not None and not self._screen.blocked:
            poller.register(self._source, select.POLLIN)
        if interest := self._screen.interest:
            poller.register(*interest)
        now = time.monotonic()
        moments = [now + TICK, until, self._kill_at, self._drain_until]
        if not self._gone and self._reason is None:
            moments.append(self._ending.deadline)
        ready = {found[0] for found in poller.poll(max(0.0, min(moments) - now) * 1000)}
        if interest and interest[0] in ready:
            self._screen.resume()
        if self._source in ready:
            self._read()

    def _advance(self, group: int, grace: float) -> None:
        """Do what is due: forward, notice the end, ask to end, kill."""
        leftovers.reap(group)
        # WNOWAIT leaves the dead leader unreaped: until it is reaped nobody else can get its
        # process group id (waitid(2), fork(2)), and signals to the group hit nobody else.
        if not self._gone and os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self._gone = True
            self._start_drain()
        if not self._gone:
            for number in self._lifeline.hear():
                signal_group(group, number)
            self._reason = self._reason or self._ask_to_end(group, grace)
        alone = self._gone and self._source is None
        if self._kill_at < math.inf and (alone or time.monotonic() >= self._kill_at):
            # Also for those that the leader left behind: with the pipe open they had their grace.
            signal_group(group, signal.SIGKILL)
            self._start_drain()
            self._kill_at = math.inf
        self._release_console()

    def _ask_to_end(self, group: int, grace: float) -> Reason | None:
        reason = self._ending.reason()
        if reason is not None:
            signal_group(group, signal.SIGTERM)
            signal_group(group, signal.SIGCONT)  # a stopped process acts on TERM when it continues
            self._kill_at = time.monotonic() + grace
        return reason

    def _start_drain(self) -> None:
        self._last_byte = time.monotonic()
        self._drain_until = self._last_byte + DRAIN

    def _release_console(self) -> None:
        """Stop waiting for a stuck console when the command is to end, or was asked to and did."""
        asked = self._gone and self._lifeline.stop is not None
        hurry = self._reason or asked or self._ending.reason()
        if hurry and self._screen.stuck(time.monotonic()) > STUCK:
            self._screen.drop()

    def _read(self) -> bool:
        """Pass on what is in the pipe; return whether there was anything."""
        if self._source is None:
            return False
        try:
            data = os.read(self._source, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._close_source()
            return False
        self._last_byte = time.monotonic()
        self._bytes += len(data)
        self._pass(self._mask.feed(data))
        return True

    def _pass(self, data: bytes) -> None:
        if data:
            self._file.write(data)
            self._screen.write(data)

    def _close_source(self) -> None:
        if self._source is not None:
            os.close(self._source)
            self._source = None


def _before(meter: UsageMeter, parent: int) -> None:
    """What the command's process does before it becomes the command."""
    meter.enter()
    die_with(parent)
