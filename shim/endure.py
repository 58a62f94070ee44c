"""A store that may be away: a call that got no answer is made again, for a quarter of an hour.

Hours of work are not thrown away because the store did not answer when they were done. A refusal,
and all that is wrong with a request itself, is passed on at once.
"""

from __future__ import annotations

import time
from builtins import list as listed  # Store.list shadows it
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from shim.errors import PreflightError, RecordError, ShimError
from shim.store import WAITER, Conflict, Expect, Missing, Object, Progress, Store, Waiter

PATIENCE = 900.0  # seconds, from the first call that got no answer
PAUSE, LONGEST = 0.5, 15.0  # seconds between two tries: at first, and however often it is doubled
TICK = 0.5  # seconds: how late a signal is noticed
T = TypeVar("T")


def at_once(call: Callable[[], T]) -> T:
    """Make a call at the start of a run, where a person is to know at once that nobody answers.

    Raises PreflightError for that, also where it was a write.
    """
    try:
        return call()
    except ShimError as error:
        raise unanswered(error) from error


def unanswered(error: ShimError) -> ShimError:
    """Return the error of a call at the start of a run: 69 if it says that nobody answered."""
    if not error.passing or error.code not in (PreflightError.code, RecordError.code):
        return error
    return PreflightError(error.message, error.hint, passing=True)


class Enduring(Store):
    """Another store, patiently. `go_on` raises when the caller is to stop waiting.

    What is written twice because the first answer was lost meets itself: the caller sees Conflict.
    """

    def __init__(
        self, store: Store, go_on: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        self._store, self._go_on, self._tell = store, go_on, tell
        self.uri, self.etag_tells_content = store.uri, store.etag_tells_content
        self._gave_up = False

    @property
    def endpoint(self) -> str:  # type: ignore[override]  # an attribute where there is none
        return self._store.endpoint

    def again(self, call: Callable[[], T]) -> T:
        """Make a call until it is answered. Raises its last error after PATIENCE seconds."""
        until, pause = time.monotonic() + PATIENCE, PAUSE
        away = False
        while True:
            try:
                done = self._called(call, until)
            except ShimError as error:
                if not error.passing:
                    self._answered(away)
                    raise
                if self._gave_up or self._store.hurried or time.monotonic() > until:
                    self._gave_up = True
                    raise
                if not away:
                    away = True
                    self._tell(f"{error}; it is tried again for {PATIENCE / 60:.0f} minutes")
                self._wait(pause)
                pause = min(2 * pause, LONGEST)
            except (Missing, Conflict):  # an answer, which is the caller's to judge
                self._answered(away)
                raise
            else:
                self._answered(away)
                return done

    def _called(self, call: Callable[[], T], until: float) -> T:
        token = WAITER.set(Waiter(self._ask, self._tell, until))
        try:
            return call()
        finally:
            WAITER.reset(token)

    def _answered(self, away: bool) -> None:
        self._gave_up = False
        if away:
            self._tell("the store answers again")

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._ask()
            time.sleep(min(left, TICK))

    def _ask(self) -> None:
        try:
            self._go_on()
        except ShimError:
            self._store.hurried = True  # a signal is heard once, and meant for what follows too
            raise

    def head(self, key: str) -> Object | None:
        return self.again(lambda: self._store.head(key))

    def read(self, key: str) -> tuple[bytes, Object] | None:
        return self.again(lambda: self._store.read(key))

    def pieces(self, key: str, etag: str | None = None, start: int = 0) -> Iterator[bytes]:
        """Stream once: what has been handed out cannot be taken back, see `get` and `digest`."""
        return self._store.pieces(key, etag, start)

    def get(self, key: str, target: Path, etag: str | None = None) -> str:
        return self.again(lambda: self._store.get(key, target, etag))

    def digest(self, key: str, etag: str | None = None) -> str:
        return self.again(lambda: self._store.digest(key, etag))

    def put(
        self, key: str, body: bytes | Path, expect: Expect = None, progress: Progress | None = None
    ) -> Object:
        return self.again(lambda: self._store.put(key, body, expect, progress))

    def extend(self, key: str, source: Path, done: int, size: int, etag: str | None) -> str:
        return self.again(lambda: self._store.extend(key, source, done, size, etag))

    def delete(self, key: str, expect: Expect = None) -> None:
        self.again(lambda: self._store.delete(key, expect))

    def list(self, prefix: str) -> Iterator[Object]:
        return iter(self.again(lambda: [*self._store.list(prefix)]))

    def folders(self, prefix: str) -> listed[str]:
        return self.again(lambda: self._store.folders(prefix))

    def now(self) -> datetime:
        return self.again(self._store.now)
