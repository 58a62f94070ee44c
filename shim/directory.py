"""A store in a local directory: atomic renames and one lock give it the guarantees of S3.

Conditions are checked and the rename is made under flock(2) on one file in the root, so every
writer of the store must be on this machine or on a file system whose locks reach the others.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from builtins import list as listed  # Store.list shadows it
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shim import folders
from shim.disk import NOWHERE, reading, writing
from shim.folders import TEMPORARY
from shim.locking import locked
from shim.store import (
    ABSENT,
    HIDDEN,
    PIECE,
    Conflict,
    Expect,
    Missing,
    Object,
    Progress,
    Store,
    checked,
    cut,
    key_problem,
)

LOCK = f"{HIDDEN}lock"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DirectoryStore(Store):
    """Objects as files below `root`, which the first write creates.

    Modes are as the umask says, never wider than 0644 and 0755. Reading follows symbolic links, for
    inputs that lie elsewhere; listing shows none; writing replaces one that has the object's name,
    and refuses one that stands for a folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)
        self._puts: Counter[str] = Counter()  # by folder

    def head(self, key: str) -> Object | None:
        path = self._path(key)
        try:
            with reading(path):
                return _object(key, path.stat())
        except NOWHERE:
            return None

    def read(self, key: str) -> tuple[bytes, Object] | None:
        while found := self.head(key):
            with suppress(Missing, Conflict):  # replaced between the two: look again
                return b"".join(self.pieces(key, found.etag)), found
        return None

    def pieces(self, key: str, etag: str | None = None, start: int = 0) -> Iterator[bytes]:
        path = self._path(key)
        if self.head(key) is None:
            raise Missing(key)
        try:
            with reading(path), path.open("rb") as stream:
                found = _object(key, os.fstat(stream.fileno()))
                if found is None or (etag is not None and found.etag != etag):
                    raise Conflict(key)
                stream.seek(start)
                # What is appended meanwhile is not part of what was asked for.
                left = max(0, found.size - start)
                while left and (piece := stream.read(min(PIECE, left))):
                    yield piece
                    left -= len(piece)
                if left:
                    raise Conflict(key)
        except NOWHERE as error:
            raise Missing(key) from error

    def put(
        self, key: str, body: bytes | Path, expect: Expect = None, progress: Progress | None = None
    ) -> Object:
        path = self._path(key)
        digest = hashlib.sha256()
        with folders.opened(self.root, key.split("/")[:-1]) as folder, writing(path):
            handle, name = folders.temporary(folder)
            try:
                for piece in cut(body, progress=progress):
                    _write(handle, piece)
                    digest.update(piece)
                os.fsync(handle)
                _stamp(handle)
                with self._locked():
                    self._check(key, folder, expect)
                    os.replace(name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                    os.fsync(folder)
                written = os.fstat(handle)
            finally:
                os.close(handle)
                with suppress(FileNotFoundError):  # it has its own name now
                    os.unlink(name, dir_fd=folder)
            self._sweep(key, folder, written.st_mtime_ns)
        return Object(key, written.st_size, _etag(written), _moment(written), digest.hexdigest())

    def extend(self, key: str, source: Path, done: int, size: int, etag: str | None) -> str:
        path = self._path(key)
        with (
            folders.opened(self.root, key.split("/")[:-1]) as folder,
            self._locked(),
            writing(path),
        ):
            self._check(key, folder, etag or ABSENT)
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(path.name, flags, folders.FILE, dir_fd=folder)
            try:
                before = os.fstat(handle)
                if before.st_size != done:
                    raise Conflict(key)
                try:
                    os.lseek(handle, done, os.SEEK_SET)
                    for piece in cut(source, done, size):
                        _write(handle, piece)
                    os.fsync(handle)
                except BaseException:
                    # Back to what it was, etag included, so that the same call can be made again.
                    os.ftruncate(handle, done)
                    os.utime(handle, ns=(before.st_atime_ns, before.st_mtime_ns))
                    if etag is None:
                        os.unlink(path.name, dir_fd=folder)
                    raise
                os.fsync(folder)
                return _etag(os.fstat(handle))
            finally:
                os.close(handle)

    def delete(self, key: str, expect: Expect = None) -> None:
        path = self._path(key)
        if self.head(key) is None:
            return
        with (
            suppress(FileNotFoundError),  # it, or its folder, is gone
            folders.opened(self.root, key.split("/")[:-1], make=False) as folder,
            self._locked(),
            writing(path),
        ):
            if _at(folder, key):
                self._check(key, folder, expect)
                os.unlink(path.name, dir_fd=folder)
                os.fsync(folder)

    def list(self, prefix: str) -> Iterator[Object]:
        folder = prefix.rpartition("/")[0]
        base = self._path(folder) if folder else self.root
        yield from self._walk(base, f"{folder}/" if folder else "", prefix)

    def folders(self, prefix: str) -> listed[str]:
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        base = self._path(prefix[:-1]) if prefix else self.root
        names = [entry.name for entry in _entries(base) if entry.is_dir(follow_symlinks=False)]
        return sorted(name for name in names if any(self.list(f"{prefix}{name}/")))

    def now(self) -> datetime:
        # The time that the file system gives to a file: a server's, when the directory is remote.
        with writing(self.root):
            folder = self.root if self.root.is_dir() else Path(tempfile.gettempdir())
            with tempfile.TemporaryFile(prefix=TEMPORARY, dir=folder) as probe:
                return _moment(os.fstat(probe.fileno()))

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def _sweep(self, key: str, folder: int, now: int) -> None:
        """Sweep a folder at its first put, its second, fourth, eighth: the cost of each is shared.

        A sweep reads the whole folder, so one at every put would cost the square of their number.
        """
        name = key.rpartition("/")[0]
        self._puts[name] += 1
        if self._puts[name].bit_count() == 1:
            folders.sweep(folder, now)

    def _check(self, key: str, folder: int, expect: Expect) -> None:
        if expect is None:
            return
        found = _at(folder, key)
        if (found.etag if found else ABSENT) != expect:
            raise Conflict(key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (
            folders.opened(self.root, ()) as root,
            locked(self.root / LOCK, root, lambda: self.hurried),
        ):
            yield

    def _walk(self, folder: Path, at: str, prefix: str) -> Iterator[Object]:
        for entry in _entries(folder):
            key = f"{at}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                    yield from self._walk(Path(entry.path), f"{key}/", prefix)
            elif key.startswith(prefix):
                try:
                    found = _object(key, entry.stat(follow_symlinks=False))
                except NOWHERE:  # deleted since the folder was read
                    continue
                if found:
                    yield found


def _entries(folder: Path) -> listed[os.DirEntry[str]]:
    """Return what can be a key, in the order of keys: a folder sorts with its `/`."""
    try:
        with reading(folder), os.scandir(folder) as entries:
            found = [entry for entry in entries if key_problem(entry.name) is None]
    except NOWHERE:
        return []
    return sorted(
        found,
        key=lambda e: f"{e.name}/".encode() if e.is_dir(follow_symlinks=False) else e.name.encode(),
    )


def _at(folder: int, key: str) -> Object | None:
    """Return what an opened folder holds under the last name of a key."""
    try:
        return _object(key, os.stat(key.rpartition("/")[2], dir_fd=folder))
    except NOWHERE:
        return None


def _object(key: str, found: os.stat_result) -> Object | None:
    if not stat.S_ISREG(found.st_mode):
        return None
    return Object(key, found.st_size, _etag(found), _moment(found))


def _etag(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"


def _moment(found: os.stat_result) -> datetime:
    return EPOCH + timedelta(microseconds=found.st_mtime_ns // 1000)


def _write(handle: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(handle, view) :]


def _stamp(handle: int) -> None:
    """Move a file's time by less than a clock tick, at random.

    Two writes within one tick of the kernel's clock could give back an inode number, and with it an
    etag that somebody still holds.
    """
    found = os.fstat(handle)
    moment = found.st_mtime_ns + secrets.randbelow(100_000)
    os.utime(handle, ns=(moment, moment))
