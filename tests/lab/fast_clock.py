"""A clock that runs fast, one for a whole lab: shim, store, Step Functions and `date` read it.

A file says what time it had when the machine had been up for so long, and how fast it runs since.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

UPTIME = Path("/proc/uptime")  # proc(5); a shell reads it too
# For any Python, also where nothing of the project is: in one line, as it may replace a call.
EXPRESSION = (
    "(lambda given, up, dt: dt.datetime.fromtimestamp(given[0] + (up - given[1]) * given[2], "
    "dt.timezone.utc))([float(x) for x in open({file!r}).read().split()], "
    "float(open('/proc/uptime').read().split()[0]), __import__('datetime'))"
)
# date(1) of a host that has this clock; `-d` would be asked for another time than now.
DATE = """#!/bin/sh
now=$(cat '{file}' /proc/uptime | tr '\\n' ' ' | awk '{{ printf "%.3f", $1 + ($4 - $2) * $3 }}')
exec /bin/date -d "@$now" "$@"
"""


class FastClock:
    """The clock as its owner has it: everybody else reads the file."""

    def __init__(self, file: Path, now: datetime, rate: float) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._given = (now.timestamp(), _uptime(), rate)
        self._write()

    @property
    def expression(self) -> str:
        """A Python expression for the time, with a zone."""
        return EXPRESSION.format(file=str(self.file))

    @property
    def date_command(self) -> str:
        """A program that is `date`."""
        return DATE.format(file=self.file)

    def now(self) -> datetime:
        """Return the time in UTC."""
        began, up, rate = self._given
        return datetime.fromtimestamp(began + (_uptime() - up) * rate, UTC)

    def run(self, rate: float) -> None:
        """Run so many times as fast as a real clock from now on; it never jumps."""
        with self._lock:
            self._given = (self.now().timestamp(), _uptime(), rate)
            self._write()

    def reach(self, moment: datetime, seconds: float) -> float:
        """Run so fast that a moment comes in so many real seconds; return the rate."""
        rate = max(1.0, (moment - self.now()).total_seconds() / seconds)
        self.run(rate)
        return rate

    def _write(self) -> None:
        part = self.file.with_suffix(".part")
        part.write_text(" ".join(map(repr, self._given)) + "\n")
        part.replace(self.file)  # a reader sees the one or the other


def _uptime() -> float:
    return float(UPTIME.read_text().split()[0])
