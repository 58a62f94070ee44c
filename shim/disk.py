"""What a file system refuses, and what passes: errors of the system turned into ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shim.errors import AccessError, PreflightError, RecordError, ShimError

NOWHERE = (FileNotFoundError, NotADirectoryError)
IN_THE_WAY = "a name cannot be an object and a folder: remove what is there or rename"
REMOTE = "see its disk, or the server that it is mounted from"
HINTS = dict.fromkeys((errno.EEXIST, errno.EISDIR, errno.ENOTDIR), IN_THE_WAY)
HINTS |= dict.fromkeys((errno.EDQUOT, errno.ENOSPC), "free some space")
# A file server did not answer: a soft mount of NFS gives EIO or ETIMEDOUT for that (nfs(5)), and a
# server that came back ESTALE; file systems in user space give what their connection does.
AWAY = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOLINK, errno.ENOTCONN),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN, errno.ECOMM),
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system refuses into PreflightError; that nothing is there passes as it is."""
    try:
        yield
    except NOWHERE:
        raise
    except OSError as error:
        what = f"cannot read {path} ({error.strerror})"
        hint = REMOTE if away(error) else "is its disk there?"
        raise denied(path, error) or PreflightError(what, hint, passing=away(error)) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses into RecordError."""
    try:
        yield
    except OSError as error:
        what = f"cannot write {path} ({error.strerror})"
        hint = REMOTE if away(error) else HINTS.get(error.errno or 0, "")
        raise denied(path, error) or RecordError(what, hint, passing=away(error)) from error


def away(error: OSError) -> bool:
    """Return whether a file server did not answer."""
    return error.errno in AWAY


def denied(path: Path, error: OSError) -> ShimError | None:
    """Return our error if it is a matter of permissions."""
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return None
    return AccessError(
        f"{path}: {error.strerror}", "see its owner and mode, or use another --store"
    )
