"""Files for the tests: their content, their digest, and a disk without room for them."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


def sha256(body: bytes) -> str:
    """Return the SHA-256 as hex."""
    return hashlib.sha256(body).hexdigest()


def file(path: Path, size: int) -> Path:
    """Make a file in which no two blocks are the same."""
    with path.open("wb") as stream:
        for number in range(0, size, 16):
            stream.write(b"%015d\n" % number)
    return path


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every write of this process beyond that size fail, as on a full disk (setrlimit(2))."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
