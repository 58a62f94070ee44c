"""The packages that the shim runs with, when some of them are not there.

`.venv` is ours (infrastructure/environment.sh makes it); marked as unfinished it is made again.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from shim.errors import PreflightError, ShimError

VENV = Path(__file__).resolve().parent.parent / ".venv"
UNFINISHED = "unfinished"  # the mark that infrastructure/environment.sh looks for


def lacking(error: Exception) -> ShimError:
    """Return what an import, or a file of a package, that failed means; marks a broken .venv."""
    name = getattr(error, "name", None) or ""
    if name.partition(".")[0] == "shim":
        return ShimError(f"internal error: {error}", "SHIM_DEBUG=1 shows where; please report it")
    prefix = Path(sys.prefix)
    if prefix.resolve() != VENV:
        return PreflightError(
            f"the interpreter {sys.executable} cannot import what it must ({error})",
            "install requirements/run.txt there, or start spot_backtest.sh, which makes its own",
        )
    with suppress(OSError):  # a folder that cannot be written; the line below is still true
        (VENV / UNFINISHED).touch()
    return PreflightError(
        f"{VENV} is damaged ({error})", "run the same command again, which makes it anew"
    )


def broken(error: OSError) -> bool:
    """Return whether an error is about a file of the packages."""
    return isinstance(error.filename, str) and Path(error.filename).is_relative_to(sys.prefix)
