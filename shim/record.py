"""Receipts: what one attempt left, and the claim by which one attempt at a time owns a stage.

The claim is one object per run date. It is only ever replaced by a conditional put, so two attempts
that start at once cannot both own a stage, and two executions cannot both own a date.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shim import clock, commit, liveness, reclaim
from shim.errors import BusyError, RecordError, ShimError
from shim.pipeline import RESERVED
from shim.plan import Plan
from shim.store import ABSENT, Conflict, Expect, Object, Store

HEARTBEAT = 30.0  # seconds between two writes of an open receipt
SILENT = 180.0  # seconds of the store's clock after which an attempt is dead
TRIES = 50  # at the claim; each loss means that somebody else got it


def attempt_id(now: datetime) -> str:
    """Return the id of an attempt: its start and four random hex digits."""
    return f"{clock.compact(now)}-{secrets.token_hex(2)}"


def receipt_key(prefix: str, stage: str, attempt: str) -> str:
    """Return the key of a receipt under a run prefix."""
    return f"{prefix}{RESERVED}/{stage}/{attempt}.json"


def claim_key(prefix: str) -> str:
    """Return the key of a run date's claim; no stage's name starts with an underscore."""
    return f"{prefix}{RESERVED}/_claim.json"


class Receipt:
    """A record that one process owns: kept fresh by a thread until somebody closes it.

    `superseded` is set when another has closed it. What others change while it is open is kept.
    """

    def __init__(self, store: Store, key: str, values: Mapping[str, Any]) -> None:
        self.store = store
        self.superseded = threading.Event()
        self.values: dict[str, Any] = {**values, "state": "open", **liveness.myself()}
        self._key = key
        self._etag: Expect = ABSENT
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    @property
    def uri(self) -> str:
        """Its address in the store."""
        return self.store.uri_of(self._key)

    def open(self) -> None:
        """Write the receipt for the first time and start to keep it fresh."""
        if "opened" not in self.values:
            self.values["opened"] = clock.iso(self.store.now())
        self.write()
        self._keeper.start()

    def beat(self) -> None:
        """Write the receipt again, still open. Raises BusyError once another has closed it."""
        self.write(heartbeat=clock.iso(self.store.now()))

    def release(self) -> None:
        """Stop to keep it fresh; it stays as it is."""
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join()

    def close(self, outcome: str, code: int | None, **details: Any) -> None:
        """Write the receipt a last time. Raises ShimError if that cannot be done."""
        self.release()
        closed = clock.iso(self.store.now())
        self.write(state="closed", outcome=outcome, code=code, closed=closed, **details)

    def write(self, **more: Any) -> None:
        """Change some values. Raises BusyError once another has closed the receipt."""
        with self._lock:
            if self.superseded.is_set():
                raise self._superseded()
            for _ in range(TRIES):
                values = {**self.values, **more}
                try:
                    self._etag = self.store.put(self._key, _json(values), self._etag).etag
                except Conflict as error:
                    self._look(values, error)
                    continue
                self.values = values
                return
        raise RecordError(f"{self.uri} is written by others", "find out who")

    def _look(self, values: Mapping[str, Any], conflict: Conflict) -> None:
        """Go on from the receipt that is there. Raises BusyError if another has closed it.

        A write that failed here may have reached the store, and a receipt may have been deleted.
        """
        found = self.store.read(self._key)
        there = parsed(self.store, self._key, found[0]) if found else self.values
        if there.get("state") != "open" and there != values:
            self.values = there
            self.superseded.set()
            raise self._superseded() from conflict
        self.values = there
        self._etag = found[1].etag if found else ABSENT

    def _superseded(self) -> BusyError:
        return BusyError(f"{self.uri} was closed by another", "see what it says")

    def _keep(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            try:
                self.beat()
            except BusyError:
                return
            except ShimError:
                continue  # the store is away: the next beat tries again, close() reports


class Attempt(Receipt):
    """The receipt of one attempt at a stage, which claims the stage when it is opened.

    Once it is superseded nothing may be published.
    """

    def __init__(self, store: Store, plan: Plan, stage: str, attempt: str) -> None:
        values = identity(plan, stage, attempt)
        super().__init__(store, receipt_key(plan.run_prefix, stage, attempt), values)
        self.plan, self.stage, self.id = plan, stage, attempt

    def open(self) -> None:
        """Claim the stage and write the receipt. Raises BusyError: who, where, since when."""
        self.values["opened"] = clock.iso(self.store.now())
        _claim(self.store, self.plan, self.stage, self.values)
        super().open()

    def _superseded(self) -> BusyError:
        return BusyError(
            f"attempt {self.id} of {self.stage} was silent too long and was closed as lost "
            "by another attempt",
            "run it again if the other one fails",
        )


def identity(plan: Plan, stage: str, attempt: str) -> dict[str, Any]:
    """Return what every receipt of an attempt says, whoever writes it."""
    return {
        "stage": stage,
        "run_date": plan.run_date,
        "execution_id": plan.execution_id,
        "attempt": attempt,
        "code_version": plan.code_version,
        **({"launch": launched} if (launched := reclaim.launch()) else {}),
    }


def claimed(claim: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, by stage, the identity of each attempt that a claim has, and who runs it."""
    about = {"run_date": claim.get("run_date")}
    return {stage: {"stage": stage, **about, **who} for stage, who in claim.get("open", {}).items()}


