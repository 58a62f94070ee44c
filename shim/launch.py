"""Launch records: one object is the receipt of an instance and all that the instance is told.

The launcher opens it before it asks EC2 for anything and keeps it fresh; the instance finds it
through its tag, adds what it knows and closes it. So whoever dies leaves something to be found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shim import clock, liveness, record, recorded, silence
from shim.errors import BusyError, PreflightError, UnreadableError, UsageError
from shim.masking import masked_plan
from shim.pipeline import RESERVED
from shim.plan import Plan
from shim.record import HEARTBEAT, SILENT, Receipt
from shim.store import Conflict, Object, Store

FOLDER = "_launches"  # no stage's name starts with an underscore
LOG_SLUG = "spot"
# Tags of an instance; IMDS shows them only if their keys hold letters, digits and + - = . , _ : @
# (docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html).
TAG = "spot-backtest:launch"
DEADLINE_TAG = "spot-backtest:deadline"


def key(prefix: str, launch: str) -> str:
    """Return the key of a launch's record under a run prefix."""
    return f"{folder(prefix)}{launch}.json"


def folder(prefix: str) -> str:
    """Return the prefix of all launch records of a run date."""
    return f"{prefix}{RESERVED}/{FOLDER}/"


class Launch(Receipt):
    """The record as its launcher has it; `superseded` is set when the instance has closed it."""

    def __init__(self, store: Store, prefix: str, values: Mapping[str, Any]) -> None:
        self.id: str = values["launch"]
        super().__init__(store, key(prefix, self.id), values)


class Record:
    """The record as everybody else has it: read, and changed by conditional puts."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key

    @property
    def uri(self) -> str:
        """Its address in the store."""
        return self.store.uri_of(self.key)

    def load(self) -> recorded.Launch:
        """Return the values. Raises PreflightError if there is none, UnreadableError."""
        return self._load()[0]

    def abandoned(self) -> str:
        """Return why nobody looks after the launch any more, or nothing.

        A launcher that left the instance to itself is not missed.
        """
        values, there = self._load()
        if values.get("state") == "closed":
            return f"its record is closed ({values.get('outcome')})"
        if values.get("detached"):
            return ""
        return "its launcher is gone" if gone(self.store, values, there) else ""

    def update(self, **changes: Any) -> None:
        """Change some values. Raises BusyError if the record is closed."""
        while True:
            values, there = self._load()
            if values.get("state") == "closed":
                raise BusyError(
                    f"{self.uri} is closed: {values.get('outcome')}",
                    "the launch has ended; start another",
                )
            changed: dict[str, Any] = {**values, **changes}
            if changed.get("state") == "closed":
                changed |= _without_secrets(changed)
            body = json.dumps(changed, indent=1).encode()
            try:
                self.store.put(self.key, body, there.etag)
            except Conflict:
                continue
            return

    def amend(self, **details: Any) -> None:
        """Add to a closed record what only the launcher knows: how long it was, and its cost."""
        values, there = self._load()
        body = json.dumps({**values, **details}, indent=1).encode()
        with suppress(Conflict):
            self.store.put(self.key, body, there.etag)

    def close(self, outcome: str, code: int | None, **details: Any) -> bool:
        """Close the record; return False if it was closed already."""
        closed = clock.iso(self.store.now())
        try:
            self.update(state="closed", outcome=outcome, code=code, closed=closed, **details)
        except BusyError:
            return False
        return True

    def _load(self) -> tuple[recorded.Launch, Object]:
        found = self.store.read(self.key)
        if found is None:
            raise PreflightError(f"there is no launch record {self.uri}", "was it deleted?")
        return recorded.read(self.store, self.key, found[0], recorded.Launch), found[1]


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of a record that nothing runs by any more, as it may be printed."""
    with suppress(UsageError):  # of another version: what its options are is not known
        plan = Plan.from_json(json.dumps(values.get("plan")))
        return {"plan": json.loads(masked_plan(plan).to_json())}
    return {}


def gone(store: Store, values: Mapping[str, Any], there: Object) -> bool:
    """Return whether the launcher of an open record is dead, or was silent too long.

    One whose date is in the future is waited for: see shim.silence.
    """
    age = silence.age(store, there)
    if age >= SILENT or liveness.proven_dead(values):
        return True
    return age < -silence.SKEW and silence.stays(store, there.key, there, there, HEARTBEAT)


@dataclass(frozen=True)
class Found:
    """A launch record of a run date that is not known to be closed.

    `lives` says whether its launcher does; one that left the instance to itself counts as dead.
    `problem` is why the record cannot be read; it has no `values` then.
    """

    record: Record
    values: recorded.Launch | None
    lives: bool
    problem: UnreadableError | None = None


def records(store: Store, prefix: str) -> Iterator[Record]:
    """Return every launch record of a run date."""
    for there in list(store.list(folder(prefix))):
        name = there.key.removeprefix(folder(prefix))
        if "/" not in name and name.endswith(".json"):
            yield Record(store, there.key)


def open_launches(store: Store, prefix: str) -> Iterator[Found]:
    """Return each record of a run date that is open, or cannot be read."""
    for there in records(store, prefix):
        found = store.read(there.key)
        if found is None:
            continue
        try:
            values = recorded.read(store, there.key, found[0], recorded.Launch)
        except UnreadableError as error:
            age = silence.age(store, found[1])
            yield Found(there, None, not silence.silent(age, SILENT), error)
            continue
        if values["state"] == "open":
            lives = not (values.get("detached") or gone(store, values, found[1]))
            yield Found(there, values, lives)


def close_attempts(store: Store, prefix: str, launch: str, why: str) -> None:
    """Close the receipts that a launch that is over has left open, so that none waits for them."""
    key = record.claim_key(prefix)
    found = store.read(key)
    if found is None:
        return
    for entry in recorded.claimed(recorded.read(store, key, found[0], recorded.Claim)):
        if entry.attempt and entry.known.get("launch") == launch:
            while not record.close_left(store, prefix, entry.known, why):
                pass  # a last write of the instance was under way
