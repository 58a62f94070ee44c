"""Where a command's bytes go besides the log (logfile.py): the console, which may block."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import sys
import threading
import time

from shim.errors import printable

PIPE_SIZE = 1 << 20
CHUNK = 1 << 18


def say(text: str, patience: float = 1.0) -> None:
    """Write one line for a person to stderr, or drop it if stderr takes nothing for `patience` s.

    What cannot be printed is escaped: parts of it may come from records or from AWS.

    A line below PIPE_BUF bytes does not block once poll reports room (pipe(7)), so a stuck reader
    of stderr cannot hold up a command.
    """
    line = f"spot_backtest: {printable(text)}".encode()[:4095] + b"\n"
    with contextlib.suppress(OSError):  # stderr is gone: there is nowhere to say so
        poller = select.poll()
        poller.register(2, select.POLLOUT)
        if poller.poll(patience * 1000):
            os.write(2, line)


def open_pipe() -> tuple[int, int]:
    """Return the reading and writing end of a pipe of 1 MiB, or smaller where that is refused."""
    ends = os.pipe()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # EPERM: the user has many large pipes (pipe(7))
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return ends


class Console:
    """A copy of the output on a descriptor that others share and that may block for hours.

    A thread does the writing, because only it may wait: the descriptor's O_NONBLOCK belongs to
    everybody who has it open (open(2), F_SETFL in fcntl(2)), and a write to a terminal can block
    although poll reported room. The thread reads from a pipe of our own, whose writing end does
    not block. With `target` None, or after a write failed, everything is dropped.
    """

    def __init__(self, target: int | None) -> None:
        self._input: int | None = None
        self._ended: int | None = None
        self._finishing = False
        self._waiting = memoryview(b"")
        self._written = 0
        self._seen = (0, time.monotonic())
        if target is None:
            return
        source, self._input = open_pipe()
        self._ended, ended = os.pipe()
        os.set_blocking(self._input, False)
        threading.Thread(target=self._copy, args=(source, target, ended), daemon=True).start()

    @property
    def blocked(self) -> bool:
        """Whether bytes wait for room: the moment to take no more."""
        return bool(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether there is nothing to wait for after `finish`."""
        return self._ended is None

    @property
    def interest(self) -> tuple[int, int] | None:
        """The descriptor and events to poll for before `resume`, if there is anything to do."""
        if self._input is not None and self._waiting:
            return self._input, select.POLLOUT
        if self._finishing and self._ended is not None:
            return self._ended, select.POLLIN
        return None

    def write(self, data: bytes) -> None:
        """Hand over bytes without blocking; what finds no room waits."""
        if self._input is not None:
            self._waiting = memoryview(bytes(self._waiting) + data if self._waiting else data)
            self._seen = (self._written, time.monotonic())
            self._push()

    def resume(self) -> None:
        """Go on when `interest` is ready."""
        if self._waiting:
            self._push()
        elif self._finishing:
            self.drop()

    def finish(self) -> None:
        """Say that nothing follows; the last byte is out when `closed` holds."""
        self._finishing = True
        self._push()

    def drop(self) -> None:
        """Give up what is not written."""
        self._waiting = memoryview(b"")
        for descriptor in (self._input, self._ended):
            if descriptor is not None:
                os.close(descriptor)
        self._input = self._ended = None

    def stuck(self, now: float) -> float:
        """Return for how many seconds bytes have waited without any going in or out."""
        if not self._waiting and not self._finishing:
            return 0.0
        if self._seen[0] != self._written:
            self._seen = (self._written, now)
        return now - self._seen[1]

    def _push(self) -> None:
        while self._waiting and self._input is not None:
            try:
                self._waiting = self._waiting[os.write(self._input, self._waiting) :]
            except BlockingIOError:
                return
            except BrokenPipeError:  # the thread gave up: a closed stdout ends the console alone
                self.drop()
        if self._finishing and self._input is not None:
            os.close(self._input)
            self._input = None

    def _copy(self, source: int, target: int, ended: int) -> None:
        try:
            while data := os.read(source, CHUNK):
                view = memoryview(data)
                while view:
                    view = view[_write(target, view) :]
                    self._written += 1
        except OSError as error:
            if error.errno != errno.EPIPE:
                say(f"the console cannot be written ({error.strerror}); the log goes on")
        finally:
            os.close(source)
            os.close(ended)


def _write(descriptor: int, data: memoryview) -> int:
    """Write some bytes; waits for room also where somebody else has set O_NONBLOCK."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            poller.poll()
