"""Runs many cases at once, each worker a process of its own, with results kept as they come.

The state file has one line of JSON for each result. Its first line says of which code they are: an
interrupted sweep goes on where it was, and changed code begins anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.crash.bugs import BUGS, Bug
from tests.crash.cases import RECORDED, cases
from tests.crash.sweep import Result, run
from tests.entry import ROOT
from tests.lab.init import PR_SET_PDEATHSIG, PRCTL
from tests.repositories import copy_of_the_tool

CODE = (
    "shim/**/*.py",
    "infrastructure/*.sh",
    "spot_backtest.sh",
    "tests/crash/[!_]*.py",
    "tests/lab/*.py",
    *(f"tests/{name}.py" for name in ("entry", "launches", "repositories", "stages")),
)
# What decides no case: seeded bugs are known by their own text, the rest shows and starts.
APART = {ROOT / "tests" / "crash" / f"{name}.py" for name in ("bugs", "pool", "record", "report")}
JOBS = 4  # on two cores: half of a case is waiting


def version() -> str:
    """Return what tells this code, the cases and the lab from any other."""
    digest = hashlib.sha256(RECORDED.read_bytes())
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            if path not in APART:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def version_of(bug: Bug) -> str:
    """Return what tells a seeded bug from any other, and from what it was."""
    return hashlib.sha256(repr(bug).encode()).hexdigest()[:16]


class State:
    """Results on disk, by the number of their case; those of seeded bugs by their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[int, Result] = {}
        self.bugs: dict[int, Result] = {}
        self.seconds = 0.0  # of sweeping, by the wall clock
        if path.exists() and not self._read():
            path.unlink()
        if not path.exists():
            self._append({"code": version()})

    def add(self, kind: str, number: int, result: Result) -> None:
        """Keep a result."""
        (self.results if kind == "case" else self.bugs)[number] = result
        key = number if kind == "case" else version_of(BUGS[number - 1])
        self._append({kind: key, "result": dataclasses.asdict(result)})

    def spent(self, seconds: float) -> None:
        """Count the time of a sweep."""
        self.seconds += seconds
        self._append({"seconds": seconds})

    def _append(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def _read(self) -> bool:
        """Take what is there; return whether it is of this code."""
        rows = []
        for line in self.path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:  # it was interrupted in the middle of the last line
                break
        if not rows or rows[0].get("code") != version():
            return False
        bugs = {version_of(bug): number for number, bug in enumerate(BUGS, start=1)}
        for row in rows[1:]:
            self.seconds += row.get("seconds", 0.0)
            if "case" in row:
                self.results[row["case"]] = Result(**row["result"])
            elif row.get("bug") in bugs:
                self.bugs[bugs[row["bug"]]] = Result(**row["result"])
        return True


def sweep(
    kind: str,
    numbers: Iterable[int],
    state: State,
    jobs: int,
    tell: Callable[[int, int, Result], None],
) -> None:
    """Run what the state does not have: cases, or seeded bugs, by their numbers from 1."""
    known = state.results if kind == "case" else state.bugs
    todo = [number for number in numbers if number not in known]
    began, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="spot_backtest-crash-") as folder:
        tool = copy_of_the_tool(Path(folder) / "tool")
        try:
            for number, result in _results(kind, todo, Path(folder), tool, jobs):
                state.add(kind, number, result)
                done += 1
                tell(done, len(todo), result)
        finally:
            state.spent(time.monotonic() - began)


def _results(
    kind: str, todo: list[int], folder: Path, tool: Path, jobs: int
) -> Iterator[tuple[int, Result]]:
    """Yield results as they come; a case that ends in an error of the sweep is one that fails."""
    context = multiprocessing.get_context("spawn")  # moto keeps one AWS for each process
    with ProcessPoolExecutor(jobs, context, _tidy, (os.getpid(),)) as pool:
        waiting = {
            pool.submit(one, kind, number, folder / f"{kind}-{number}", tool): number
            for number in todo
        }
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _tidy(parent: int) -> None:
    """Let a worker end in order, with all that it started, when it is told to or left alone.

    It says nothing: what goes wrong is in its results, and servers complain of clients that died.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not end the tidying
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asked tells the workers
    PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(143)


def one(kind: str, number: int, folder: Path, tool: Path) -> Result:
    """Run one case, or one seeded bug on its case."""
    bug = BUGS[number - 1] if kind == "bug" else None
    case = bug.case() if bug else cases()[number - 1]
    try:
        return run(case, folder, tool, bug.change if bug else None)
    except SystemExit:  # all is tidied up; the pool would take it for a result and go on
        os._exit(143)
    except Exception as error:  # it is reported as the case's
        return Result(number, case.fault, str(case.side), False, {}, [], 0, 0.0, repr(error))


def spread(size: int) -> list[int]:
    """Return numbers in an order that is spread over faults and boundaries, some of each fault."""
    groups: dict[str, list[int]] = {}
    for case in cases():
        groups.setdefault(case.fault, []).append(case.number)
    chosen: list[int] = []
    turn = 0
    while len(chosen) < min(size, sum(map(len, groups.values()))):
        for shift, group in enumerate(groups.values()):
            # By the golden ratio: whatever the size, the numbers lie far apart.
            place = int(((turn + 1 + shift / 7) * 0.6180339887) % 1 * len(group))
            left = [n for n in group[place:] + group[:place] if n not in chosen]
            if left and len(chosen) < size and turn < len(group):
                chosen.append(left[0])
        turn += 1
    return chosen
