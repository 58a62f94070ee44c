"""One lock that a store's writers share: asked for with patience, and its holder is named.

flock(2) is never waited for in the kernel, where Python goes on waiting after a signal (PEP 475);
it is asked for again and again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shim.disk import writing
from shim.errors import LockedError, PreflightError, shown
from shim.store import WAITER, go_on

SOON = 1.0  # seconds in which the next one has let go; then a person is told, and may end it
PATIENCE = 5.0  # seconds for who does not wait with a Waiter: a heartbeat, a log, a start
FIRST, LONGEST = 0.002, 0.1  # seconds between two tries
LOCKS = Path("/proc/locks")
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def locked(path: Path, folder: int, hurried: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of a file in an opened folder, which is made if it is not there.

    Who may write in the folder may use it. A Waiter says how long it is waited for. Raises
    LockedError, soon if `hurried`, and PreflightError where there are no locks.
    """
    with writing(path):
        handle = _open(path.name, folder)
    try:
        with writing(path):
            _take(handle, path, hurried)
        yield
    finally:
        os.close(handle)


def _open(name: str, folder: int) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        handle = os.open(name, flags | os.O_CREAT, 0o600, dir_fd=folder)
    if os.fstat(handle).st_uid == os.geteuid():  # another may have been faster
        others = os.fstat(folder).st_mode & 0o022
        os.fchmod(handle, 0o600 | others | others << 1)
    return handle


def _take(handle: int, path: Path, hurried: Callable[[], bool]) -> None:
    began, pause, told = time.monotonic(), FIRST, False
    while not _free(handle, path):
        now, waiter = time.monotonic(), WAITER.get()
        if now > began + SOON:
            until = waiter.until if waiter else began + PATIENCE
            if now > until or hurried():
                what = f"{path} is locked by {holder(handle)}"
                raise LockedError(what, "wait for its end, or end it, and try again")
            if waiter and not told:
                waiter.tell(f"waits for {path}, which is locked by {holder(handle)}")
                told = True
            go_on()
        time.sleep(random.uniform(pause / 2, pause))  # noqa: S311  a pause
        pause = min(2 * pause, LONGEST)


def _free(handle: int, path: Path) -> bool:
    """Take the lock if nobody has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise PreflightError(
            f"{path} cannot be locked ({error.strerror}): its file system has no locks",
            "mount it with them, or use another --store",
        ) from error
    return True


def holder(handle: int) -> str:
    """Return who holds the lock of a file, as far as this machine knows: proc_locks(5)."""
    found = os.fstat(handle)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        rows = [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:  # not Linux, or not for us
        rows = []
    for row in rows:
        # A row of one that waits has an arrow before its kind.
        if len(row) > 5 and row[1] in ("FLOCK", "OFDLCK") and row[5] == file and int(row[4]) > 0:
            return f"process {row[4]}{_program(row[4])}"
    return "another process, perhaps on another machine"


def _program(pid: str) -> str:
    """Return the program that a process runs, and its script: no arguments, which may be secret."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has just ended, or is hidden
        return ""
    script = [word for word in words[1:2] if word and not word.startswith("-")]
    return f" ({shown(' '.join([words[0], *script]))})" if words[0] else ""
