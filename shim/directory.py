"""A store in a local directory: atomic renames and one lock give it the guarantees of S3.

Conditions are checked and the rename is made under flock(2) on one file in the root, so every
writer of the store must be on this machine or on a file system whose locks reach the others.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import tempfile
from builtins import list as listed  # Store.list shadows it
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shim.errors import AccessError, PreflightError, RecordError, ShimError
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
TEMPORARY = f"{HIDDEN}tmp-"
ABANDONED = 24 * 3600 * 10**9  # nanoseconds without a write: its writer was killed
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOWHERE = (FileNotFoundError, NotADirectoryError)
IN_THE_WAY = "a name cannot be an object and a folder: remove what is there or rename"
HINTS = dict.fromkeys((errno.EEXIST, errno.EISDIR, errno.ENOTDIR), IN_THE_WAY)
HINTS |= dict.fromkeys((errno.EDQUOT, errno.ENOSPC), "free some space")


class DirectoryStore(Store):
    """Objects as files below `root`, which the first write creates; files have mode 0600.

    Reading follows symbolic links, for inputs that lie elsewhere; listing shows none, and writing
    replaces one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def head(self, key: str) -> Object | None:
        path = self._path(key)
        try:
            with _reading(path):
                return _object(key, path.stat())
        except NOWHERE:
            return None

    def read(self, key: str) -> tuple[bytes, Object] | None:
        while found := self.small(self.head(key)):
            with suppress(Missing, Conflict):  # replaced between the two: look again
                return b"".join(self.pieces(key, found.etag)), found
        return None

    def pieces(self, key: str, etag: str | None = None, start: int = 0) -> Iterator[bytes]:
        path = self._path(key)
        if self.head(key) is None:
            raise Missing(key)
        try:
            with _reading(path), path.open("rb") as stream:
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
        self._make(path.parent)
        with _writing(path):
            handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
            try:
                for piece in cut(body, progress=progress):
                    _write(handle, piece)
                os.fsync(handle)
                _stamp(handle)
                with self._locked():
                    self._check(key, expect)
                    Path(name).replace(path)
                    _sync(path.parent)
                written = os.fstat(handle)
            finally:
                os.close(handle)
                Path(name).unlink(missing_ok=True)
            _sweep(path.parent, written.st_mtime_ns)
        return Object(key, written.st_size, _etag(written), _moment(written))

    def extend(self, key: str, source: Path, done: int, size: int, etag: str | None) -> str:
        path = self._path(key)
        self._make(path.parent)
        with _writing(path), self._locked():
            self._check(key, etag or ABSENT)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
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
                        path.unlink(missing_ok=True)
                    raise
                _sync(path.parent)
                return _etag(os.fstat(handle))
            finally:
                os.close(handle)

    def delete(self, key: str, expect: Expect = None) -> None:
        path = self._path(key)
        if self.head(key) is None:
            return
        with _writing(path), self._locked():
            if self.head(key) is not None:
                self._check(key, expect)
                path.unlink()
                _sync(path.parent)

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
        with _writing(self.root):
            folder = self.root if self.root.is_dir() else Path(tempfile.gettempdir())
            with tempfile.TemporaryFile(prefix=TEMPORARY, dir=folder) as probe:
                return _moment(os.fstat(probe.fileno()))

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def _make(self, folder: Path) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"the store {self.root} cannot be created ({error.strerror})"
            hint = "name another directory with --store"
            raise _denied(self.root, error) or PreflightError(what, hint) from error
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def _check(self, key: str, expect: Expect) -> None:
        if expect is None:
            return
        found = self.head(key)
        if (found.etag if found else ABSENT) != expect:
            raise Conflict(key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

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
        with _reading(folder), os.scandir(folder) as entries:
            found = [entry for entry in entries if key_problem(entry.name) is None]
    except NOWHERE:
        return []
    return sorted(
        found,
        key=lambda e: f"{e.name}/".encode() if e.is_dir(follow_symlinks=False) else e.name.encode(),
    )


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


def _sync(folder: Path) -> None:
    """Make a rename or an unlink in a folder survive a crash: fsync(2), NOTES."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder: Path, now: int) -> None:
    """Remove what writers that were killed long ago left in a folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):  # its writer has just finished, or is another user: no harm
            if now - path.stat().st_mtime_ns > ABANDONED:
                path.unlink()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except NOWHERE:
        raise
    except OSError as error:
        what = f"cannot read {path} ({error.strerror})"
        raise _denied(path, error) or PreflightError(what, "is its disk there?") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot write {path} ({error.strerror})"
        raise _denied(path, error) or RecordError(what, HINTS.get(error.errno or 0, "")) from error


def _denied(path: Path, error: OSError) -> ShimError | None:
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return None
    return AccessError(
        f"{path}: {error.strerror}", "see its owner and mode, or use another --store"
    )
