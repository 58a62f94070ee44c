"""Folders of a store in a directory: made as the umask says, and never reached through a link.

A folder is opened name by name from the root, each relative to the one above and without following
links (openat(2), O_NOFOLLOW), and what is done in it is done through its descriptor. So nothing can
be put in the way between a check and a write, and nothing has to be remembered. The root itself may
be a link: whoever named it chose that.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from shim.disk import away, denied, writing
from shim.errors import PreflightError, RecordError
from shim.store import HIDDEN

# What the umask then takes from; so nothing is ever wider.
FILE, FOLDER = 0o644, 0o755
TEMPORARY = f"{HIDDEN}tmp-"
ABANDONED = 24 * 3600 * 10**9  # nanoseconds without a write: its writer was killed
OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened(root: Path, names: Sequence[str], make: bool = True) -> Iterator[int]:
    """Lend the descriptor of a folder below the root.

    It is made if it is not there, or FileNotFoundError is raised. Raises RecordError for a link on
    the way.
    """
    handle, path = _root(root, make), root
    try:
        for name in names:
            path = path / name
            below = _below(path, name, handle, make)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _root(root: Path, make: bool) -> int:
    try:
        with suppress(FileNotFoundError):
            return os.open(root, OPEN)
        for path in (*reversed(root.parents), root) if make else ():
            if not path.is_dir():
                with suppress(FileExistsError):
                    path.mkdir(FOLDER)
        return os.open(root, OPEN)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not make:
            raise
        what = f"the store {root} cannot be created ({error.strerror})"
        hint = "name another directory with --store"
        raise denied(root, error) or PreflightError(what, hint, passing=away(error)) from error


def _below(path: Path, name: str, above: int, make: bool) -> int:
    flags = OPEN | os.O_NOFOLLOW
    try:
        try:
            return os.open(name, flags, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, FOLDER, dir_fd=above)
        return os.open(name, flags, dir_fd=above)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not make:
            raise
        if isinstance(error, NotADirectoryError):  # what O_DIRECTORY says of a link too
            _refuse_link(path, name, above)
        with writing(path):
            raise


def _refuse_link(path: Path, name: str, above: int) -> None:
    try:
        target = os.readlink(name, dir_fd=above)
    except OSError:  # it is no link: EINVAL in readlink(2); or it is gone meanwhile
        return
    raise RecordError(
        f"{path} is a symbolic link to {target!a}, and nothing is written through one",
        "move it away, or name the folder that it leads to with --store",
    )


def temporary(folder: int) -> tuple[int, str]:
    """Make a file in a folder and return its descriptor and its name."""
    name = f"{TEMPORARY}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(name, flags, FILE, dir_fd=folder), name


def sweep(folder: int, now: int) -> None:
    """Remove what writers that were killed long ago left in a folder."""
    with os.scandir(folder) as entries:
        left = [entry for entry in entries if entry.name.startswith(TEMPORARY)]
    for entry in left:
        with suppress(OSError):  # its writer has just finished, or is another user: no harm
            if now - entry.stat(follow_symlinks=False).st_mtime_ns > ABANDONED:
                os.unlink(entry.name, dir_fd=folder)
