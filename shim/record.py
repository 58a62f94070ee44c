"""Receipts: what one attempt left, and the claim by which one attempt at a time owns a stage.

The claim is one object per run date. It is only ever replaced by a conditional put, so two attempts
that start at once cannot both own a stage, and two executions cannot both own a date.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from shim import clock, commit, liveness, reclaim, recorded, silence
from shim.errors import BusyError, RecordError, ShimError, UnreadableError
from shim.plan import Plan
from shim.recorded import Claimed
from shim.recorded import claim_key as claim_key  # the keys, for who reads what is written here
from shim.recorded import parsed as parsed
from shim.recorded import receipt_key as receipt_key
from shim.sinks import say
from shim.store import ABSENT, Conflict, Expect, Object, Store

HEARTBEAT = 30.0  # seconds between two writes of an open receipt
SILENT = 180.0  # seconds of the store's clock after which an attempt is dead
NO_CLAIM: recorded.Claim = {"open": {}}
GoOn = Callable[[], None]
TRIES = 50  # at the claim; each loss means that somebody else got it


def attempt_id(now: datetime) -> str:
    """Return the id of an attempt: its start and four random hex digits."""
    return f"{clock.compact(now)}-{secrets.token_hex(2)}"


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
        there = self.values
        with suppress(UnreadableError):  # nobody has closed it so: what it was is written again
            there = parsed(self.store, self._key, found[0]) if found else there
        if there["state"] == "closed" and there != values:
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

    def open(self, go_on: GoOn = lambda: None) -> None:
        """Claim the stage and write the receipt. Raises BusyError: who, where, since when.

        Who is dated in the future is waited for; `go_on` raises when that is to stop.
        """
        self.values["opened"] = clock.iso(self.store.now())
        _claim(self.store, self.plan, self.stage, self.values, go_on)
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
    values = dict(known)
    try:
        values = parsed(store, key, found[0]) if found else values
    except UnreadableError as error:
        why = f"{why}; what stood here could not be read: {error.message}"
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


def _claim(store: Store, plan: Plan, stage: str, mine: Mapping[str, Any], go_on: GoOn) -> None:
    """Enter the attempt into the run date's claim. Raises BusyError, UnreadableError."""
    key = claim_key(plan.run_prefix)
    for _ in range(TRIES):
        found = store.read(key)
        claim = recorded.read(store, key, found[0], recorded.Claim) if found else NO_CLAIM
        others = _open_attempts(store, plan, claim, found and found[1], go_on)
        if others is None:
            continue
        if any(o.stage == stage and o.attempt == mine["attempt"] for o in others):
            return  # it was written, and the answer was lost
        _refuse(store, plan, stage, others)
        entry = {k: v for k, v in mine.items() if k not in ("stage", "run_date", "state")}
        still = {other.stage: claim["open"][other.stage] for other in others}
        body = _json({**claim, "run_date": plan.run_date, "open": {**still, stage: entry}})
        try:
            store.put(key, body, found[1].etag if found else ABSENT)
        except Conflict:
            time.sleep(secrets.randbelow(50) / 1000)  # so that racers do not stay in step
            continue
        return
    raise BusyError(
        f"the claim {store.uri_of(key)} changed {TRIES} times under this attempt", "try again"
    )


def _refuse(store: Store, plan: Plan, stage: str, others: Iterable[Claimed]) -> None:
    """Raise if an attempt that may be alive keeps this one out: who, where, since when."""
    for other in sorted(others, key=lambda one: bool(one.problem)):  # who is known comes first
        if other.problem:
            raise recorded.unreadable(
                store.uri_of(claim_key(plan.run_prefix)),
                f"{other.problem}; an attempt may be alive until it is silent for {SILENT:.0f} s",
            )
        known = other.known
        if other.stage == stage or known.get("execution_id") != plan.execution_id:
            raise BusyError(
                f"{other.stage} at {plan.run_date} is run by execution {known.get('execution_id')} "
                f"on {known.get('host')} since {known.get('opened')} (attempt {other.attempt})",
                "wait for its end and run the same command with the same date again",
            )


def _open_attempts(
    store: Store, plan: Plan, claim: recorded.Claim, there: Object | None, go_on: GoOn
) -> list[Claimed] | None:
    """Return the claim's entries of attempts that may be alive; None to look again.

    The receipts of dead ones are closed.
    """
    alive = []
    for entry in recorded.claimed(claim):
        why = _dead(store, plan, entry, there, go_on)
        if why is None:
            alive.append(entry)
        elif why and entry.attempt is None:
            say(f"{store.uri_of(claim_key(plan.run_prefix))}: left out what nobody can read: "
                f"{entry.problem}")  # fmt: skip
        elif why and not close_left(store, plan.run_prefix, entry.known, why):
            return None
    return alive


def _dead(
    store: Store, plan: Plan, entry: Claimed, there: Object | None, go_on: GoOn
) -> str | None:
    """Return why an attempt is over, an empty text where it is closed; None if it may be alive.

    Raises UnreadableError for a receipt that does not tell, while its attempt may live.
    """
    key, found, wrong = claim_key(plan.run_prefix), None, None
    if entry.attempt is not None:
        key = receipt_key(plan.run_prefix, entry.stage, entry.attempt)
        found = store.read(key)
        try:
            if found and parsed(store, key, found[0])["state"] == "closed":
                return ""
        except UnreadableError as error:
            wrong = error
    if liveness.proven_dead(entry.known):
        return "its process is gone"
    last = found[1] if found else there
    if last is None:
        return None
    silent = silence.age(store, last)
    if silent >= SILENT:
        return f"it was silent for {silent:.0f} s"
    if silent < -silence.SKEW:
        seen = last if entry.attempt is None else found and found[1]
        if silence.stays(store, key, seen, last, HEARTBEAT, go_on):
            return f"it was silent, and dated {-silent:.0f} s in the future"
        found = store.read(key) if entry.attempt is not None else None
        if found and parsed(store, key, found[0])["state"] == "closed":
            return ""
        return None
    if wrong:
        raise wrong
    return None


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode()
