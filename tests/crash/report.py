"""The figures of a sweep: a table by fault and invariant, and docs/reliability.md around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.crash.bugs import BUGS
from tests.crash.cases import cases, recorded, sides
from tests.crash.checker import CHECKS
from tests.crash.pool import State
from tests.crash.sweep import Result
from tests.entry import ROOT

PAGE = ROOT / "docs" / "reliability.md"
FAULTS = {
    "kill": "SIGKILL to the entry",
    "kill-group": "SIGKILL to its process group, as Run Command does at a timeout and a cancel",
    "crash": "every process of the launcher at once; it is run again on another host",
    "hardware": "SIGKILL of the instance: its host fails, EC2 says `Server.InternalError`",
    "reclaim": "EC2 takes the instance back, untold; meanwhile the branch gets another commit",
    "notice": "the same, told three seconds ahead",
    "error": "the call is refused: `AccessDenied`, `UnauthorizedOperation`",
    "throttle": "the call is throttled: `SlowDown`, `RequestLimitExceeded`",
    "lost-answer": "the call has its effect, and the connection ends without an answer",
    "outage": "the store answers nothing for a minute",
    "full-disk": "no process of the host can write to a file any more",
    "day-ahead": "the host's wall clock is set a day ahead",
    "day-behind": "the host's wall clock is set back by a day",
    "no-credentials": "the metadata service answers 500, once, to who asks for the role's keys",
    "dry-run crash": "a crash during `--dry-run`",
    "exit-37": "the stage ends with 37",
    "exit-75": "the stage ends with 75",
    "exit-137": "the stage ends with 137",
    "nothing": "no fault",
    "dry-run nothing": "`--dry-run` without a fault",
    "store-refused": "for a minute nobody listens at the store's port",
    "store-unresolvable": "for a minute the store's name has no address",
    "store-silent": "for two minutes the store takes connections and answers nothing",
    "store-reset": "for a minute each connection to the store breaks in the middle",
    "store-429": "for a minute the store answers 429",
    "store-503": "for a minute the store answers 503",
    "full-output exit-37": "the stage ends with 37, and the launcher's output is full",
    "no-reader exit-37": "the stage ends with 37, and nobody reads the launcher's output",
}


def table(results: Sequence[Result]) -> str:
    """Return cases, and violations of each invariant, by fault, as a table in Markdown."""
    numbers = [str(number) for number in CHECKS]
    rows = [["fault", "cases", "held", *numbers, "not reached"]]
    for fault in [name for name in FAULTS if any(r.fault == name for r in results)]:
        own = [r for r in results if r.fault == fault]
        rows.append(_row(fault, own, numbers))
    rows.append(_row("all", results, numbers))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _row(name: str, own: Sequence[Result], numbers: Sequence[str]) -> list[str]:
    held = [str(sum(n not in r.violated for r in own if not r.error)) for n in numbers]
    away = sum(not r.reached for r in own)
    return [name, str(len(own)), str(sum(r.holds for r in own)), *held, str(away)]


def caught(bugs: Mapping[int, Result]) -> int:
    """Return how many seeded bugs the checker has named by the invariant that they break."""
    return sum(str(BUGS[n - 1].breaks) in found.violated for n, found in bugs.items())


def write(state: State) -> Path:
    """Write the page from a state. Raises ValueError if the sweep is not complete."""
    left = len(cases()) - len(state.results)
    if left:
        raise ValueError(f"{left} cases have not run yet; go on with `make crash-all`")
    if len(state.bugs) < len(BUGS):
        raise ValueError("the seeded bugs have not all run yet; `python -m tests.crash bugs`")
    results = [state.results[case.number] for case in cases()]
    names = recorded()
    text = (Path(__file__).with_name("reliability.md.in")).read_text()
    filled = text.format(
        cases=len(results),
        held=sum(r.holds for r in results),
        minutes=round(state.seconds / 60),
        boundaries=len(names),
        sides=len(sides(names)),
        launches=sum(len(r.launchers) for r in results),
        instances=sum(r.instances for r in results),
        table=table(results),
        faults="\n".join(f"| `{name}` | {text} |" for name, text in FAULTS.items()),
        checks="\n".join(f"| {n} | {_says(n)} |" for n in CHECKS),
        caught=caught(state.bugs),
        bugs="\n".join(_bug(n, state.bugs[n]) for n in sorted(state.bugs)),
        seeded=len(BUGS),
    )
    PAGE.write_text(filled)
    return PAGE


def _says(number: int) -> str:
    return (CHECKS[number].__doc__ or "").partition(": ")[2].strip()


def _bug(number: int, found: Result) -> str:
    bug = BUGS[number - 1]
    sees = ", ".join(found.violated) or "none"
    return f"| {bug.name} | `{bug.fault}` {bug.side} | {bug.breaks} | {sees} |"
