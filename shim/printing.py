"""How the commands print: a result on stdout, a line for a person on stderr, a status for SSM."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from shim.errors import RecordError

PROGRAM = "spot_backtest"
# SSM reads 137 as a timeout and 194 as "reboot the host and run the script again":
# docs.aws.amazon.com/systems-manager/latest/userguide/send-commands-reboot.html
SSM_READS = (137, 194)


def print_result(text: str, end: str = "\n") -> None:
    """Print a result. Raises RecordError when stdout cannot take it.

    In UTF-8 whatever the locale: a name that came in as bytes goes out as the same bytes.
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write((text + end).encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RecordError(
            f"cannot write to stdout ({error.strerror})", "see where it goes"
        ) from error


def show(text: str) -> None:
    """Print what a command shows that has a status of its own, which no stdout can change."""
    try:
        print_result(text)
    except (RecordError, BrokenPipeError) as error:
        say(f"not all of it could be printed ({error})")


def show_bytes(data: bytes) -> None:
    """Print what a followed command printed; a stdout that cannot take it changes nothing."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def say(text: str) -> None:
    """Print one line for a person on stderr; what cannot be printed is escaped."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    with suppress(OSError):  # a stderr that is full or gone changes no exit code
        print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)


def for_ssm(code: int) -> int:
    """Return the status that SSM will not misread; the true one is printed."""
    if code in SSM_READS and os.environ.get("SSM_COMMAND_ID"):
        say(f"the exit code is {code}; it leaves as 1, because SSM gives {code} a meaning")
        return 1
    return code
