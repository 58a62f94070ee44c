"""A growing log into the store, while it grows: what is shipped survives the machine."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from shim import clock
from shim.errors import AccessError, LockedError, ShimError, UsageError
from shim.logfile import RESERVE, low
from shim.plan import Plan, StagePlan
from shim.sinks import say
from shim.store import Conflict, Missing, Store

EVERY = 10.0  # seconds between uploads: with the time of one, the object is at most 15 s behind
LAST = 60.0  # seconds in which failures are retried at the end
SLOWEST = 1 << 20  # bytes a second: an upload under way at the end gets the time for this
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between retries at the end
STEP, LEAST_STEP = 8 << 20, 256 << 10  # bytes shipped at a time to a disk that is nearly full
BLOCK = 4096  # bytes: what is freed of a file begins and ends at a block
KEEP_SIZE, PUNCH_HOLE = 1, 2  # fallocate(2)


def started(store: Store, plan: Plan, stage: StagePlan, log: Path) -> Shipper:
    """Begin to ship the log of an attempt at a stage."""
    host, now = socket.gethostname(), clock.utc_now()
    key = log_key(plan.logs_prefix, stage.slug, plan.run_date, host, now)
    shipper = Shipper(store, key, log, EVERY)
    shipper.start()
    return shipper


def log_key(prefix: str, slug: str, run_date: str, host: str, moment: datetime) -> str:
    """Return the key of a log: `<prefix><slug>/<run date>/<host>-<HHMMSS>Z.log`.

    The prefix is empty or ends in a slash. The folder is the run date, whatever the moment says.
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", host).strip("-.") or "host"
    return f"{prefix}{slug}/{run_date}/{name}-{moment.astimezone(UTC):%H%M%S}Z.log"


