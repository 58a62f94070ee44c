"""Every case: a boundary of the recorded clean run, and one fault at it, by a number that stays.

The boundaries are recorded in boundaries.txt, the order of the faults is that of the table: so a
number means the same case until either is changed on purpose.

The rule of the product. A call that changes nothing has one side, any other has two, before and
after its effect; a repeated call (a poll, a heartbeat) counts once for each kind of object. Faults
of a launcher happen at what launchers do and while a stage works, faults of an instance from its
launch to its end, errors at calls, a full disk and a stepped clock where something is written,
started or ended.

After the product come the outages of the store in all of their forms, at four moments, and
launchers that cannot print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.crash import lab
from tests.lab.outage import FORMS

RECORDED = Path(__file__).with_name("boundaries.txt")
LAUNCH = "launcher CreateFleet"  # from its effect on there is an instance
END = "instance/bootstrap-leave"  # from here on there is none for long
STORE = "store-"  # before the form of an outage
# When the store goes away: as a launcher asks it the first time, as a stage claims its date, at a
# stage's first line, and when a stage is done and nothing of it is published.
AWAY = (
    "launcher PutObject probe",
    "instance GetObject claim",
    "stage/a-tick-1",
    "stage/a-end",
)
UNPRINTED = ("full-output", "no-reader")


@dataclass(frozen=True)
class Side:
    """A moment: before a call or mark, or after its effect."""

    name: str
    after: bool
    place: int  # in the clean run

    @property
    def role(self) -> str:
        """Who is there: launcher, instance or stage."""
        return self.name.replace(" ", "/").partition("/")[0]

    @property
    def is_call(self) -> bool:
        """Whether a call can go wrong here."""
        return " " in self.name

    @property
    def changes(self) -> bool:
        """Whether it is a call that changes something."""
        return lab.effective(self.name)

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before' if self.is_call else 'at'} {self.name}"


@dataclass(frozen=True)
class Case:
    """One fault at one side."""

    number: int
    fault: str
    side: Side

    def __str__(self) -> str:
        return f"{self.number} {self.fault} {self.side}"


def recorded() -> list[str]:
    """Return the names of the clean run, in its order."""
    return RECORDED.read_text().splitlines()


def sides(names: list[str]) -> list[Side]:
    """Return every moment of a clean run."""
    found = []
    for place, name in enumerate(names):
        found.append(Side(name, False, place))
        if lab.effective(name):
            found.append(Side(name, True, place))
    return found


def cases(names: list[str] | None = None) -> list[Case]:
    """Return every case, numbered from 1."""
    names = recorded() if names is None else names
    return [
        Case(number, fault, side)
        for number, (fault, side) in enumerate(_product(sides(names), names), start=1)
    ]


def _product(moments: list[Side], names: list[str]) -> Iterator[tuple[str, Side]]:
    launch, last = names.index(LAUNCH), names.index(END)

    def alive(side: Side) -> bool:
        return (launch < side.place <= last) or (side.name == LAUNCH and side.after)

    def launchers(side: Side) -> bool:
        return side.role in ("launcher", "stage")

    def quiet(side: Side) -> bool:
        """Where something is started or ended, or about to be written."""
        return not side.after and (not side.is_call or side.changes)

    table: dict[str, Callable[[Side], bool]] = {
        "kill": lambda s: launchers(s) and not s.is_call,
        "kill-group": launchers,
        "crash": lambda s: launchers(s) or (s.after and s.changes),
        "hardware": lambda s: alive(s) and not s.after,
        "reclaim": alive,
        "notice": lambda s: alive(s) and s.role != "launcher" and quiet(s),
        "error": lambda s: s.is_call and not s.after,
        "throttle": lambda s: s.is_call and not s.after and (s.changes or s.role == "launcher"),
        "lost-answer": lambda s: s.after,
        "outage": lambda s: not s.after and (s.is_call or s.role == "stage"),
        "full-disk": quiet,
        "day-ahead": lambda s: not s.is_call,
        "day-behind": lambda s: not s.is_call,
        "no-credentials": lambda s: s.role == "instance" and not s.is_call,
    }
    for fault, fits in table.items():
        yield from ((fault, side) for side in moments if fits(side))
    dry = names.index("launcher CreateFleet dry")
    begin = Side("launcher/spot-front-start", False, 0)
    for side in moments:  # a dry run comes as far as the last call before the launch
        if side.role == "launcher" and side.place <= dry:
            yield "dry-run crash", side
    end = next(side for side in moments if side.name == "stage/a-end")
    yield from ((f"exit-{code}", end) for code in (37, 75, 137))
    yield "nothing", begin
    yield "dry-run nothing", begin
    for name in AWAY:
        moment = next(side for side in moments if side.name == name)
        yield from ((f"{STORE}{form}", moment) for form in FORMS)
    yield from ((f"{output} exit-37", end) for output in UNPRINTED)
