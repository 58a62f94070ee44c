"""The launches of one plan: another instance where EC2 took one back, with the same date and code.

Whatever ends the launcher ends its instance: the work is done in a session of its own, which no
kill of the caller reaches (shim.detach); what even that leaves, the next launch or `reap` ends.
"""

from __future__ import annotations

import dataclasses
import select
import shlex
import signal
import sys
import time
from contextlib import suppress

from shim import clock, closing, commit, launch, liveness, reap, record, spot_preflight
from shim.bundle import Bundle
from shim.closing import Row
from shim.detach import FRONT_DIED, Lifeline, detached
from shim.ec2 import REGISTERED, Ec2
from shim.errors import PipelineError, ShimError, printable
from shim.fleet import Pool
from shim.instance import Context, OneLaunch
from shim.launch import Record
from shim.plan import Plan
from shim.preflight import code as code_of
from shim.sinks import say
from shim.spot_table import Spot
from shim.store import open_store


class StoppedError(ShimError):
    """The launcher was asked to end."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the launch was stopped ({why})")
        number = signal.SIGKILL if why == FRONT_DIED else signal.Signals[why]
        self.code = 128 + number


def run(plan: Plan, parent: int | None = None) -> int:
    """Run the planned stages on instances and return the exit code, by the table in README.md.

    With `parent` the launch ends when that process does. Raises ShimError.
    """
    if plan.spot is None:
        raise PipelineError(f"{plan.pipeline}: the plan has no [spot]", "plan with --on spot")
    spot = plan.spot
    if parent:
        liveness.die_with(parent)
    base = record.attempt_id(clock.utc_now())

    def work(lifeline: Lifeline) -> int:
        return _Launcher(plan, spot, base, lifeline).go()

    def lost(why: str) -> None:
        """End what the supervisor cannot end any more."""
        store, ec2 = open_store(plan.store), Ec2()
        for number in range(1, spot.attempts + 1):
            there = Record(store, launch.key(plan.run_prefix, f"{base}-{number}"))
            with suppress(ShimError):
                values = there.load()
                if not values.get("detached"):
                    uri = store.uri_of(there.key)
                    ids = {i.id for i in ec2.launched(uri)} | {values.get("instance")}
                    ec2.terminate(sorted(filter(None, ids)), patience=REGISTERED)
                    there.close("lost", None, error=why)
        say(f"{why}; its instances are terminated")

    return detached(work, lost)


class _Launcher:
    """The launches of one plan, in the supervisor."""

    def __init__(self, plan: Plan, spot: Spot, base: str, lifeline: Lifeline) -> None:
        self.plan, self.spot, self.base, self.lifeline = plan, spot, base, lifeline
        self.store, self.ec2 = open_store(plan.store), Ec2()
        self.reclaimed: list[Pool] = []
        self.rows: list[Row] = []
        self.before: dict[str, str | None] = {}  # the attempts whose commits are there at first

    def go(self) -> int:
        checked = spot_preflight.check(self.plan, self.ec2)
        code = checked.code
        if code is None or checked.problems:
            for problem in checked.problems:
                say(str(problem))
            return code_of(checked.problems)
        self.plan = dataclasses.replace(self.plan, code_version=code.code_version)
        if self.plan.dry_run:
            self._show_prices()
            return 0
        reap.clear(self.ec2, checked.left, self._tell, self._wait)
        # After that: what an abandoned launch had still committed is no launch of this command's.
        self.before = {s.name: self._attempt(s.name) for s in self.plan.planned}
        try:
            return self._attempts(code)
        finally:
            self._print(closing.table(self.rows))

    def _attempts(self, code: Bundle) -> int:
        shared = Context(self.spot, self.store, self.ec2, code, self._show, self._tell, self._wait)
        last = self.spot.attempts
        for number in range(1, last + 1):
            plan = self.plan if number == 1 else self._left()
            if not plan.planned:
                return 0
            on_demand = self.spot.on_demand_last and number == last > 1
            one = OneLaunch(shared, plan, f"{self.base}-{number}", number, self.reclaimed)
            try:
                end = one.run("on-demand" if on_demand else "spot")
            finally:
                self.rows += [one.row] if one.row else []
            if end.outcome == "detached":
                self._print(f"./spot_backtest.sh follow {shlex.quote(one.uri)}\n")
            if end.outcome == "lost" and not self._left().planned:
                return 0  # the stages had committed; only the end of the instance was not seen
            if not end.again or number == last:
                break
            if one.launched and one.pool:
                self.reclaimed.append(one.pool)
                reap.end(self.ec2, [one.launched.instance], self._tell, self._wait, end.why)
            else:
                pause = self.spot.pause(number)
                self._tell(f"the pools are asked again in {pause} s")
                self._wait(pause)
        return end.code

    def _left(self) -> Plan:
        """Return the plan without the stages that this execution has committed already."""
        stages = []
        for stage in self.plan.stages:
            why = stage.skipped or (
                "committed by an earlier launch" if self._committed(stage.name) else ""
            )
            stages.append(dataclasses.replace(stage, skipped=why))
        return dataclasses.replace(self.plan, stages=tuple(stages))

    def _committed(self, stage: str) -> bool:
        """Return whether a launch of ours has committed; one from before them is to be replaced."""
        plan = self.plan
        there = commit.verified(self.store, plan.run_prefix, stage, plan.run_date)
        return (
            there is not None
            and there.execution_id == plan.execution_id
            and there.attempt != self.before.get(stage)
        )

    def _attempt(self, stage: str) -> str | None:
        there = commit.read(self.store, self.plan.run_prefix, stage)
        return there.attempt if there else None

    def _wait(self, seconds: float) -> None:
        """Wait, or raise StoppedError as soon as the launcher is to end."""
        poller = select.poll()
        for descriptor in self.lifeline.descriptors:
            poller.register(descriptor, select.POLLIN)
        until = time.monotonic() + seconds
        while True:
            self.lifeline.hear()
            if why := self.lifeline.stop:
                raise StoppedError(why)
            left = until - time.monotonic()
            if left <= 0:
                return
            poller.poll(left * 1000)

    def _show_prices(self) -> None:
        for row in spot_preflight.prices(self.plan, self.ec2, clock.utc_now()):
            price = "no price" if row.price is None else f"{row.price:.4f} USD/h"
            name = f"{row.pool.type:<16} {row.pool.subnet or '-':<26} {row.zone:<16}"
            self._print(f"{printable(name)} {price}\n")
        self._tell("EC2 would accept the request; nothing is launched (--dry-run)")

    def _show(self, data: bytes) -> None:
        if not self.plan.quiet:
            _write(data)

    def _print(self, text: str) -> None:
        if text and not self.plan.quiet:
            _write(text.encode())

    def _tell(self, text: str) -> None:
        if not self.plan.quiet:
            say(text)


def _write(data: bytes) -> None:
    """Write to stdout; a reader that left changes nothing about the run."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
