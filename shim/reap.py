"""Instances that nobody needs any more, found by their tags and ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from shim import launch, recorded
from shim.ec2 import Ec2, Instance
from shim.errors import BusyError, PreflightError, ShimError
from shim.launch import Record
from shim.pipeline import RESERVED
from shim.plan import PREFIX, Plan
from shim.sinks import say
from shim.store import Store, open_store

ENDING = 300.0  # seconds for which a launch waits until an earlier instance is gone


@dataclass(frozen=True)
class Finding:
    """An instance of ours, and why it is to end; an empty reason keeps it."""

    instance: Instance
    reason: str
    note: str = ""  # why it is kept


def record_at(uri: str) -> Record:
    """Return the launch record at an address. Raises PreflightError for one that cannot be."""
    store, found, rest = uri.rpartition(f"/{PREFIX}")
    if not found or not uri.startswith("s3://"):
        raise PreflightError(
            f"{uri!r} is not the address of a launch record",
            "it looks like s3://bucket/backtest/2026-05-17/_stages/_launches/….json",
        )
    return Record(open_store(store), f"{PREFIX}{rest}")


def findings(ec2: Ec2, now: datetime) -> Iterator[Finding]:
    """Return every living instance of ours with what is to become of it."""
    for instance in ec2.launched():
        try:
            overdue = datetime.fromisoformat(instance.deadline) < now
        except (ValueError, TypeError):
            overdue = False
        if overdue:
            yield Finding(instance, f"its deadline {instance.deadline} is over")
            continue
        note = f"at work until {instance.deadline} at the latest"
        try:
            reason = record_at(instance.launch).abandoned()
        except ShimError as error:
            reason, note = "", f"left until {instance.deadline}: {error}"
        yield Finding(instance, reason, note)


def finish(
    ec2: Ec2, found: Finding, tell: Callable[[str], None], wait: Callable[[float], None]
) -> None:
    """End an instance and close what it left open. Raises BusyError if it does not end."""
    end(ec2, [found.instance.id], tell, wait, found.reason)
    with suppress(ShimError):  # its record may be gone; the instance is what costs
        outcome = "timed out" if "deadline" in found.reason else "lost"
        _close(record_at(found.instance.launch), outcome, found.reason)


@dataclass(frozen=True)
class Left:
    """An open launch that nobody looks after: its record and what that says."""

    record: Record
    values: recorded.Launch


def left(store: Store, ec2: Ec2, plan: Plan) -> tuple[Left, ...]:
    """Return what earlier launches of the planned stages at this date have left.

    Raises BusyError if one of them is at work, UnreadableError if that cannot be known.
    """
    left_over = []
    for found in launch.open_launches(store, plan.run_prefix):
        there, values = found.record, found.values
        if values is None:
            _pass_over(found, ec2)
            continue
        stages = values.get("stages") or []
        if not {stage.name for stage in plan.planned}.intersection(stages):
            continue
        if found.lives or (values.get("detached") and ec2.launched(there.uri)):
            raise BusyError(
                f"{' '.join(stages)} at {plan.run_date} is run by execution "
                f"{values.get('execution_id')}, launched by {values.get('host')} "
                f"{values.get('opened')} on {values.get('instance') or 'an instance to come'}",
                f"follow it: ./spot_backtest.sh follow {there.uri}",
            )
        left_over.append(Left(there, values))
    return tuple(left_over)


def _pass_over(found: launch.Found, ec2: Ec2) -> None:
    """Go on without a record that cannot be read: nobody writes it and no instance is its.

    Raises its UnreadableError otherwise.
    """
    if found.problem is None:
        return
    if found.lives or ec2.launched(found.record.uri):
        raise found.problem
    say(f"{found.problem.message}; nobody writes it and no instance is its, so it is passed over")


def clear(
    ec2: Ec2,
    found: Iterable[Left],
    tell: Callable[[str], None],
    wait: Callable[[float], None],
) -> None:
    """End what earlier launches have left.

    Raises BusyError if an instance does not end, for it could write beside its successor.
    """
    for there in found:
        values = there.values
        marked = ec2.launched(there.record.uri)
        instances = {instance.id for instance in marked} | {values.get("instance")}
        end(ec2, sorted(filter(None, instances)), tell, wait, f"left over from {values['launch']}")
        _close(there.record, "lost", "its launcher is gone")


def _close(record: Record, outcome: str, why: str) -> None:
    """Close a launch and the attempts of its instance, which is gone."""
    record.close(outcome, None, error=why)
    prefix = record.key.partition(f"{RESERVED}/")[0]
    launch.close_attempts(record.store, prefix, record.load()["launch"], why)


def end(
    ec2: Ec2,
    instances: list[str],
    tell: Callable[[str], None],
    wait: Callable[[float], None],
    why: str,
) -> None:
    """Terminate instances and wait until they are gone. Raises BusyError if one is not."""
    for instance in instances:
        if ec2.instance(instance).state in ("terminated", "missing"):
            continue
        tell(f"terminating {instance}, {why}")
        ec2.terminate([instance])
        if not ec2.wait_until_gone(instance, ENDING, wait):
            raise BusyError(f"{instance} does not end, {why}", "try again in a few minutes")
