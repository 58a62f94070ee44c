"""What happens in a lab, as lines with the lab's own time in front, for a person who watches."""

from __future__ import annotations

import sys
from datetime import datetime
from queue import Empty, SimpleQueue

from tests.lab.fast_clock import FastClock

AGAIN = "\x1b[2K\r"  # on a terminal: the line once more, from its begin


class Timeline:
    """Lines that wait to be printed; `tell` may be called from any thread, `show` from one."""

    def __init__(self, clock: FastClock) -> None:
        self._clock = clock
        self._told: SimpleQueue[tuple[datetime, str]] = SimpleQueue()
        self._terminal = sys.stdout.isatty()

    def tell(self, text: str, moment: datetime | None = None) -> None:
        """Add a line, of now or of another moment."""
        self._told.put((moment or self._clock.now(), text))

    def show(self, doing: str = "") -> None:
        """Print what waits, the oldest first; on a terminal also what goes on, until the next."""
        lines = []
        while True:
            try:
                lines.append(self._told.get_nowait())
            except Empty:
                break
        again = AGAIN if self._terminal else ""
        for moment, text in sorted(lines, key=lambda line: line[0]):
            print(f"{again}{moment:%a %H:%M:%S}  {text}", flush=True)
        if self._terminal:
            print(f"{AGAIN}{self._clock.now():%a %H:%M:%S}  {doing} …", end="", flush=True)

    def end(self) -> None:
        """Print what waits still; nothing goes on any more."""
        self.show()
        if self._terminal:
            print(AGAIN, end="", flush=True)
