"""One instance for a plan: from its launch record through one request to its end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from shim import bundle, clock, closing, fleet, launch
from shim.bundle import Bundle
from shim.closing import Row
from shim.ec2 import REGISTERED, Ec2
from shim.errors import BusyError, ShimError
from shim.fleet import Launched, NoCapacityError, Pool
from shim.follow import End, Follower
from shim.launch import Launch, Record
from shim.plan import Plan
from shim.sinks import say
from shim.spot_preflight import ROOT
from shim.spot_table import Spot
from shim.store import Store

RUN_LOCK = "requirements/run.txt"


@dataclass(frozen=True)
class Context:
    """What every launch of a plan shares.

    `show` gets the bytes of the instance's log, `tell` lines for a person; `wait` waits for so many
    seconds, or raises when the launcher is to end.
    """

    spot: Spot
    store: Store
    ec2: Ec2
    code: Bundle
    show: Callable[[bytes], None]
    tell: Callable[[str], None]
    wait: Callable[[float], None]


class OneLaunch:
    """One launch of the planned stages; when `run` is over, so is the instance.

    `avoided` are the pools that took an instance back: they are asked last.
    """

    def __init__(
        self, context: Context, plan: Plan, name: str, number: int, avoided: Sequence[Pool]
    ) -> None:
        self._context, self._plan, self._avoided = context, plan, avoided
        self._store, self._ec2 = context.store, context.ec2
        now = clock.utc_now()
        self._deadline = clock.iso(now + timedelta(seconds=context.spot.max_runtime))
        self._there = Launch(self._store, plan.run_prefix, self._values(name, number))
        self._there.values["opened"] = clock.iso(now)
        self._seen = Record(self._store, launch.key(plan.run_prefix, name))
        self._began: float | None = None
        self.launched: Launched | None = None
        self.row: Row | None = None

    @property
    def pool(self) -> Pool | None:
        """The pool that gave the instance, as it was asked for."""
        if self.launched is None:
            return None
        return Pool(self.launched.type, self.launched.subnet if self._context.spot.subnets else "")

    def run(self, market: str) -> End:
        """Launch, follow to the end, and end what is left. Raises ShimError."""
        if self._there.values["number"] == 1:
            bundle.store_bundle(self._store, self._context.code)
        self._there.open()
        end, detached = End("ended", 70), False
        try:
            self._ask(market)
            if self._plan.detach:
                detached = self._detach()
                return End("detached", 0)
            self._price()
            end = self._follow()
        except NoCapacityError as error:
            end = End("no capacity", error.code, error.message)
        except ShimError as error:
            end = End("ended", error.code, error.message)
            raise
        finally:
            if not detached:
                self._finish(end)
        return end

    def _values(self, name: str, number: int) -> dict[str, Any]:
        plan, code = self._plan, self._context.code
        locks = [RUN_LOCK]
        if plan.requirements and Path(plan.root) == ROOT:
            locks.append(plan.requirements)
        return {
            "launch": name,
            "number": number,
            "execution_id": plan.execution_id,
            "run_date": plan.run_date,
            "stages": [stage.name for stage in plan.planned],
            "code_version": code.code_version,
            "deadline": self._deadline,
            "seconds": self._context.spot.max_runtime,
            "plan": json.loads(plan.to_json()),
            "root": code.root,
            "entry": code.entry,
            "pipeline": os.path.relpath(plan.pipeline, plan.root),
            "bundle": {"key": code.key, "sha256": code.sha256},
            "locks": locks,
            "endpoint": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
            "region": self._ec2.region,
        }

    def _ask(self, market: str) -> None:
        """Ask the pools, those to avoid last. Raises NoCapacityError with each pool's reason."""
        values, spot = self._there.values, self._context.spot
        refused: dict[str, str] = {}
        for asked, excluded in self._rounds():
            token = fleet.token(self._plan.execution_id, values["stages"], self._there.id, asked)
            request = fleet.request(spot, asked, market, self._tags(), token, excluded)
            self._context.wait(0.0)  # nothing is launched for a caller that is gone
            try:
                self.launched = fleet.answer(self._ec2.create_fleet(request))
            except NoCapacityError as error:
                refused |= error.refused
                continue
            self._began = time.monotonic()
            self._tell_launched()
            made = {"token": token, "launched": clock.iso(clock.utc_now())}
            with suppress(BusyError):  # it has already come to an end
                self._there.write(**made, **_described(self.launched))
            return
        raise NoCapacityError(refused)

    def _rounds(self) -> list[tuple[Sequence[Pool], Sequence[Pool]]]:
        """Return what to ask for in turn: pools, and pools that are excluded from floors."""
        every = fleet.pools(self._context.spot)
        if self._avoided and not self._context.spot.types:
            return [(every, self._avoided), (every, ())]
        last = [pool for pool in self._avoided if pool in every]
        first = [pool for pool in every if pool not in last]
        alone = [[pool] for pool in dict.fromkeys(last)]
        return [(asked, ()) for asked in (first, *alone) if asked]

    def _tags(self) -> dict[str, str]:
        values = self._there.values
        own = {
            "Name": f"spot-backtest {' '.join(values['stages'])} {values['run_date']}"[:256],
            launch.TAG: self._there.uri,
            launch.DEADLINE_TAG: self._deadline,
            "spot-backtest:seconds": str(self._context.spot.max_runtime),
            "spot-backtest:endpoint": self._store.endpoint,
            "spot-backtest:region": values["region"],
        }
        return {**dict(tag.split("=", 1) for tag in self._context.spot.tags), **own}

    def _tell_launched(self) -> None:
        if made := self.launched:
            where = made.zone or made.subnet or "a zone of EC2's choice"
            self._context.tell(
                f"launched {made.instance}, {made.type} {made.market} in {where}, "
                f"which ends at {self._deadline} at the latest"
            )

    def _price(self) -> None:
        """Enter what the instance costs an hour, where EC2 tells."""
        made = self.launched
        if made is None or made.market != "spot":
            return
        with suppress(ShimError):  # a price that is not known stops nothing
            zone = made.zone or self._ec2.zones([made.subnet])[made.subnet]
            found = self._ec2.spot_prices([made.type], clock.utc_now())
            self._there.write(zone=zone, price=found.get((made.type, zone)))

    def _detach(self) -> bool:
        with suppress(BusyError):
            self._there.write(detached=True)
        self._there.release()
        self._context.tell("the instance goes on by itself; it is not launched again")
        return True

    @property
    def uri(self) -> str:
        """The address of the launch record."""
        return self._there.uri

    def _follow(self) -> End:
        where = self._context
        ends = (self._began or time.monotonic()) + where.spot.max_runtime
        return Follower(
            self._store, self._ec2, self._seen, where.show, where.tell, where.wait, ends
        ).end()

    def _finish(self, end: End) -> None:
        """End the instance and close the record; nothing here replaces the launch's own end."""
        seconds = time.monotonic() - self._began if self._began else 0.0
        self._there.release()
        try:
            self._terminate(end)
        except ShimError as error:
            say(f"an instance of {self.uri} may be left ({error}); ./spot_backtest.sh reap ends it")
        values: Mapping[str, Any] = self._there.values
        try:
            price = self._seen.load().get("price")
            details = {
                "run_seconds": round(seconds),
                "cost": closing.cost(price, seconds),
            }
            if not self._seen.close(end.outcome, end.code, error=end.why or None, **details):
                self._seen.amend(**details)
            values = self._seen.load()
            if end.outcome != "no capacity":
                why = end.why or f"its launch has ended: {end.outcome}"
                launch.close_attempts(self._store, self._plan.run_prefix, self._there.id, why)
        except ShimError as error:
            say(f"the record {self.uri} could not be closed: {error}")
        if end.why:
            self._context.tell(
                f"{values.get('instance') or values['launch']}: {end.outcome}: {end.why}"
            )
        self.row = Row.of(values, end.outcome, seconds)

    def _terminate(self, end: End) -> None:
        """Terminate what was launched, also where the answer did not come."""
        if self.launched and self._began:
            young = self._began + REGISTERED - time.monotonic()
            self._ec2.terminate([self.launched.instance], patience=young)
        elif end.outcome != "no capacity":
            self._ec2.terminate([instance.id for instance in self._ec2.launched(self.uri)])


def _described(made: Launched) -> dict[str, str]:
    return {
        "instance": made.instance,
        "type": made.type,
        "zone": made.zone,
        "subnet": made.subnet,
        "market": made.market,
    }
