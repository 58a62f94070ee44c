"""The host that a state machine sends its commands to, in a folder: its files, `python`, `date`.

A definition's paths on it, such as /opt/…, lie below the folder; nothing else of it is changed.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.lab.fast_clock import FastClock

ITS_OWN = re.compile(r"(?<![\w./-])/(?=(?:opt|etc|home|var/log)/)")
PYTHON = '#!/bin/sh\nexec "${{SPOT_BACKTEST_PYTHON:-{}}}" "$@"\n'


class Host:
    """A host; `mark` is in the environment of all that is started with `env_file`."""

    def __init__(self, folder: Path, clock: FastClock) -> None:
        self.folder = folder
        self.mark = f"LAB_HOST={folder}"
        programs = {
            "python": PYTHON.format(sys.executable),
            "date": clock.date_command,
        }
        for name in ("bin", "tmp", "var/log"):
            (folder / name).mkdir(parents=True)
        for name, text in programs.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    @property
    def path(self) -> str:
        """The PATH of its SSM agent."""
        return f"{self.folder / 'bin'}:/usr/bin:/bin"

    def at(self, path: str) -> Path:
        """Return where a file of the host lies."""
        return self.folder / path.removeprefix("/")

    def rooted(self, text: str) -> str:
        """Return a text whose paths on the host lie below the folder."""
        return ITS_OWN.sub(lambda _: f"{self.folder}/", text)

    def env_file(self, path: str, values: Mapping[str, str]) -> None:
        """Write a file of variables that a shell sources, with the mark."""
        name, _, value = self.mark.partition("=")
        given = {**values, name: value, "TMPDIR": str(self.folder / "tmp")}
        lines = (f"{key}={shlex.quote(text)}\n" for key, text in given.items())
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text("".join(lines))
