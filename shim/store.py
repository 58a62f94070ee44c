"""The store: one small interface over a directory or S3, and the rules that both keep.

A key is a relative path with `/`. A put is never partial, and can be conditional on the etag that
the key has or on its absence; everything that must happen once stands on that.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from builtins import list as listed  # Store.list shadows it
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

from shim import address
from shim.address import HIDDEN as HIDDEN  # the stores' own names and
from shim.address import key_problem as key_problem  # rules of keys, for both of them
from shim.errors import RecordError, UsageError, shown

PIECE = 1 << 20  # bytes in memory at a time

Progress = Callable[[int], None]


class Absent(Enum):
    """The type of ABSENT."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT  # an expectation: the key must not exist
Expect = str | Absent | None  # the etag it must have, or ABSENT, or anything (None)


@dataclass(frozen=True)
class Object:
    """One object: `size` in bytes, `etag` opaque, `modified` by the store's clock in UTC.

    `sha256` is that of the bytes as they were sent, in hex; only a put knows it.
    """

    key: str
    size: int
    etag: str
    modified: datetime
    sha256: str | None = field(default=None, compare=False)


class Missing(Exception):  # noqa: N818  a state of the store that callers handle, not a failure
    """The key is not there."""


class Conflict(Exception):  # noqa: N818  a state of the store that callers handle, not a failure
    """The key is not as expected: somebody else wrote it."""


@dataclass(frozen=True)
class Waiter:
    """Who waits for a store: `go_on` raises once it is to stop, `tell` takes a line.

    `until` is the end of its patience, in seconds of the monotonic clock.
    """

    go_on: Callable[[], None]
    tell: Callable[[str], None]
    until: float


# Of the thread that called: heartbeats and shippers, which share its store, have none.
WAITER: ContextVar[Waiter | None] = ContextVar("waiter", default=None)


def go_on() -> None:
    """Raise if this thread waits for a store and was told to stop."""
    if waiter := WAITER.get():
        token = WAITER.set(None)  # what it asks may be a store's call too
        try:
            waiter.go_on()
        finally:
            WAITER.reset(token)


class Store(ABC):
    """Objects under one URI, which is an absolute directory path or `s3://bucket[/prefix]`.

    Every method raises PreflightError (69) when the store cannot be reached, AccessError (77) for
    credentials and permissions, RecordError (73) for a write that failed for another reason.
    """

    uri: str
    etag_tells_content = False  # whether two contents never have one etag
    hurried = False  # whether whoever uses it was told to end: wait no longer than must be
    endpoint = ""  # where requests go, as a URL without a slash at its end; none for a directory

    @abstractmethod
    def head(self, key: str) -> Object | None:
        """Return what the key holds, or None."""

    @abstractmethod
    def read(self, key: str) -> tuple[bytes, Object] | None:
        """Return a small object whole, with what it was at that moment, or None."""

    @abstractmethod
    def pieces(self, key: str, etag: str | None = None, start: int = 0) -> Iterator[bytes]:
        """Stream an object from byte `start` on; one that is not longer has none.

        Raises Missing; Conflict if it has not, or loses, the given etag.
        """

    @abstractmethod
    def put(
        self, key: str, body: bytes | Path, expect: Expect = None, progress: Progress | None = None
    ) -> Object:
        """Write an object whole or not at all; `progress` gets the bytes of each piece sent.

        A file is streamed; what is returned has the SHA-256 of what was sent. Raises Conflict when
        the key is not as expected.
        """

    @abstractmethod
    def extend(self, key: str, source: Path, done: int, size: int, etag: str | None) -> str:
        """Make an object that holds source[:done] equal to source[:size] and return its etag.

        The first call gives `done` 0 and no etag: the key must not exist. A call that failed may be
        made again with the same arguments. Raises Conflict when somebody else wrote the key.
        """

    @abstractmethod
    def delete(self, key: str, expect: Expect = None) -> None:
        """Delete a key; an absent one is fine. Raises Conflict when it is not as expected."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Object]:
        """Return the objects whose key starts with the prefix, sorted by key as UTF-8 bytes."""

    @abstractmethod
    def folders(self, prefix: str) -> listed[str]:
        """Return the sorted names of the folders with objects directly below a folder or ''."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the store's own clock in UTC; S3 tells whole seconds."""

    def uri_of(self, key: str) -> str:
        """Return the full address of a key or of a prefix."""
        return f"{self.uri}/{key}"

    def get(self, key: str, target: Path, etag: str | None = None) -> str:
        """Stream an object to a file and return its SHA-256 as hex; see `pieces` for the errors.

        A target that could not be written whole is removed.
        """
        digest = hashlib.sha256()
        pieces = self.pieces(key, etag)
        piece = next(pieces, b"")  # before the target is touched: the key may be missing
        try:
            with target.open("wb") as stream:
                while piece:
                    digest.update(piece)
                    stream.write(piece)
                    piece = next(pieces, b"")
        except BaseException as error:
            with suppress(OSError):
                if target.is_file():  # a device stays
                    target.unlink()
            if not isinstance(error, OSError):
                raise
            raise RecordError(
                f"cannot write {target} ({error.strerror}), a copy of {self.uri_of(key)}",
                "free some space there or point TMPDIR elsewhere",
            ) from error
        return digest.hexdigest()

    def digest(self, key: str, etag: str | None = None) -> str:
        """Return the SHA-256 of an object as hex, by streaming; see `pieces` for the errors."""
        digest = hashlib.sha256()
        for piece in self.pieces(key, etag):
            digest.update(piece)
        return digest.hexdigest()


def open_store(uri: str) -> Store:
    """Return the store at a directory path or at `s3://bucket[/prefix]`; nothing is contacted.

    Raises UsageError for an address that cannot be one.
    """
    found = address.parse(uri)
    if found.bucket:
        from shim.s3 import S3Store

        return S3Store(found.bucket, found.path)
    from shim.directory import DirectoryStore

    return DirectoryStore(Path(os.path.abspath(found.path)))  # noqa: PTH100  resolve() follows links


def checked(key: str) -> str:
    """Return the key. Raises UsageError for a text that cannot be one."""
    if problem := key_problem(key):
        raise UsageError(f"the key {shown(key)} {problem}", "rename it")
    return key


def cut(
    body: bytes | Path, start: int = 0, end: int | None = None, progress: Progress | None = None
) -> Iterator[bytes]:
    """Stream body[start:end] in pieces and report each one once it has been taken.

    Raises RecordError when a file cannot be read or is shorter than `end`.
    """
    if isinstance(body, bytes):
        yield body[start:end]
        if progress:
            progress(len(body[start:end]))
        return
    try:
        with body.open("rb") as stream:
            stream.seek(start)
            left = end - start if end is not None else None
            while piece := stream.read(PIECE if left is None else min(PIECE, left)):
                yield piece
                left = None if left is None else left - len(piece)
                if progress:
                    progress(len(piece))
    except OSError as error:
        raise RecordError(
            f"cannot read {body} ({error.strerror})", "see its permissions"
        ) from error
    if left:
        raise RecordError(f"{body} has {left} bytes fewer than {end}", "was it cut while in use?")
