"""The crash sweep's command line: python -m tests.crash list|case N|all|sample|bugs|report|record.

A state file keeps what has run, so an interrupted sweep goes on. The exit code is 1 if a case does
not hold, or a seeded bug is not caught.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.crash import pool, report
from tests.crash.bugs import BUGS
from tests.crash.cases import cases
from tests.crash.record import record
from tests.crash.sweep import Result
from tests.entry import ROOT
from tests.repositories import copy_of_the_tool

WIDTH = 40  # of the progress bar
STATE = Path(tempfile.gettempdir()) / "spot_backtest-crash.jsonl"
SAMPLE = 40


def main() -> int:
    """Run a command and return the exit code."""
    given = _arguments()
    if given.command == "list":
        print("\n".join(str(case) for case in cases()))
        return 0
    if given.command == "record":
        return _record()
    if given.command == "case":
        return _case(given.number)
    state = pool.State(given.state)
    if given.command in ("all", "sample"):
        size = given.size if given.command == "sample" else len(cases())
        numbers = pool.spread(size)  # what is wrong with a kind of case is seen early
        pool.sweep("case", numbers, state, given.jobs, _told)
        found = [state.results[n] for n in sorted(numbers)]
        print(report.table(found))
        _failures(found)
        if not all(r.holds for r in found):
            return 1
    if given.command in ("all", "bugs"):
        pool.sweep("bug", range(1, len(BUGS) + 1), state, given.jobs, _told)
        if not _bugs(state):
            return 1
    if given.command in ("all", "report"):
        print(f"written: {report.write(state).relative_to(ROOT)}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--jobs", type=int, default=pool.JOBS)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "all", "bugs", "report", "record"):
        commands.add_parser(name)
    commands.add_parser("case").add_argument("number", type=int)
    commands.add_parser("sample").add_argument("--size", type=int, default=SAMPLE)
    return parser.parse_args()


def _record() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tool = copy_of_the_tool(Path(folder) / "tool")
        print(f"{record(Path(folder) / 'runs', tool)} boundaries, {len(cases())} cases")
    return 0


def _case(number: int) -> int:
    """Run one case and print all that it showed; its files stay if it does not hold."""
    if not 1 <= number <= len(cases()):
        sys.exit(f"there is no case {number}; there are {len(cases())}")
    folder = Path(tempfile.mkdtemp(prefix="spot_backtest-crash-"))
    print(cases()[number - 1], flush=True)
    found = pool.one("case", number, folder / "case", copy_of_the_tool(folder / "tool"))
    for code, said in zip(found.launchers, found.said, strict=False):
        print(f"--- a launcher ended with {code}, and had said:\n{said}")
    _failures([found])
    print(f"{_word(found)}: exit codes {found.launchers}, {found.instances} instances, "
          f"{found.seconds:.1f} s")  # fmt: skip
    if found.holds:
        shutil.rmtree(folder)
        return 0
    print(f"all of it: {folder}")
    return 1


def _told(done: int, of: int, found: Result) -> None:
    """Show progress: a bar on a terminal, lines in a log."""
    word = f"{found.number} {found.fault} {found.side}: {_word(found)}"
    if not sys.stderr.isatty():
        print(f"{done}/{of} {word}", file=sys.stderr, flush=True)
        return
    bar = "#" * (WIDTH * done // of)
    print(f"\r[{bar:<{WIDTH}}] {done}/{of} {word[:60]:<60}", end="", file=sys.stderr, flush=True)
    if done == of:
        print(file=sys.stderr)


def _word(found: Result) -> str:
    if found.error:
        return f"the sweep failed ({found.error})"
    if found.violated:
        return f"violates {', '.join(found.violated)}"
    return "holds" if found.reached else "holds, not reached"


def _failures(found: list[Result]) -> None:
    for case in found:
        if not case.holds:
            print(f"case {case.number} {case.fault} {case.side}: {_word(case)}")
            for number, why in case.violated.items():
                print("".join(f"  {number}: {text}\n" for text in why[:5]), end="")


def _bugs(state: pool.State) -> bool:
    for number, found in sorted(state.bugs.items()):
        bug = BUGS[number - 1]
        if str(bug.breaks) not in found.violated:
            seen = ", ".join(found.violated) or found.error or "nothing"
            print(f"not caught: {bug.name} (breaks {bug.breaks}; seen: {seen})")
    caught = report.caught(state.bugs)
    print(f"seeded bugs caught: {caught} of {len(BUGS)}")
    return caught == len(BUGS)


if __name__ == "__main__":
    sys.exit(main())
