"""Runs cases: each in a world of its own, checked from outside, with its result as one line."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.crash import recover
from tests.crash.cases import Case
from tests.crash.checker import violated
from tests.crash.evidence import Evidence, gather
from tests.crash.lab import Gentle
from tests.crash.world import EXECUTION, OUTSIDE, World, world
from tests.stages import DATE

FEW = 2  # launches after the first where a bug may be beyond recovery


@dataclass(frozen=True)
class Result:
    """What a case showed; `violated` has invariants as text, for JSON, with their evidence."""

    number: int
    fault: str
    side: str
    reached: bool
    violated: dict[str, list[str]]
    launchers: list[int]
    instances: int
    seconds: float
    error: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every invariant held."""
        return not self.violated and not self.error


def run(case: Case, folder: Path, tool: Path, bug: Mapping[str, str] | None = None) -> Result:
    """Run a case and check it; its folder is removed if all is well."""
    tries = FEW if bug and case.fault != "crash" else recover.TRIES
    with world(folder, tool, bug, case.fault) as made:
        story = recover.run(made, case, tries)
        seen = _evidence(made, case, story)
    wrong = {str(number): why for number, why in violated(seen).items()}
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(
        number=case.number,
        fault=case.fault,
        side=str(case.side),
        reached=story.reached,
        violated=wrong,
        launchers=[int(str(done["code"])) for done in story.launchers],
        instances=len(seen.instances),
        seconds=round(story.seconds, 1),
        said=[f"{done['out']}{done['err']}" for done in story.launchers] if wrong else [],
    )


def _evidence(made: World, case: Case, story: recover.Story) -> Evidence:
    lab = made.lab
    clients = (lab.client("s3", OUTSIDE), lab.client("ec2", OUTSIDE))
    trap = lab.trap
    machines = {name: cast(Gentle, each.machine) for name, each in lab.instances.items()}
    seen = Evidence(
        fault=case.fault,
        side=str(case.side),
        reached=story.reached,
        sprung=trap.sprung if trap else 0.0,
        date=DATE,
        execution=EXECUTION,
        prefix=made.spot.uri.removeprefix(f"s3://{lab.bucket}/") + "/",
        launchers=story.launchers,
        left_alive=story.left_alive,
        orphans=story.orphans,
        orders={name: machine.calls() for name, machine in machines.items()},
        lives={name: (m.began, m.ended or float("inf")) for name, m in machines.items()},
    )
    return gather(seen, clients, lab.bucket, made.folder, list(lab.log.rows))
