"""How long ago a record was written, by the store's own clock; and what a date in the future means.

The store's clock is one clock: S3 answers with Date and Last-Modified, a file system gives its time
to every file. So a record that is dated later than now was restored or touched, or the clock was
set back; its owner, if there is one, dates it again with the next heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from shim import clock
from shim.sinks import say
from shim.store import Object, Store

# Seconds. The Date of an answer and Last-Modified are whole seconds of different machines of one
# service; hosts under NTP differ by far less (RFC 5905: more than 0.128 s is corrected by a step).
SKEW = 60.0
BEATS = 1.25  # heartbeats in which a living owner must have written once
POLL = 0.5  # seconds between two looks


def age(store: Store, there: Object) -> float:
    """Return how many seconds ago an object was written; less than zero for the future."""
    return (store.now() - there.modified).total_seconds()


def silent(seconds: float, limit: float) -> bool:
    """Return whether an age is that of nobody, for who only looks."""
    return seconds >= limit or seconds < -SKEW


def stays(
    store: Store,
    key: str,
    there: Object | None,
    dated: Object,
    heartbeat: float,
    go_on: Callable[[], None] = lambda: None,
) -> bool:
    """Return whether a key is left as it is for more than a heartbeat; `dated` is in the future.

    A date in the future alone ends nobody: a machine's file times can be wrong while it works.
    `go_on` raises when the wait is to stop.
    """
    seconds = BEATS * heartbeat
    watched = "it" if key == dated.key else store.uri_of(key)
    say(
        f"{store.uri_of(dated.key)} is dated {clock.iso(dated.modified)}, in the future by the "
        f"store's clock; it counts as silent if nobody writes {watched} within {seconds:.0f} s"
    )
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        go_on()
        time.sleep(min(left, POLL))
        found = store.head(key)
        if (found and found.etag) != (there and there.etag):
            return False
    return True
