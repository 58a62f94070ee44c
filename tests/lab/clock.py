"""A clock that tests set, read by the shim in place of the wall clock.

Its time stands in a file. `sitecustomize` (docs.python.org/3/library/site.html) is imported by
every Python that has the folder on PYTHONPATH, and puts it in the place of `shim.clock.utc_now`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

SITE = """
import sys
from datetime import datetime
from pathlib import Path

sys.path.insert(0, {root!r})
import shim.clock

shim.clock.utc_now = lambda: datetime.fromisoformat(Path({file!r}).read_text().strip())
"""


class Clock:
    """A time in a file, in UTC."""

    def __init__(self, folder: Path, now: datetime) -> None:
        folder.mkdir(parents=True)
        self.file = folder / "now"
        self.set(now)
        site = SITE.format(root=str(ROOT), file=str(self.file))
        (folder / "sitecustomize.py").write_text(site)
        self.env = {"PYTHONPATH": str(folder)}

    def set(self, now: datetime) -> None:
        """Move the clock."""
        self.file.write_text(now.astimezone(UTC).isoformat())
