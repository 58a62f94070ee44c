"""Tidying up after an attempt, which never decides how it ended: what cannot be removed is said."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from shim.sinks import say

ENTRY = "spot_backtest."  # how the entry's temporary folder is named, in run_stages.sh


def is_file(path: Path) -> bool:
    """Return whether there is a file; what cannot be looked at counts as none, and never raises."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def remove_file(path: Path) -> None:
    """Remove a file of ours, or say why it stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        say(f"{path} stays here ({error.strerror}); it is not needed any more")


def remove(path: Path) -> None:
    """Remove what has a name, if that can be done; what a link leads to stays."""
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
    shutil.rmtree(path, ignore_errors=True)
    if path.is_dir():  # a folder in it that the stage has made read-only
        open_up(path)
        shutil.rmtree(path, ignore_errors=True)


def open_up(path: Path) -> None:
    """Let us look into, and change, a folder and those below it, which a stage may have shut."""
    folders = [path]
    while folders:
        folder = folders.pop()
        with suppress(OSError):
            mode = folder.lstat().st_mode
            if not stat.S_ISDIR(mode):
                continue
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                folder.chmod(mode | stat.S_IRWXU)
            with os.scandir(folder) as found:
                folders += [Path(e.path) for e in found if e.is_dir(follow_symlinks=False)]


def remove_entrys_folder(report: Path | None) -> None:
    """Remove the temporary folder of an entry that was killed and cannot do it: the report's."""
    if report is None or not report.parent.name.startswith(ENTRY):
        return
    with suppress(OSError):
        if stat.S_ISDIR(report.parent.lstat().st_mode):
            remove(report.parent)
