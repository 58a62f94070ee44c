"""A log on a disk that may fill up: a file that only grows, and the end of what it did not take."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shim.sinks import say

RETRY = 0.2  # seconds between tries to write to a log that cannot be written
TAIL = 256 << 10  # bytes that are kept for when there is room again
BACKLOG = 8 << 20  # bytes that a log may have on a disk that is getting full
LOW, RESERVE = 1 << 30, 256 << 20  # free bytes, at most a half and a quarter of the disk
KINDS = {
    stat.S_IFIFO: "it is a FIFO",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFBLK: "it is a device",
    stat.S_IFCHR: "it is a device",
    stat.S_IFDIR: os.strerror(errno.EISDIR),
}
SINKS = (os.makedev(1, 3), os.makedev(1, 7))  # /dev/null and /dev/full, on Linux


def open_log(path: Path) -> int:
    """Open a log to append to, with mode 0600, and make its folder; return the descriptor.

    Raises OSError, at once, also for what would block: a FIFO waits for its reader (fifo(7)).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        _check(path.stat())  # before it is opened: that alone can have an effect on a device
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o600)
    try:
        _check(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(about: os.stat_result) -> None:
    why = KINDS.get(stat.S_IFMT(about.st_mode))
    if why and not (stat.S_ISCHR(about.st_mode) and about.st_rdev in SINKS):
        raise OSError(errno.EINVAL, why)


def low(where: int | Path, coming: int = 0, most: int = LOW, part: int = 2) -> bool:
    """Return whether the disk of a file or folder has less free than `most` bytes or a part of it.

    `coming` bytes are counted as used already. Raises OSError.
    """
    disk = os.statvfs(where)
    whole, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    # A size of zero: the file system does not tell, as some in user space.
    return whole > 0 and free - coming < min(most, whole // part)


def add_line(path: Path, text: str, rest: bytes) -> bytes:
    """Append a line to a log that is closed; return what is to follow in it, if that fails.

    `rest` is what was to follow before.
    """
    line = f"spot_backtest: {text}\n".encode(errors="backslashreplace")
    if rest:
        return rest + line
    try:
        descriptor = open_log(path)
        try:
            return line[os.write(descriptor, line) :]
        finally:
            os.close(descriptor)
    except OSError:
        return line


class LogFile:
    """The log of one command. Nothing here raises.

    Of what cannot be written the last bytes are kept and follow once they can; a line in the file
    says how many before them are lost. A log leaves room on its disk for what the command writes
    there, so it stops before the disk is full; `make_room` is called when that comes near.
    """

    def __init__(self, path: Path, make_room: Callable[[], None] | None = None) -> None:
        self.path = path
        self.total_lost = 0
        self._make_room = make_room
        self._gap = 0  # bytes before the tail that are lost and not yet told
        self._note = b""  # what is still to be written of the line about them
        self._tail = bytearray()
        self._last = b"\n"
        self._said = False
        self._retry_at = self._ask_at = 0.0
        self._descriptor: int | None = None
        self._open()

    @property
    def lost(self) -> int:
        """How many bytes are not in the file, those that may follow among them."""
        return self.total_lost + len(self._tail)

    def write(self, data: bytes) -> None:
        """Append bytes, now or later."""
        if self._behind and not (time.monotonic() >= self._retry_at and self.catch_up()):
            self._keep(data)
        elif rest := self._append(data):
            self._keep(rest)

    def line(self, text: str) -> None:
        """Append a line of ours, marked as such."""
        start = b"" if self._last == b"\n" else b"\n"
        self.write(start + f"[spot_backtest: {text}]\n".encode(errors="backslashreplace"))

    def catch_up(self) -> bool:
        """Write what is behind; return whether all of it is there."""
        while self._behind:
            if not self._note and not self._gap:
                data, self._tail = bytes(self._tail), bytearray()
                if rest := self._append(data):
                    self._tail[:0] = rest
                    return False
                continue
            note = self._note or self._gap_line()
            rest = self._append(note)
            if rest == note:
                return False
            if not self._note:
                self._gap = 0
            self._note = rest
        return True

    def finish(self) -> bytes:
        """Write what is behind and close the file; return what it does not take.

        That is counted as lost, and begins with the line about what is lost before it.
        """
        self.catch_up()
        self.close()
        return self._note + self._gap_line() + bytes(self._tail)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            with suppress(OSError):  # a late EIO or ENOSPC: nothing more can be done
                os.close(self._descriptor)
            self._descriptor = None

    @property
    def _behind(self) -> bool:
        return bool(self._gap or self._note or self._tail)

    def _gap_line(self) -> bytes:
        return f"\n[spot_backtest: {self._gap} bytes lost here]\n".encode() if self._gap else b""

    def _keep(self, data: bytes) -> None:
        """Keep bytes for later, and drop the oldest of those that are kept."""
        self._tail += data
        over = len(self._tail) - TAIL
        if over > 0:
            del self._tail[:over]
            self._gap += over
            self.total_lost += over

    def _open(self) -> None:
        try:
            self._descriptor = open_log(self.path)
        except OSError as error:
            self._refused(error.strerror)

    def _append(self, data: bytes) -> bytes:
        """Write as much as possible; return the rest."""
        if self._descriptor is None:
            self._open()
        if self._descriptor is None or not self._room(len(data)):
            return data
        done = 0
        while done < len(data):
            try:
                done += os.write(self._descriptor, memoryview(data)[done:] if done else data)
            except OSError as error:
                self._refused(error.strerror)
                self._ask()
                break
        if done:
            self._last = data[done - 1 : done]
        return data[done:]

    def _room(self, size: int) -> bool:
        """Return whether bytes may be written: not into what the disk's others need."""
        assert self._descriptor is not None  # noqa: S101 - the caller has looked
        try:
            if not low(self._descriptor, size):
                return True
            self._ask()
            # Freed ranges of the file have no blocks, which count 512 bytes each (stat(2)).
            has = os.fstat(self._descriptor).st_blocks * 512
            if has + size <= BACKLOG or not low(self._descriptor, size, RESERVE, 4):
                return True
        except OSError:  # the write itself will tell
            return True
        self._refused("its disk is nearly full, and what is free is left to the command")
        return False

    def _ask(self) -> None:
        now = time.monotonic()
        if self._make_room and now >= self._ask_at:
            self._ask_at = now + RETRY
            self._make_room()

    def _refused(self, why: str | None) -> None:
        if not self._said:
            say(f"the log {self.path} cannot be written ({why}); going on")
        self._said = True
        self._retry_at = time.monotonic() + RETRY
