"""A clock that tests set, read by the shim in place of the wall clock.

Its time stands in a file, so that one clock can be that of many processes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.lab.patches import patches

ROOT = Path(__file__).resolve().parent.parent.parent


class Clock:
    """A time in a file, in UTC."""

    def __init__(self, folder: Path, now: datetime) -> None:
        folder.mkdir(parents=True)
        self._folder, self.file = folder, folder / "now"
        self.set(now)

    @property
    def expression(self) -> str:
        """A Python expression for the time, with a zone, in one line, wherever it stands."""
        return f"__import__('datetime').datetime.fromisoformat(open({str(self.file)!r}).read())"

    @property
    def change(self) -> dict[str, str]:
        """The shim's clock by this one, as `patches` takes it."""
        return {"shim.clock": f"utc_now = lambda: {self.expression}"}

    @property
    def env(self) -> dict[str, str]:
        """The environment in which the shim has this clock, and so do stages that import it."""
        return {**patches(self._folder / "site", self.change), "PYTHONPATH": str(ROOT)}

    def set(self, now: datetime) -> None:
        """Move the clock; a reader sees the one time or the other."""
        part = self.file.with_suffix(".part")
        part.write_text(now.astimezone(UTC).isoformat())
        part.rename(self.file)
