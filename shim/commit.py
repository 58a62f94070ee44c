"""Commits: the one object that says a stage is complete, and lists exactly what it published."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from shim.errors import BusyError, PreflightError, shown
from shim.pipeline import NAME, RESERVED, artifact_problem
from shim.store import ABSENT, Conflict, Missing, Store
from shim.typed import build, check, document


@dataclass(frozen=True)
class Artifact:
    """One published file: `size` in bytes, `sha256` as hex, `etag` as the store gave it."""

    size: int
    sha256: str
    etag: str


class Parts(TypedDict):
    """Those fields of a commit that hold others; all must be as they are declared in Commit."""

    artifacts: dict[str, dict[str, Any]]
    built_on: dict[str, str | None]


@dataclass(frozen=True)
class Commit:
    """What one stage published for one run date.

    `built_on` holds the digest of each commit that it used, None for artifacts that were trusted
    without one. `etag` is the commit object's own.
    """

    stage: str
    run_date: str
    execution_id: str
    attempt: str
    code_version: str
    committed: str
    artifacts: Mapping[str, Artifact]
    built_on: Mapping[str, str | None]
    etag: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over what was published: equal for two attempts that published the same bytes."""
        names = sorted(self.artifacts)
        listed = [[n, self.artifacts[n].size, self.artifacts[n].sha256] for n in names]
        text = json.dumps([self.stage, self.run_date, listed])
        return hashlib.sha256(text.encode()).hexdigest()


def key(prefix: str, stage: str) -> str:
    """Return the key of a stage's commit under a run prefix."""
    return f"{prefix}{RESERVED}/{stage}.json"


def read(store: Store, prefix: str, stage: str) -> Commit | None:
    """Return a stage's commit, verified or not. Raises PreflightError if it cannot be read."""
    found = store.read(key(prefix, stage))
    if found is None:
        return None
    body, there = found
    try:
        commit = _parsed(body, there.etag)
        wrong = commit.stage != stage and f"it is of {shown(commit.stage)}"
    except (ValueError, TypeError) as error:
        wrong = str(error)
    if wrong:
        raise PreflightError(
            f"{store.uri_of(key(prefix, stage))} is not a commit ({wrong})",
            f"run {stage} again after moving it away",
        )
    return commit


def _parsed(body: bytes, etag: str) -> Commit:
    """Return the commit in a text. Raises ValueError, TypeError for a text that is none."""
    values = document(body)
    check(Parts, values)
    artifacts = {path: build(Artifact, row) for path, row in values.pop("artifacts").items()}
    for path, artifact in artifacts.items():
        if problem := artifact_problem(path):
            raise ValueError(f"{shown(path)} {problem}")
        if artifact.size < 0:
            raise ValueError(f"{shown(path)} has {artifact.size} bytes")
    built_on = values.pop("built_on")
    for name in built_on:
        if not NAME.fullmatch(name):
            raise ValueError(f"{shown(name)} is no stage")
    return build(Commit, values, artifacts=artifacts, built_on=built_on, etag=etag)


def write(store: Store, prefix: str, commit: Commit, before: str | None) -> Commit:
    """Write a commit in one conditional put. Raises BusyError when another attempt was first.

    `before` is the etag of the commit that was there when the attempt started, None for none.
    """
    values = dataclasses.asdict(commit)
    del values["etag"]
    body = json.dumps(values, indent=1).encode()
    try:
        there = store.put(key(prefix, commit.stage), body, before or ABSENT)
    except Conflict as error:
        winner = read(store, prefix, commit.stage)
        if winner and winner.attempt == commit.attempt:
            return winner  # it was written, and the answer was lost
        who = f"attempt {winner.attempt} of {winner.execution_id}" if winner else "another attempt"
        raise BusyError(
            f"{commit.stage} at {commit.run_date} was committed by {who} meanwhile; "
            f"attempt {commit.attempt} is not committed",
            "use that commit, or run the stage again",
        ) from error
    return dataclasses.replace(commit, etag=there.etag)


def problems(store: Store, prefix: str, commit: Commit, run_date: str) -> list[str]:
    """Return why a commit does not verify: nothing if every object it lists is there unchanged."""
    if commit.run_date != run_date:
        return [f"the commit of {commit.stage} carries the run date {commit.run_date}"]
    wrong = []
    for path, artifact in commit.artifacts.items():
        state = changed(store, prefix + path, artifact)
        if state:
            wrong.append(f"{path} of {commit.stage} {state}")
    for stage, digest in commit.built_on.items():
        below = read(store, prefix, stage) if digest else None
        if digest and (below is None or below.digest != digest):
            wrong.append(f"{commit.stage} was built on another {stage} than the one that is there")
    return wrong


def verified(store: Store, prefix: str, stage: str, run_date: str) -> Commit | None:
    """Return a stage's commit if there is one and it verifies.

    Raises PreflightError if it cannot be read.
    """
    there = read(store, prefix, stage)
    return there if there and not problems(store, prefix, there, run_date) else None


def changed(store: Store, name: str, artifact: Artifact) -> str | None:
    """Return what happened to a published file since its commit, None if it is there unchanged."""
    there = store.head(name)
    if there is None:
        return "is gone"
    if there.size != artifact.size:
        return f"has {there.size} bytes, not {artifact.size}"
    if store.etag_tells_content and there.etag == artifact.etag:
        return None
    try:
        same = store.digest(name, there.etag) == artifact.sha256
    except (Missing, Conflict):
        return "was changed while it was read"
    return None if same else "was changed"
