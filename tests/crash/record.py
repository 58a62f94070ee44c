"""Records the boundaries of the clean run, for cases.py."""

from __future__ import annotations

from pathlib import Path

from tests.crash.cases import RECORDED
from tests.crash.world import world

RUNS = 3  # what is not in each of them depends on the moment, and is no boundary


def clean_run(folder: Path, tool: Path) -> list[str]:
    """Return the names of all that happens in a run without a fault, each once, in order."""
    with world(folder, tool) as made:
        made.start()
        done = made.end()
        if done.code:
            raise AssertionError(f"the clean run ended with {done.code}: {done.err}")
        return list(dict.fromkeys(made.lab.log.names))


def record(folder: Path, tool: Path) -> int:
    """Record the boundaries and return how many there are."""
    runs = [clean_run(folder / str(number), tool) for number in range(RUNS)]
    common = [name for name in runs[0] if all(name in other for other in runs)]
    RECORDED.write_text("".join(f"{name}\n" for name in common))
    return len(common)
