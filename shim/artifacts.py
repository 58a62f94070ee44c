"""A stage's files: brought in from commits, checked against the contract, published one by one."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shim import commit
from shim.commit import Artifact, Commit
from shim.errors import BusyError, ContractError, PreflightError
from shim.pipeline import artifact_problem
from shim.plan import Plan, StagePlan
from shim.store import ABSENT, PIECE, Conflict, Missing, Object, Progress, Store


@dataclass(frozen=True)
class Found:
    """A file that a stage left: where it is, what it holds and when it was last changed (ns)."""

    path: str
    file: Path
    size: int
    sha256: str
    changed: int


Meter = Callable[[Found], Progress]


def bring_in(
    store: Store, plan: Plan, stage: StagePlan, commits: Mapping[str, Commit | None], folder: Path
) -> dict[str, str]:
    """Copy what a stage requires into its folder and return the SHA-256 of each file.

    Raises PreflightError if an artifact is not what its commit lists.
    """
    brought = {}
    listed = {p: a for c in commits.values() if c for p, a in c.artifacts.items()}
    for path in stage.requires:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        key = plan.run_prefix + path
        try:
            digest = store.get(key, target)
        except Missing as error:
            raise PreflightError(
                f"{store.uri_of(key)} is missing, and {stage.name} requires it",
                "run the stage that produces it",
            ) from error
        except Conflict as error:
            raise PreflightError(
                f"{store.uri_of(key)} was changed while it was read", "find out by whom"
            ) from error
        if path in listed and digest != listed[path].sha256:
            raise PreflightError(
                f"{store.uri_of(key)} is not the file that its commit lists",
                "run the stage that produces it again",
            )
        brought[path] = digest
    return brought


def snapshot(store: Store, plan: Plan) -> dict[str, Object]:
    """Return everything under the run prefix: what a publication may replace."""
    start = len(plan.run_prefix)
    return {found.key[start:]: found for found in store.list(plan.run_prefix)}


def owners_of(store: Store, plan: Plan, stage: StagePlan) -> dict[str, str]:
    """Return the stage that each artifact belongs to: by its commit, else by the table."""
    found = {path: other.name for other in plan.stages for path in other.produces}
    for other in plan.stages:
        if other.name != stage.name:
            there = commit.read(store, plan.run_prefix, other.name)
            found |= dict.fromkeys(there.artifacts if there else (), other.name)
    return found


def collect(
    stage: StagePlan, folder: Path, brought: Mapping[str, str], owners: Mapping[str, str]
) -> list[Found]:
    """Return the files that a stage added. Raises ContractError.

    `owners` names the stage that an artifact belongs to; its file cannot be changed by this one.
    """
    found = []
    for file in _files(stage, folder):
        path = file.relative_to(folder).as_posix()
        if problem := artifact_problem(path):
            raise ContractError(
                f"{stage.name} left a file that cannot be published: {path!a} {problem}",
                "write artifacts under plain relative names",
            )
        with _readable(path):
            changed = file.stat().st_mtime_ns
            size, digest = _hashed(file)
        if path in brought:
            if digest != brought[path]:
                raise _foreign(stage, path, owners.get(path, "another stage"))
            continue
        if owners.get(path, stage.name) != stage.name:
            raise _foreign(stage, path, owners[path])
        found.append(Found(path, file, size, digest, changed))
    there = {one.path for one in found}
    missing = [path for path in stage.produces if path not in there]
    if missing:
        raise ContractError(
            f"{stage.name} exited 0 without {', '.join(missing)}",
            "it must write every file of produces to ARTIFACTS_DIR",
        )
    return found


def publish(
    store: Store,
    plan: Plan,
    found: list[Found],
    before: Mapping[str, Object],
    still_mine: Callable[[], None],
    meter: Meter,
) -> dict[str, Artifact]:
    """Put every file into the store and return what a commit lists.

    Each put is conditional on what was there when the attempt began, so an attempt that was
    superseded meanwhile cannot replace its successor's file; `still_mine` raises if it was.
    """
    published = {}
    for one in found:
        key = plan.run_prefix + one.path
        seen = before.get(one.path)
        try:
            there = store.put(key, one.file, seen.etag if seen else ABSENT, meter(one))
        except Conflict:
            # Either a late write of an attempt that this one superseded, or a successor's.
            still_mine()
            there = _replace(store, key, one, meter)
        with _readable(one.path):
            status = one.file.stat()
        # What is mapped into memory can change without a new time (mmap(2)), so the bytes that were
        # sent are compared: a commit lists what is in the store, and nothing else.
        sent = (there.size, there.sha256, status.st_size, status.st_mtime_ns)
        if sent != (one.size, one.sha256, one.size, one.changed):
            raise _unsteady(one.path)
        published[one.path] = Artifact(there.size, one.sha256, there.etag)
    return published


def retire(
    store: Store,
    plan: Plan,
    replaced: Commit | None,
    published: Mapping[str, Artifact],
    still_mine: Callable[[], None],
) -> list[str]:
    """Delete what the replaced commit lists and this attempt did not publish; return the paths.

    A file that a reader could take for a result of this run must not stay; one that somebody else
    put in its place does.
    """
    gone = []
    for path, artifact in (replaced.artifacts if replaced else {}).items():
        key = plan.run_prefix + path
        there = store.head(key)
        if path in published or not there or commit.changed(store, key, artifact):
            continue
        still_mine()
        with suppress(Conflict):  # a successor of this attempt has just written it
            store.delete(key, there.etag)
            gone.append(path)
    return gone


def verify_direct(
    store: Store, plan: Plan, stage: StagePlan, before: Mapping[str, Object], started: datetime
) -> dict[str, Artifact]:
    """Return what a stage with io = "direct" wrote to the store itself. Raises ContractError.

    New is what changed since the attempt began and is no older, by the store's own clock.
    """
    published = {}
    for path in stage.produces:
        key = plan.run_prefix + path
        there = store.head(key)
        if there is None:
            raise ContractError(
                f"{stage.name} exited 0 without {store.uri_of(key)}",
                "it must write every file of produces to ARTIFACTS_URI",
            )
        seen = before.get(path)
        written = seen is None or there.etag != seen.etag or there.modified > seen.modified
        if not written or there.modified < started:
            raise ContractError(
                f"{stage.name} exited 0 and {store.uri_of(key)} is older than this attempt",
                "it must write every file of produces anew",
            )
        try:
            digest = store.digest(key, there.etag)
        except (Missing, Conflict) as error:
            raise _unsteady(path) from error
        published[path] = Artifact(there.size, digest, there.etag)
    return published


def _replace(store: Store, key: str, one: Found, meter: Meter) -> Object:
    now = store.head(key)
    try:
        return store.put(key, one.file, now.etag if now else ABSENT, meter(one))
    except Conflict as error:
        raise BusyError(
            f"somebody else keeps writing {store.uri_of(key)}", "find out who, then run it again"
        ) from error


def _foreign(stage: StagePlan, path: str, owner: str) -> ContractError:
    return ContractError(
        f"{stage.name} changed {path}, which belongs to {owner}", "write under another name"
    )


def _unsteady(path: str) -> ContractError:
    return ContractError(
        f"{path} changed while it was published", "a process of the stage lives on"
    )


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ContractError(
            f"the artifact {path!a} cannot be read ({error.strerror})",
            "it must stay, and be readable for whom the stage runs as",
        ) from error


def _files(stage: StagePlan, folder: Path) -> list[Path]:
    """Return the regular files under a folder, sorted. Raises ContractError for any other kind."""

    def unreadable(error: OSError) -> None:
        with _readable(os.path.relpath(error.filename, folder)):
            raise error

    files = []
    for where, folders, names in os.walk(folder, onerror=unreadable):
        for name in (*folders, *names):
            path = Path(where, name)
            with _readable(name):
                mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                files.append(path)
            elif not stat.S_ISDIR(mode):
                raise ContractError(
                    f"{stage.name} left {str(path.relative_to(folder))!a}, which is no plain file",
                    "copy what a link points to; remove sockets and pipes",
                )
    return sorted(files)


def _hashed(file: Path) -> tuple[int, str]:
    """Return a file's size and SHA-256, read in pieces."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
