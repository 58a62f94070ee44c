"""The faults: what each does to a world at the moment that a case names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.crash.cases import STORE, UNPRINTED, Case
from tests.crash.lab import Trap
from tests.crash.world import MINUTE, World
from tests.lab.outage import FAULTS

DAY = 86400.0
NOTICE = 3.0  # seconds; the guest keeps one of them, see tests.launches.PACE
KILLS = ("kill", "kill-group", "crash")
REFUSED = {"s3": "AccessDenied", "ec2": "UnauthorizedOperation"}
BUSY = {"s3": "SlowDown", "ec2": "RequestLimitExceeded"}
MINUTES = {"silent": 2}  # of an outage: more than all attempts of botocore, see world.py
EC2 = ("Fleet", "Instances", "Template", "Price", "Subnets", "InstanceTypes")


def words(case: Case) -> list[str]:
    """Return what is added to the launcher's command line."""
    return ["--dry-run"] if case.fault.startswith("dry-run") else []


def output(case: Case) -> str:
    """Return what becomes of what the first launcher prints: one of UNPRINTED, or nothing."""
    first = case.fault.partition(" ")[0]
    return first if first in UNPRINTED else ""


def trap(case: Case, world: World) -> Trap:
    """Return what is to happen in a world."""
    side = case.side
    fault = case.fault.removeprefix("dry-run ").removeprefix(f"{output(case)} ")
    made = Trap(side.name, side.after, _action(fault, side.role, world))
    called = side.name.split()[1] if side.is_call else ""
    service = "ec2" if any(part in called for part in EC2) else "s3"
    ends = (fault == "crash" and side.role == "launcher") or (
        fault in ("hardware", "reclaim") and side.role == "instance"
    )
    if side.is_call and (ends or fault == "lost-answer" or (fault == "outage" and service == "s3")):
        made.what = "drop-after" if side.after else "drop-before"
    if side.is_call and fault.startswith(STORE):
        made.what = FAULTS.get(fault.removeprefix(STORE), "drop-before")
    if fault in ("error", "throttle"):
        made.what = (REFUSED if fault == "error" else BUSY)[service]
    return made


def _action(fault: str, role: str, world: World) -> Callable[[], None]:
    host = "launcher" if role == "launcher" else "instance"
    if fault.startswith("exit-"):
        return partial(_exit, world, fault.removeprefix("exit-"))
    if fault.startswith(STORE):
        form = fault.removeprefix(STORE)
        return partial(world.lab.outage, form, MINUTES.get(form, 1) * MINUTE)
    known: dict[str, Callable[[], None]] = {
        "kill": partial(_held, world, world.kill),
        "kill-group": partial(_held, world, partial(world.kill, group=True)),
        "crash": partial(_held, world, world.crash),
        "hardware": world.break_hardware,
        "reclaim": partial(_moved, world, None),
        "notice": partial(_moved, world, NOTICE),
        "outage": partial(_outage, world),
        "no-credentials": world.refuse_credentials,
        "full-disk": partial(world.fill_disk, host),
        "day-ahead": partial(world.step_clock, host, DAY),
        "day-behind": partial(world.step_clock, host, -DAY),
    }
    return known.get(fault, lambda: None)


def _held(world: World, kill: Callable[[], None]) -> None:
    """Keep the stage at work, so that only a launcher's end can end its instance."""
    world.hold()
    kill()


def _moved(world: World, notice: float | None) -> None:
    """Take the instance back, and let the branch go on, as it does in the hours of a run."""
    world.move_tip()
    world.take_back(notice)


def _outage(world: World) -> None:
    world.lab.fault("s3", "*", f"outage:{MINUTE}")


def _exit(world: World, code: str) -> None:
    (world.folder / "exit").write_text(code)