class Shipper:
    """A thread that keeps an object in the store equal to a local log.

    The object is the whole file, also what was in it before: a log that an earlier run could not
    ship is not lost. A key that is taken, or that somebody else writes meanwhile, is left alone
    for `<name>-2.log`, `-3` and so on. Failures are told once on stderr and tried again; nothing is
    raised into the caller. The local log is never touched, but for this: when its disk is nearly
    full, what the object has of it and what is not read again is freed, and then reads as zeros.
    """

    def __init__(self, store: Store, key: str, log: Path, every: float) -> None:
        self._store, self._base, self._log, self._every = store, PurePosixPath(key), log, every
        # An object in S3 takes no room here.
        self._folder = None if store.uri.startswith("s3://") else Path(store.uri)
        self._number = 1
        self._etag: str | None = None
        self._problem = ""
        self._retry = True
        self._last_at: float | None = None  # when retrying ends; None while the log grows
        self._rest = b""  # what is still to follow what the file has
        self._can_free = sys.platform == "linux"
        self._wake = threading.Event()
        # A daemon: a store that hangs must not keep the process.
        self._thread = threading.Thread(target=self._work, name="ship", daemon=True)
        self.shipped = 0
        self.freed = 0  # bytes at the log's start that only the object has

    @property
    def uri(self) -> str:
        """The object's address; a collision may still change it until something is shipped."""
        return self._store.uri_of(self._key)

    def start(self) -> None:
        """Start to ship; to be called after the fork, which leaves threads behind (fork(2))."""
        self._thread.start()

    def make_room(self) -> None:
        """Ship now, and free what is shipped; returns at once. For any thread."""
        self._wake.set()

    def finish(self, last: float = LAST, rest: bytes = b"") -> bool:
        """Ship what is left of a log that is complete; return whether the object has all of it.

        `rest` are its last bytes, if the file could not take them. No try begins after `last`
        seconds; one that is under way then is given up when it has been slower than 1 MiB/s. If not
        all is shipped, stderr says where the local log is.
        """
        left = max(0, (self._size() or 0) - self.shipped)
        self._rest = rest
        self._last_at = time.monotonic() + last
        self._wake.set()
        self._thread.join(last + left / SLOWEST)
        size = self._size()
        if size is None and not rest:
            if self._etag is not None:
                say(f"the log {self._log} is gone; {self.uri} has its first {self.shipped} bytes")
            return False
        whole = size is None or self.shipped == size
        complete = self._etag is not None and whole and not self._rest
        if not complete:
            what = self._problem or f"the store takes longer than {last:.0f} s"
            say(f"the log is not all in the store ({what}); it is kept in {self._log}")
        return complete

    @property
    def _key(self) -> str:
        if self._number == 1:
            return str(self._base)
        return str(self._base.with_stem(f"{self._base.stem}-{self._number}"))

    def _work(self) -> None:
        while self._last_at is None:
            self._ship()
            self._wake.wait(self._every)
            self._wake.clear()
        pause = FIRST_PAUSE
        while not self._ship() and self._retry and time.monotonic() + pause < self._last_at:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ship(self) -> bool:
        """Bring the object up to the log's present size; return whether that worked."""
        try:
            while True:
                rest = self._rest  # looked at before the size, which with a rest is the last one
                size = self._size()
                if size is None and not rest:
                    break
                if size is not None:
                    before, upto = self.shipped, self._upto(size)
                    if not self._extend(upto):
                        continue
                    if upto < size:
                        self._free()
                        if upto == before:
                            break
                        continue
                if not rest:
                    break
                if self._extend_by(rest):
                    self._rest = b""
                    break
            self._free()
        except ShimError as error:
            # A lock has been waited for, and at the end a command is not held up by who holds it.
            final = AccessError | UsageError | LockedError
            self._failed(str(error), not isinstance(error, final))
            return False
        except Exception as error:  # a bug of ours must not end a command's log
            self._failed(repr(error), True)
            return False
        if self._problem:
            say(f"the log is shipped again: {self.uri}")
            self._problem = ""
        return True

    def _upto(self, size: int) -> int:
        """Return how far to ship now: all, but for a store in a folder whose disk is nearly full.

        There it goes in steps, for what is shipped can be freed if the log lies there as well; and
        while the log grows the command is left its room, as by the log itself (shim.logfile).
        """
        if self._folder is None:
            return size
        try:
            disk = os.statvfs(self._folder)
            step = max(LEAST_STEP, min(STEP, disk.f_bavail * disk.f_frsize // 2))
            step = min(size, self.shipped + step)
            if self._last_at is None and low(self._folder, step - self.shipped, RESERVE, 4):
                return min(size, self.shipped)
            return step if low(self._folder) else size
        except OSError:  # it is not there yet
            return size

    def _extend(self, size: int, rest: bytes = b"") -> bool:
        """Ship up to a size, or the rest after it; return False to begin again, at the next key."""
        if size < self.shipped:  # somebody cut it: what is shipped stays as it is
            self._next_key()
        if self._etag is not None and size == self.shipped and not rest:
            return True
        try:
            with self._source(rest) as source:
                self._etag = self._store.extend(
                    self._key, source, self.shipped, size + len(rest), self._etag
                )
        except (Conflict, Missing):
            self._next_key()
            return False
        self.shipped = size
        return True

    def _extend_by(self, rest: bytes) -> bool:
        """Ship the rest after what is shipped; return False to begin again, at the next key."""
        try:
            return self._extend(self.shipped, rest)
        except OSError as error:  # a limit on files holds in memory too: EFBIG in write(2)
            say(f"the last {len(rest)} bytes of the log are lost ({error.strerror})")
            return True

    @contextmanager
    def _source(self, rest: bytes) -> Iterator[Path]:
        """Give the log, or with a rest a file in memory that has this where the log ends."""
        if not rest:
            yield self._log
            return
        with open(os.memfd_create("rest"), "w+b") as memory:
            if self._etag is not None and self.shipped <= self._store.extend_rereads:
                memory.writelines(self._store.pieces(self._key, self._etag))
            memory.seek(self.shipped)
            memory.write(rest)
            memory.flush()
            yield Path(f"/proc/self/fd/{memory.fileno()}")

    def _free(self) -> None:
        """Give the blocks of what is shipped back to a disk that is nearly full."""
        end = self.shipped // BLOCK * BLOCK
        if not self._can_free or end <= self.freed or self.shipped <= self._store.extend_rereads:
            return
        try:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if low(descriptor):
                    _punch(descriptor, self.freed, end)
                    self.freed = end
            finally:
                os.close(descriptor)
        except OSError:  # EOPNOTSUPP: not on this file system
            self._can_free = False

    def _next_key(self) -> None:
        before = self.uri
        self._number += 1
        self._etag, self.shipped = None, 0
        if self.freed:
            say(f"{self.uri} has zeros for its first {self.freed} bytes, which were in {before}")

    def _failed(self, why: str, retry: bool) -> None:
        if not self._problem:
            say(f"the log is not shipped at the moment: {why}; trying again")
        self._problem, self._retry = why, retry

    def _size(self) -> int | None:
        """Return the log's size in bytes; None when there is none, yet or any more."""
        try:
            about = self._log.stat()
        except OSError:  # also a folder that may not be searched any more
            return None
        return about.st_size if stat.S_ISREG(about.st_mode) else None


def _punch(descriptor: int, start: int, end: int) -> None:
    """Free a range of a file, which keeps its size. Raises OSError where that cannot be done."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or libc.fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(descriptor, PUNCH_HOLE | KEEP_SIZE, start, end - start):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
