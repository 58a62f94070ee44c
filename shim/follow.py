"""A launch followed to its end: its log as it grows, its record, and what EC2 says of the instance.

No connection goes to the instance: everything is read from the store and from EC2.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shim import clock, recorded
from shim.ec2 import GONE, REGISTERED, Ec2, Instance
from shim.errors import AccessError, PreflightError, RecordError, UnreadableError
from shim.launch import Record
from shim.store import Missing, Store, key_problem

POLL = 3.0  # seconds between two looks at the record and the log
LOOK = 15.0  # seconds between two questions to EC2
OUTAGE = 1200.0  # seconds for which neither the store nor EC2 needs to answer
OVERDUE = 300.0  # seconds after the deadline until the launcher ends what should have ended itself
# StateReason of an instance:
# docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
RECLAIMED = {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"}
NO_CAPACITY = {"Server.InsufficientInstanceCapacity"}
LOST = 69  # the exit code when neither the stages nor EC2 ended an instance
AGAIN = ("reclaimed", "no capacity")  # outcomes after which another launch may succeed


@dataclass(frozen=True)
class End:
    """How a launch ended: the outcome as in its record, the exit code, and why in a sentence."""

    outcome: str
    code: int
    why: str = ""

    @property
    def again(self) -> bool:
        """Whether another launch, with the same date and code, may succeed."""
        return self.outcome in AGAIN


class Follower:
    """Follows one launch. `show` gets the log's bytes, `tell` lines for a person.

    `wait` waits for so many seconds, or raises when the follower is to stop. `ends` is the
    deadline by the monotonic clock, for who knows it: a wall clock may be set meanwhile.
    """

    def __init__(
        self,
        store: Store,
        ec2: Ec2,
        record: Record,
        show: Callable[[bytes], None],
        tell: Callable[[str], None],
        wait: Callable[[float], None],
        ends: float | None = None,
    ) -> None:
        self._store, self._ec2, self._record = store, ec2, record
        self._show, self._tell, self._wait = show, tell, wait
        self._began = time.monotonic()
        self._shown = 0
        self._state = ""
        self._looked = float("-inf")
        self._away: float | None = None  # since when something has not answered
        self._ends = ends
        self._read = False  # whether the record could be read once

    def end(self) -> End:
        """Return how the launch ended, once it has.

        Raises the last error when the store or EC2 did not answer for OUTAGE seconds, and at once
        UnreadableError for a record that nobody can follow.
        """
        while True:
            try:
                if found := self._look():
                    return found
                if self._away is not None:
                    self._tell("the store and EC2 answer again")
                self._away = None
            except (AccessError, PreflightError, RecordError) as error:
                if isinstance(error, UnreadableError) and not self._read:
                    raise  # it was one before this began
                now = time.monotonic()
                if self._away is None:
                    self._tell(f"{error}; following goes on")
                    self._away = now
                if now - self._away > OUTAGE:
                    raise
            self._wait(POLL)

    def _look(self) -> End | None:
        values = self._record.load()
        if values["state"] == "closed":
            self._log(values)
            return _closed(values)
        if self._ends is None:
            if "deadline" not in values:
                raise recorded.unreadable(self._record.uri, "deadline is missing")
            left = datetime.fromisoformat(values["deadline"]) - clock.utc_now()
            self._ends = time.monotonic() + left.total_seconds()
        self._read = True
        self._log(values)
        if time.monotonic() - self._looked < LOOK:
            return None
        if not (name := values.get("instance")):  # its launcher is about to ask for one, or is gone
            return self._overdue()
        instance = self._ec2.instance(name)
        self._looked = time.monotonic()
        self._say_state(values, instance)
        young = self._looked - self._began < REGISTERED
        if instance.state in (*GONE, "stopped") and not (instance.state == "missing" and young):
            values = self._record.load()  # it may have been closed just before the end
            self._log(values)
            overdue = time.monotonic() > self._ends
            return _closed(values) if values["state"] == "closed" else _gone(instance, overdue)
        if instance.state == "shutting-down":
            self._looked = float("-inf")  # its end is near
        return self._overdue()

    def _overdue(self) -> End | None:
        if self._ends is None or time.monotonic() < self._ends + OVERDUE:
            return None
        return End("timed out", 124, "it ran past its deadline")

    def _say_state(self, values: recorded.Launch, instance: Instance) -> None:
        state = instance.state
        if state == "running":
            state = "running its stages" if values.get("booted") else "booting"
        if state not in (self._state, "missing"):
            self._state = state
            self._tell(f"{instance.id} is {state}")

    def _log(self, values: recorded.Launch) -> None:
        """Show what the log has got since the last look."""
        key = values.get("log")
        if not key or key_problem(key):
            return
        try:
            for piece in self._store.pieces(key, start=self._shown):
                self._show(piece)
                self._shown += len(piece)
        except Missing:  # nothing is shipped yet
            return


def _closed(values: recorded.Launch) -> End:
    code = values.get("code")
    outcome = values.get("outcome") or "closed"
    return End(outcome, LOST if code is None else code, values.get("error") or "")


def _gone(instance: Instance, overdue: bool) -> End:
    """Return what the end of an instance means whose record is open."""
    why = f"{instance.id} is {instance.state}: {instance.reason or 'no reason'}"
    if instance.message:
        why = f"{why} ({instance.message})"
    if instance.reason in RECLAIMED:
        return End("reclaimed", 75, why)
    if instance.reason in NO_CAPACITY:
        return End("no capacity", 75, why)
    if overdue:
        return End("timed out", 124, f"{why}, after its deadline {instance.deadline}")
    return End("lost", LOST, f"{why}, before its stages had ended")
