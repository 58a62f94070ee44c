"""What a store says of one run date: each stage's commit and attempts, and the launches.

It only reads: commits are verified here as by every stage that builds on them, receipts and launch
records are taken as they stand.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, TypeVar

from shim import closing, commit, launch, liveness, record, recorded, silence
from shim.closing import Row
from shim.errors import PreflightError, UnreadableError, printable
from shim.pipeline import RESERVED
from shim.store import Object, Store

T = TypeVar("T", recorded.Receipt, recorded.Launch)


@dataclass(frozen=True)
class Committed:
    """A commit; `problems` says why it does not verify, and is empty for one that does.

    What an unreadable commit does not tell is None; `bytes` is the sum of its artifacts' sizes.
    """

    execution_id: str | None
    attempt: str | None
    committed: str | None
    artifacts: int | None
    bytes: int | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Attempted:
    """An attempt by its receipt: `state` is fresh, silent or gone while it is open, then closed.

    `silent` is the age of an open receipt in seconds by the store's clock, below zero for one that
    is dated in the future.
    """

    attempt: str
    state: str
    execution_id: str | None
    host: str | None
    opened: str | None
    silent: float | None
    closed: str | None
    outcome: str | None
    code: int | None
    error: str | None


@dataclass(frozen=True)
class StageStatus:
    """One stage: its commit, the newest attempt that is open, and the newest that is closed."""

    stage: str
    commit: Committed | None
    running: Attempted | None
    last: Attempted | None

    @property
    def verified(self) -> bool:
        """Whether there is a commit that verifies."""
        return self.commit is not None and not self.commit.problems

    @property
    def state(self) -> str:
        """In a word: committed, changed, running, silent, the last outcome, or nothing."""
        if self.commit:
            return "changed" if self.commit.problems else "committed"
        if self.running:
            return _running(self.running)
        return self.last.outcome or "closed" if self.last else "nothing"


@dataclass(frozen=True)
class Status:
    """One run date in one store; `unreadable` names each record that cannot be read, and why."""

    run_date: str
    run_date_source: str
    store: str
    run_prefix: str
    stages: tuple[StageStatus, ...]
    launches: tuple[Row, ...]
    unreadable: tuple[str, ...]

    @property
    def unverified(self) -> list[str]:
        """The stages without a commit that verifies."""
        return [stage.stage for stage in self.stages if not stage.verified]

    def to_json(self) -> str:
        """Return one JSON document, with the state of each stage in a word."""
        values = dataclasses.asdict(self)
        words = {stage.stage: stage.state for stage in self.stages}
        values["stages"] = [{"state": words[row["stage"]], **row} for row in values["stages"]]
        values["complete"] = not self.unverified
        return json.dumps(values, indent=1)

    def to_text(self) -> str:
        """Return lines for a person: what stands, then a line for each attempt beside it."""
        head = [
            f"run date {self.run_date} (from {self.run_date_source})",
            f"store {self.store}, prefix {self.run_prefix}",
        ]
        rows = [("stage", "state", "since", "what")]
        for stage in self.stages:
            rows += _rows(stage)
        cells = [[printable(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in cells) for column in range(3)]
        lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in cells]
        launches = closing.table(self.launches).splitlines()
        return "\n".join(
            [*map(printable, head), *lines, *launches, *map(printable, self.unreadable)]
        )


def of(store: Store, run_prefix: str, run_date: str, source: str, stages: Sequence[str]) -> Status:
    """Return what the store says of a run date. Raises ShimError if it cannot be asked."""
    unreadable = list(_claim(store, run_prefix))
    return Status(
        run_date=run_date,
        run_date_source=source,
        store=store.uri,
        run_prefix=run_prefix,
        stages=tuple(_stage(store, run_prefix, run_date, stage, unreadable) for stage in stages),
        launches=tuple(_launches(store, run_prefix, unreadable)),
        unreadable=tuple(unreadable),
    )


def _claim(store: Store, prefix: str) -> Iterator[str]:
    """Return what cannot be read of the claim; who holds it is told by the receipts."""
    try:
        found = store.read(key := record.claim_key(prefix))
        claim = recorded.read(store, key, found[0], recorded.Claim) if found else record.NO_CLAIM
        for entry in recorded.claimed(claim):
            if entry.problem:
                yield str(recorded.unreadable(store.uri_of(key), entry.problem))
    except UnreadableError as error:
        yield str(error)


def _stage(
    store: Store, prefix: str, run_date: str, stage: str, unreadable: list[str]
) -> StageStatus:
    # By the store's clock; those of one second by their last writes, then by their ids.
    folder = f"{prefix}{RESERVED}/{stage}/"
    found = [
        (values.get("opened") or "", there.modified, _attempted(store, there, values))
        for there, values in _records(store, folder, recorded.Receipt, unreadable)
    ]
    attempts = [row[2] for row in sorted(found, key=lambda row: (*row[:2], row[2].attempt))]
    return StageStatus(
        stage=stage,
        commit=_committed(store, prefix, run_date, stage),
        running=next((a for a in reversed(attempts) if a.state != "closed"), None),
        last=next((a for a in reversed(attempts) if a.state == "closed"), None),
    )


def _committed(store: Store, prefix: str, run_date: str, stage: str) -> Committed | None:
    try:
        there = commit.read(store, prefix, stage)
        if there is None:
            return None
        problems = commit.problems(store, prefix, there, run_date)
    except (PreflightError, UnreadableError) as error:  # it, or one that it was built on
        if store.head(commit.key(prefix, stage)) is None:
            raise
        return Committed(None, None, None, None, None, (error.message,))
    sizes = [artifact.size for artifact in there.artifacts.values()]
    return Committed(
        execution_id=there.execution_id,
        attempt=there.attempt,
        committed=there.committed,
        artifacts=len(sizes),
        bytes=sum(sizes),
        problems=tuple(problems),
    )


def _records(
    store: Store, folder: str, shape: type[T], unreadable: list[str]
) -> Iterator[tuple[Object, T]]:
    """Return the records directly in a folder; one that cannot be read is closed as unreadable."""
    for there in list(store.list(folder)):
        name = there.key.removeprefix(folder)
        if "/" in name or not name.endswith(".json"):
            continue
        last = there
        try:
            if (found := store.read(there.key)) is None:
                continue
            last = found[1]
            values: Any = recorded.read(store, there.key, found[0], shape)
        except UnreadableError as error:
            unreadable.append(str(error))
            values = {"state": "closed", "outcome": "unreadable", "error": error.message}
        yield last, values


def _attempted(store: Store, there: Object, values: recorded.Receipt) -> Attempted:
    state, age = "closed", None
    if values["state"] == "open":
        age = silence.age(store, there)
        age = age if age < -silence.SKEW else max(0.0, age)
        state = "silent" if silence.silent(age, record.SILENT) else "fresh"
        state = "gone" if liveness.proven_dead(values) else state
    return Attempted(
        attempt=PurePosixPath(there.key).stem,
        state=state,
        execution_id=values.get("execution_id"),
        host=values.get("host"),
        opened=values.get("opened"),
        silent=age,
        closed=values.get("closed"),
        outcome=values.get("outcome"),
        code=values.get("code"),
        error=values.get("error"),
    )


def _launches(store: Store, prefix: str, unreadable: list[str]) -> Iterator[Row]:
    for there, values in _records(store, launch.folder(prefix), recorded.Launch, unreadable):
        told = {"launch": PurePosixPath(there.key).stem, **values}
        outcome = values.get("outcome") or "closed"
        if values["state"] == "open":
            outcome = "running"
            age = silence.age(store, there)
            gone = silence.silent(age, record.SILENT) or liveness.proven_dead(values)
            if gone and not values.get("detached"):
                outcome = "abandoned"
        row = Row.of(told, outcome, _seconds(store, values))
        # The launcher's own sum, which it made before it rounded the seconds.
        yield dataclasses.replace(row, cost=values.get("cost", row.cost))


def _seconds(store: Store, values: recorded.Launch) -> float:
    """Return how long an instance ran: as its launcher counted, else by what the record says."""
    if "run_seconds" in values:
        return float(values["run_seconds"])
    if not (launched := values.get("launched")):
        return 0.0
    ended = datetime.fromisoformat(values["closed"]) if "closed" in values else store.now()
    return max(0.0, (ended - datetime.fromisoformat(launched)).total_seconds())


def _rows(stage: StageStatus) -> Iterator[tuple[str, str, str, str]]:
    """Return the lines of a stage: the first has its name, and says what its state says."""
    lines: list[tuple[str, str, str]] = []
    if there := stage.commit:
        what = ", ".join(there.problems)
        if there.attempt:
            size = f"{there.artifacts} artifacts, {there.bytes:,} bytes"
            what = "; ".join(filter(None, [f"{size}, {_who(there)}", what]))
        lines.append((stage.state, there.committed or "-", what))
    if now := stage.running:
        age = "its process is gone" if now.state == "gone" else _heard(now.silent or 0.0)
        lines.append((_running(now), now.opened or "-", f"{_who(now)} on {now.host}, {age}"))
    last = stage.last
    if last and (not there or (last.attempt != there.attempt and _newer(last, there))):
        code = "" if last.code is None else f"exit code {last.code}, "
        why = f": {last.error}" if last.error else ""
        lines.append((last.outcome or "closed", last.closed or "-", f"{code}{_who(last)}{why}"))
    for number, line in enumerate(lines or [("nothing", "-", "")]):
        yield ("" if number else stage.stage, *line)


def _running(attempt: Attempted) -> str:
    return "running" if attempt.state == "fresh" else attempt.state


def _heard(age: float) -> str:
    return f"heard {age:.0f} s ago" if age >= 0 else f"dated {-age:.0f} s in the future"


def _newer(attempt: Attempted, than: Committed) -> bool:
    return (attempt.opened or "") >= (than.committed or "")


def _who(of: Attempted | Committed) -> str:
    return f"attempt {of.attempt} of {of.execution_id or '-'}"