def close_left(
    store: Store, prefix: str, known: Mapping[str, Any], why: str, **details: Any
) -> bool:
    """Close a receipt that its attempt has left open, by the attempt's identity.

    It is lost, unless the stage's commit is its own. An attempt that claimed its stage and got no
    further has no receipt yet: the one that is written here keeps it out. Return False if it was
    written meanwhile: its owner lives.
    """
    key = receipt_key(prefix, known["stage"], known["attempt"])
    found = store.read(key)
    values = parsed(store, key, found[0]) if found else dict(known)
    if values.get("state") == "closed":
        return True
    made = commit.read(store, prefix, known["stage"])
    ended: dict[str, Any] = {"outcome": "lost", "code": None, "error": why}
    if made and made.attempt == known["attempt"]:
        ended = {"outcome": "committed", "code": 0}
    values |= {"state": "closed", **ended, "closed": clock.iso(store.now()), **details}
    try:
        store.put(key, _json(values), found[1].etag if found else ABSENT)
    except Conflict:
        return False
    return True


def _claim(store: Store, plan: Plan, stage: str, mine: Mapping[str, Any]) -> None:
    """Enter the attempt into the run date's claim. Raises BusyError."""
    key = claim_key(plan.run_prefix)
    for _ in range(TRIES):
        found = store.read(key)
        claim = parsed(store, key, found[0]) if found else {}
        others = _open_attempts(store, plan, claim, found and found[1])
        if others is None:
            continue
        if others.get(stage, {}).get("attempt") == mine["attempt"]:
            return  # it was written, and the answer was lost
        for name, other in others.items():
            if name == stage or other.get("execution_id") != plan.execution_id:
                raise BusyError(
                    f"{name} at {plan.run_date} is run by execution {other.get('execution_id')} "
                    f"on {other.get('host')} since {other.get('opened')} "
                    f"(attempt {other.get('attempt')})",
                    "wait for its end and run the same command with the same date again",
                )
        entry = {k: v for k, v in mine.items() if k not in ("stage", "run_date", "state")}
        body = _json({"run_date": plan.run_date, "open": {**others, stage: entry}})
        try:
            store.put(key, body, found[1].etag if found else ABSENT)
        except Conflict:
            time.sleep(secrets.randbelow(50) / 1000)  # so that racers do not stay in step
            continue
        return
    raise BusyError(
        f"the claim {store.uri_of(key)} changed {TRIES} times under this attempt", "try again"
    )


def _open_attempts(
    store: Store, plan: Plan, claim: Mapping[str, Any], there: Object | None
) -> dict[str, Any] | None:
    """Return the claim's entries of attempts that are alive; None to look again.

    The receipts of dead ones are closed.
    """
    alive = {}
    for stage, entry in claimed(claim).items():
        key = receipt_key(plan.run_prefix, stage, entry["attempt"])
        found = store.read(key)
        if found and parsed(store, key, found[0]).get("state") == "closed":
            continue
        now = store.now()
        last = found[1].modified if found else there.modified if there else now
        silent = (now - last).total_seconds()
        gone = liveness.proven_dead(entry)
        if silent < SILENT and not gone:
            alive[stage] = claim["open"][stage]
            continue
        why = "its process is gone" if gone else f"it was silent for {silent:.0f} s"
        if not close_left(store, plan.run_prefix, entry, why):
            return None
    return alive


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode()


def parsed(store: Store, key: str, body: bytes) -> dict[str, Any]:
    """Return a record's values. Raises RecordError."""
    try:
        values = json.loads(body)
    except ValueError as error:
        raise RecordError(f"{store.uri_of(key)} is not JSON ({error})", "move it away") from error
    if not isinstance(values, dict):
        raise RecordError(f"{store.uri_of(key)} is not a JSON object", "move it away")
    return values
