"""ARTIFACTS_DIR, the private folder of one attempt: what a stage left in it, whatever that is.

A stage may leave anything there, links and pipes too, and may replace the folder itself. Nothing
here follows a link out of the folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shim.errors import ContractError, RecordError, shown
from shim.store import PIECE

FOLDER = "artifacts"  # its name in the attempt's temporary folder
NAMED = 10  # names in a message; the others are counted
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Identity:
    """Which directory it is, whatever its name leads to later."""

    device: int
    inode: int

    @classmethod
    def of(cls, folder: Path) -> Identity:
        """Return the identity of what has this name. Raises OSError."""
        found = folder.lstat()
        return cls(found.st_dev, found.st_ino)


class Spare:
    """A second hold on a log, which lies where its stage can delete it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._handle: int | None = None

    def hold(self) -> None:
        """Take hold of the log, which is made if it is not there."""
        with suppress(OSError):  # whoever writes it says what is wrong
            self._handle = os.open(self._log, os.O_RDONLY | os.O_CREAT, 0o600)

    def restore(self) -> None:
        """Write the log again where it was, if it has no name any more."""
        if self._handle is None:
            return
        with suppress(OSError), os.fdopen(self._handle, "rb") as stream:  # then it is lost
            if os.fstat(self._handle).st_nlink == 0:
                self._log.parent.mkdir(mode=0o700, exist_ok=True)
                with self._log.open("xb") as target:
                    shutil.copyfileobj(stream, target)
        self._handle = None


def temporary(stage: str) -> Path:
    """Make the folder for one attempt's files and log. Raises RecordError."""
    try:
        return Path(tempfile.mkdtemp(prefix=f"spot_backtest-{stage}-"))
    except OSError as error:
        raise RecordError(
            f"there is no folder for the files of {stage} ({error.strerror})",
            "point TMPDIR elsewhere",
        ) from error


def check(stage: str, folder: Path, made: Identity, around: Path) -> None:
    """Raise ContractError unless `folder` is a directory in the directory that was `made` for it.

    A stage may empty it, or make it anew; what a link in its place leads to is not its own.
    """
    try:
        mode = folder.lstat().st_mode
        there = Identity.of(around) == made
    except OSError as error:
        raise ContractError(
            f"{stage} left no ARTIFACTS_DIR ({folder}: {error.strerror})", "it must stay"
        ) from error
    if not (there and stat.S_ISDIR(mode)):
        kind = "a link" if stat.S_ISLNK(mode) else "another file" if there else "another folder"
        raise ContractError(
            f"{stage} left {kind} in the place of ARTIFACTS_DIR ({folder})",
            "write into that folder, and let it stay what it is",
        )


def survey(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return by its relative name each file that can be read, and why each other entry cannot be.

    A link to a file in the folder is that file; hard links are files.
    """
    inside = Path(os.path.realpath(folder))
    files: dict[str, Path] = {}
    wrong: dict[str, str] = {}

    def unreadable(error: OSError) -> None:
        wrong[os.path.relpath(error.filename, folder)] = cannot_be_read(error)

    for where, folders, names in os.walk(folder, onerror=unreadable):
        for name in (*folders, *names):
            path = Path(where, name)
            relative = path.relative_to(folder).as_posix()
            try:
                mode = path.lstat().st_mode
            except OSError as error:
                wrong[relative] = cannot_be_read(error)
                continue
            if stat.S_ISREG(mode):
                files[relative] = path
            elif stat.S_ISLNK(mode):
                target, why = _target(path, inside)
                if target:
                    files[relative] = target
                else:
                    wrong[relative] = why
            elif not stat.S_ISDIR(mode):
                wrong[relative] = f"is {KINDS.get(stat.S_IFMT(mode), 'no plain file')}"
    return dict(sorted(files.items())), wrong


def hashed(file: Path) -> tuple[os.stat_result, int, str]:
    """Return a file's state as it was opened, the bytes read and their SHA-256. Raises OSError.

    Neither a link nor a pipe that has taken the file's place is followed or waited for.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "no plain file", str(file))
        digest, size = hashlib.sha256(), 0
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return about, size, digest.hexdigest()


def cannot_be_read(error: OSError) -> str:
    """Return why an entry is of no use, for after its name."""
    return f"cannot be read ({error.strerror})"


def listed(texts: Iterable[str]) -> str:
    """Return texts for a message: some of them, and how many more there are."""
    every = list(texts)
    more = [f"{len(every) - NAMED} more"] if len(every) > NAMED else []
    return ", ".join([*every[:NAMED], *more])


def _target(link: Path, inside: Path) -> tuple[Path | None, str]:
    """Return the file that a link leads to, or why it is none that can be published."""
    try:
        real = Path(os.path.realpath(link, strict=True))
        mode = real.lstat().st_mode
    except OSError as error:
        return None, f"is a link that leads nowhere ({error.strerror})"
    if not real.is_relative_to(inside):
        return None, f"is a link to {shown(str(real))}, outside of ARTIFACTS_DIR"
    if stat.S_ISDIR(mode):
        return None, "is a link to a folder"
    return (real, "") if stat.S_ISREG(mode) else (None, "is a link to no plain file")
