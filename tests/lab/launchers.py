"""Stubs in the place of the weekly pipeline's launchers: each says what it was told, and when."""

from __future__ import annotations

from pathlib import Path

from tests.lab.night import Night

# At both ends: the script, its arguments, the date and the execution it was told, its own time.
STUB = """#!/bin/bash
tell() {{
  local IFS=$'\\t'
  printf '%s\\n' "$*" >>'{file}'
}}
tell began "${{0##*/}}" "${{1-}}" "$RUN_DATE" "$EXECUTION_ID" "$(date -u +%FT%TZ)"
sleep 1
tell ended "${{0##*/}}" "${{1-}}" "$RUN_DATE" "$EXECUTION_ID" "$(date -u +%FT%TZ)"
"""
SHARED = {"backtester", "parity", "evaluator"}  # by one launcher, of which each skips the others
CROSSING = "predictor-training"  # the stage that midnight comes to
SECONDS = 0.5  # of the one that it runs for


class Launchers:
    """What the stubs have left so far; `times` are each stage's own, of its begin and its end."""

    def __init__(self, night: Night, folder: Path, names: list[str]) -> None:
        self._night, self._file = night, night.folder / "launchers"
        self._seen = 0
        self.times: dict[str, list[str]] = {}
        self.told: set[tuple[str, str]] = set()
        self._file.touch()
        for name in (*names, "backtest"):
            (folder / f"spot_{name}.sh").write_text(STUB.format(file=self._file))

    def look(self) -> str:
        """Tell of those that have begun or ended; return which run."""
        tell = self._night.timeline.tell
        lines = self._file.read_text().split("\n")[:-1]
        for line in lines[self._seen :]:
            what, script, argument, run_date, execution, own = line.split("\t")
            name = stage_of(script, argument)
            self.told.add((run_date, execution))
            self.times.setdefault(name, []).append(own)
            told = f": RUN_DATE is {run_date}, its own clock says {own}"
            tell(f"{name} {what}{told if what == 'began' else ''}")
            if (what, name) == ("began", CROSSING):
                self._night.cross(name, SECONDS)
        self._seen = len(lines)
        running = [name for name, times in self.times.items() if len(times) == 1]
        return f"{', '.join(running) or 'no launcher'} runs"

    def beside(self) -> list[set[str]]:
        """Return the pairs that ran side by side."""
        names = sorted(self.times)
        return [
            {one, other}
            for one in names
            for other in names
            if one < other
            and self.times[one][0] < self.times[other][-1]
            and self.times[other][0] < self.times[one][-1]
        ]


def stage_of(script: str, argument: str) -> str:
    """Return the stage that a launcher was started for."""
    skipped = argument.partition("--skip-stages=")[2]
    if skipped:
        (name,) = SHARED - set(skipped.split(","))
        return name
    return script.removeprefix("spot_").removesuffix(".sh")
