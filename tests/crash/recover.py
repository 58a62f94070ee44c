"""What the system does by itself after a fault, and what a person does then.

Exit 75: the state machine sends the same command again. Anything else but 0: a person runs it again
by hand, with the same date and execution; after a crash from another host, for which nothing but
silence proves that the first one is dead. In the end the sweep is run for what is left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.crash import faults
from tests.crash.cases import Case
from tests.crash.world import World

TRIES = 14  # launches by the state machine and by hand; most wait for a dead heartbeat
PAUSE = 1.0  # seconds between two of them
ENDING = 30.0  # seconds until an instance that somebody ends is gone
BUSY = 75


@dataclass
class Story:
    """What happened, as those outside could see it."""

    launchers: list[dict[str, object]] = field(default_factory=list)
    left_alive: list[str] = field(default_factory=list)  # by a killed launcher, after its patience
    orphans: list[str] = field(default_factory=list)  # when all had ended
    swept: str = ""
    reached: bool = False
    seconds: float = 0.0


def run(world: World, case: Case, tries: int = TRIES) -> Story:
    """Run a case to its end."""
    story, began = Story(), time.monotonic()
    world.lab.trap = faults.trap(case, world)
    world.start(*faults.words(case), output=faults.output(case))
    # Not to the end of its output, which a supervisor has open for as long as it works.
    world.wait()
    if case.fault in ("kill", "kill-group") and world.lab.trap.sprung:
        story.left_alive = _alive(world)
    world.again()
    _ended(world, story)
    if world.lab.trap.failed:
        raise RuntimeError(f"the fault could not be made: {world.lab.trap.failed}")
    story.reached = bool(world.lab.trap.sprung)
    world.lab.heal()
    for role in ("launcher", "instance"):
        world.step_clock(role, 0)
    again = "another" if case.fault.endswith("crash") else "one"
    for number in range(tries):
        if world.runs[-1].code == 0:
            break
        time.sleep(PAUSE if number else 0)
        world.start(*faults.words(case), machine=again)
        _ended(world, story)
    story.orphans = _alive(world)
    if story.orphans:
        story.swept = world.reap()
        _alive(world)
    story.seconds = time.monotonic() - began
    return story


def _ended(world: World, story: Story) -> None:
    done = world.end(90)
    ended = {"code": done.code, "out": done.out, "err": done.err, "at": time.time()}
    story.launchers.append(ended)


def _alive(world: World) -> list[str]:
    """Return the instances that are still alive when they had time to end."""
    until = time.monotonic() + ENDING
    while world.instances() or _ending(world):
        if time.monotonic() > until:
            return [made.id for made in world.instances()]
        time.sleep(0.05)
    return []


def _ending(world: World) -> bool:
    return any(made.state == "shutting-down" for made in world.lab.instances.values())
