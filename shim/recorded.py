"""What the records of others hold: a table of fields for each, and the one place that reads them.

A field that is not named here is passed over and kept: a newer version wrote it. One that is named
and holds something else makes the record unreadable, under its address and with what to do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Required, TypedDict, TypeVar, cast

from shim.errors import UnreadableError, shown
from shim.pipeline import NAME, RESERVED
from shim.store import Store
from shim.typed import Code, Count, Moment, Pid, Rule, check, document, faults

# Part of a key: an attempt, a launch.
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
Id = Annotated[str, Rule("name of an attempt or a launch", lambda text: bool(ID.fullmatch(text)))]
Digest = Annotated[str, Rule("SHA-256", re.compile(r"[0-9a-f]{64}").fullmatch)]
# docs.aws.amazon.com/ec2/latest/devguide/ec2-resource-ids.html, and shorter ones of tests.
Instance = Annotated[str, Rule("instance id", re.compile(r"[A-Za-z0-9-]{0,64}").fullmatch)]
Inside = Annotated[
    str,
    Rule("relative path", lambda text: text[:1] not in ("", "/") and ".." not in text.split("/")),
]
T = TypeVar("T")


class Who(TypedDict, total=False):
    """Where a process runs or ran: shim.liveness writes it."""

    host: str | None
    machine: str | None
    pid: Pid | None
    started: str | None


class State(TypedDict):
    """All that must be readable of a receipt to know whether its attempt has ended."""

    state: Literal["open", "closed"]


class Receipt(Who, total=False):
    """What one attempt left. Its times are shown and compared as texts, never computed with."""

    state: Required[Literal["open", "closed"]]
    execution_id: str | None
    opened: str | None
    closed: str | None
    outcome: str | None
    code: Code | None
    error: str | None


class Entry(Who, total=False):
    """What a claim says of one attempt."""

    attempt: Required[Id]
    execution_id: str | None
    launch: Id | None
    opened: str | None


class Claim(TypedDict, total=False):
    """Who owns the stages of one run date; each entry is judged by itself (see `Claimed`)."""

    run_date: str | None
    open: Required[dict[str, Any]]


class Bundle(TypedDict):
    """Where a launch's code is, and what it must be."""

    key: str
    sha256: Digest


class Launch(Who, total=False):
    """An instance: what its launcher, the instance itself and everybody else need of it."""

    state: Required[Literal["open", "closed"]]
    launch: Required[Id]
    execution_id: str | None
    stages: list[str]
    opened: str | None
    deadline: Moment
    launched: Moment | None
    closed: Moment
    outcome: str | None
    code: Code | None
    error: str | None
    bundle: Bundle
    detached: bool
    booted: str | None
    log: str | None
    instance: Instance | None
    type: str | None
    market: str | None
    zone: str | None
    price: float | None
    run_seconds: float
    cost: float | None


class Work(TypedDict):
    """What an instance is told in its launch record beside all that is in Launch."""

    launch: Id
    deadline: Moment
    plan: dict[str, Any]
    entry: Inside
    root: Inside
    pipeline: str


class SavedFile(TypedDict):
    """A file of a checkpoint."""

    size: Count
    sha256: Digest
    executable: bool


class Manifest(TypedDict):
    """A checkpoint."""

    files: dict[str, SavedFile]


@dataclass(frozen=True)
class Claimed:
    """One entry of a claim: what can be read of it, and what is wrong with the rest.

    Whose it is cannot be known where `known` has no `attempt`.
    """

    stage: str
    known: Mapping[str, Any]
    problem: str = ""

    @property
    def attempt(self) -> str | None:
        """The attempt's id."""
        return self.known.get("attempt")


def receipt_key(prefix: str, stage: str, attempt: str) -> str:
    """Return the key of a receipt under a run prefix."""
    return f"{prefix}{RESERVED}/{stage}/{attempt}.json"


def claim_key(prefix: str) -> str:
    """Return the key of a run date's claim; no stage's name starts with an underscore."""
    return f"{prefix}{RESERVED}/_claim.json"


def read(store: Store, key: str, body: bytes, shape: type[T]) -> T:
    """Return a record's values, all of them. Raises UnreadableError."""
    return read_text(store.uri_of(key), body, shape)


def read_text(where: str, body: bytes, shape: type[T]) -> T:
    """Return the values of a record that was read from an address. Raises UnreadableError."""
    try:
        values = document(body)
        check(shape, values)
    except (ValueError, TypeError) as error:
        raise unreadable(where, str(error)) from error
    return cast(T, values)


def parsed(store: Store, key: str, body: bytes) -> dict[str, Any]:
    """Return the values of a record that is open or closed. Raises UnreadableError."""
    return {**read(store, key, body, State)}


def unreadable(uri: str, why: str) -> UnreadableError:
    """Return the error for a record that cannot be read: where it is, why, how to move it away."""
    why = why if why.startswith("is ") else f"cannot be read ({why})"
    move = "aws s3 mv" if uri.startswith("s3://") else "mv"
    there = shlex.quote(uri), shlex.quote(f"{uri}.unreadable")
    return UnreadableError(
        f"{uri} {why}",
        f"if nothing runs at this date, move it away: {move} {' '.join(there)}",
    )


def claimed(claim: Claim) -> Iterator[Claimed]:
    """Return the entries of a claim."""
    for stage, entry in claim["open"].items():
        if not NAME.fullmatch(stage):
            yield Claimed(stage, {}, f"{shown(stage)} is no stage")
        elif not isinstance(entry, dict):
            yield Claimed(stage, {}, f"{stage} is {shown(entry)}, which is no object")
        else:
            wrong = faults(Entry, entry)
            about = {"stage": stage, "run_date": claim.get("run_date")}
            known = {k: v for k, v in entry.items() if k not in wrong}
            why = next((f"of {stage}: {text}" for text in wrong.values()), "")
            yield Claimed(stage, {**about, **known}, why)
