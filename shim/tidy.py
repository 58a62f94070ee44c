"""The temporary files of an attempt: made, and removed in the end.

Removing them never decides how the attempt ended: what cannot be removed is said.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from shim.errors import RecordError
from shim.sinks import say

ENTRY = "spot_backtest."  # how the entry's temporary folder is named, in run_stages.sh


def make_folder(stage: str) -> Path:
    """Make a folder for the files of an attempt. Raises RecordError."""
    try:
        return Path(tempfile.mkdtemp(prefix=f"spot_backtest-{stage}-"))
    except OSError as error:
        raise RecordError(
            f"there is no folder for the files of {stage} ({error.strerror})",
            "point TMPDIR elsewhere",
        ) from error


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


def remove_folder(path: Path) -> None:
    """Remove a folder of ours as far as that is possible; a link is not followed."""
    shutil.rmtree(path, ignore_errors=True)


def remove_entrys_folder(report: Path | None) -> None:
    """Remove the temporary folder of an entry that was killed and cannot do it: the report's."""
    if report is None or not report.parent.name.startswith(ENTRY):
        return
    with suppress(OSError):
        if stat.S_ISDIR(report.parent.lstat().st_mode):
            remove_folder(report.parent)
