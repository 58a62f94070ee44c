"""A growing log into the store, while it grows: what is shipped survives the machine."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from shim.errors import AccessError, LockedError, ShimError, UsageError
from shim.sinks import say
from shim.store import Conflict, Store

EVERY = 10.0  # seconds between uploads: with the time of one, the object is at most 15 s behind
LAST = 60.0  # seconds in which failures are retried at the end
SLOWEST = 1 << 20  # bytes a second: an upload under way at the end gets the time for this
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between retries at the end


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
    raised into the caller, and the local log is never touched.
    """

    def __init__(self, store: Store, key: str, log: Path, every: float) -> None:
        self._store, self._base, self._log, self._every = store, PurePosixPath(key), log, every
        self._number = 1
        self._etag: str | None = None
        self._problem = ""
        self._retry = True
        self._last_at: float | None = None  # when retrying ends; None while the log grows
        self._wake = threading.Event()
        # A daemon: a store that hangs must not keep the process.
        self._thread = threading.Thread(target=self._work, name="ship", daemon=True)
        self.shipped = 0

    @property
    def uri(self) -> str:
        """The object's address; a collision may still change it until something is shipped."""
        return self._store.uri_of(self._key)

    def start(self) -> None:
        """Start to ship; to be called after the fork, which leaves threads behind (fork(2))."""
        self._thread.start()

    def finish(self, last: float = LAST) -> bool:
        """Ship the rest of a log that is complete; return whether the object equals it.

        No try begins after `last` seconds; one that is under way then is given up when it has been
        slower than 1 MiB/s. If not all is shipped, stderr says where the local log is.
        """
        left = max(0, (self._size() or 0) - self.shipped)
        self._last_at = time.monotonic() + last
        self._wake.set()
        self._thread.join(last + left / SLOWEST)
        size = self._size()
        if size is None:
            return False
        complete = self._etag is not None and self.shipped == size
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
        pause = FIRST_PAUSE
        while not self._ship() and self._retry and time.monotonic() + pause < self._last_at:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ship(self) -> bool:
        """Bring the object up to the log's present size; return whether that worked."""
        try:
            while (size := self._size()) is not None:
                if size < self.shipped:  # somebody cut it: what is shipped stays as it is
                    self._next_key()
                if self._etag is not None and size == self.shipped:
                    break
                try:
                    self._etag = self._store.extend(
                        self._key, self._log, self.shipped, size, self._etag
                    )
                    self.shipped = size
                    break
                except Conflict:
                    self._next_key()
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

    def _next_key(self) -> None:
        self._number += 1
        self._etag, self.shipped = None, 0

    def _failed(self, why: str, retry: bool) -> None:
        if not self._problem:
            say(f"the log is not shipped at the moment: {why}; trying again")
        self._problem, self._retry = why, retry

    def _size(self) -> int | None:
        """Return the log's size in bytes; None when there is none, yet or any more."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return None
