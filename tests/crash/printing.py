"""Where a launcher prints: to who started it, or to what takes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def printed(output: str) -> Iterator[int]:
    """Return a pipe to be, a full device (full(4)), or a pipe that nobody reads."""
    if not output:
        yield subprocess.PIPE
        return
    if output == "full-output":
        to = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, to = os.pipe()
        os.close(reader)
    try:
        yield to
    finally:
        os.close(to)
