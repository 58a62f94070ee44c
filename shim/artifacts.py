"""A stage's files: brought in from commits, checked against the contract, published one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from shim import commit, private
from shim.commit import Artifact, Commit
from shim.errors import BusyError, ContractError, PreflightError, RecordError, shown
from shim.pipeline import artifact_problem
from shim.plan import Plan, StagePlan
from shim.store import ABSENT, Conflict, Missing, Object, Progress, Store


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
    """Return the files that a stage added. Raises ContractError, which names all that is wrong.

    `owners` names the stage that an artifact belongs to; its file cannot be changed by this one.
    """
    files, wrong = private.survey(folder)
    others = {path: owner for path, owner in owners.items() if owner != stage.name}
    others |= {path: owners.get(path, "another stage") for path in brought}
    above = {str(parent): path for path in others for parent in PurePosixPath(path).parents}
    found, changed = [], []
    for path, file in files.items():
        if problem := artifact_problem(path) or _misplaced(path, above, others):
            wrong[path] = problem
            continue
        try:
            about, size, digest = private.hashed(file)
        except OSError as error:
            wrong[path] = private.cannot_be_read(error)
            continue
        if path not in others:
            found.append(Found(path, file, size, digest, about.st_mtime_ns))
        elif digest != brought.get(path):
            changed.append(path)
    ours = {*files, *wrong}
    gone = [path for path in brought if path not in ours]
    missing = [path for path in stage.produces if path not in ours]
    if wrong or changed or gone or missing:
        raise _broken(stage, others, wrong, {"changed": changed, "removed": gone}, missing)
    return found


def publish(
    store: Store,
    plan: Plan,
    found: list[Found],
    before: Mapping[str, Object],
    still_mine: Callable[[], None],
    meter: Meter,
    sent: dict[str, str | None],
) -> dict[str, Artifact]:
    """Put every file into the store and return what a commit lists.

    Each put is conditional on what was there when the attempt began, so an attempt that was
    superseded meanwhile cannot replace its successor's file; `still_mine` raises if it was. `sent`
    gets the etag of each file, None while it is under way, also of a publication that fails.
    Raises ContractError for a file that changes, or cannot be read any more.
    """
    published = {}
    for one in found:
        key = plan.run_prefix + one.path
        seen = before.get(one.path)
        sent[one.path] = None
        with _from(one):
            try:
                there = store.put(key, one.file, seen.etag if seen else ABSENT, meter(one))
            except Conflict:
                # Either a late write of an attempt that this one superseded, or a successor's.
                still_mine()
                there = _replace(store, key, one, meter)
        sent[one.path] = there.etag
        with _readable(one.path):
            status = one.file.lstat()
        # What is mapped into memory can change without a new time (mmap(2)), so the bytes that were
        # sent are compared: a commit lists what is in the store, and nothing else.
        found_now = (there.size, there.sha256, status.st_size, status.st_mtime_ns)
        if found_now != (one.size, one.sha256, one.size, one.changed):
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


def _misplaced(path: str, above: Mapping[str, str], others: Mapping[str, str]) -> str | None:
    """Return why a file cannot lie where it does: no name is a file and a folder at once."""
    if path in above:
        return f"is in the way of {above[path]}, which belongs to {others[above[path]]}"
    for parent in map(str, PurePosixPath(path).parents):
        if parent in others:
            return f"lies under {parent}, which is a file of {others[parent]}"
    return None


def _broken(
    stage: StagePlan,
    others: Mapping[str, str],
    wrong: Mapping[str, str],
    done: Mapping[str, list[str]],
    missing: list[str],
) -> ContractError:
    """Return what a stage left undone, in one error."""
    said, hints = [], []
    if wrong:
        names = private.listed(f"{shown(path)} {why}" for path, why in sorted(wrong.items()))
        said.append(f"{stage.name} left what cannot be published: {names}")
        hints.append("write plain files, or links to files in ARTIFACTS_DIR, under plain names")
    for verb, paths in done.items():
        if paths:
            names = private.listed(f"{path}, which belongs to {others[path]}" for path in paths)
            said.append(f"{stage.name} {verb} {names}")
            hints.append("let it be, and write under another name")
    if missing:
        said.append(f"{stage.name} exited 0 without {', '.join(missing)}")
        hints.append("it must write every file of produces to ARTIFACTS_DIR")
    return ContractError(" and ".join(said), "; ".join(dict.fromkeys(hints)))


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


@contextmanager
def _from(one: Found) -> Iterator[None]:
    """Tell a file that the stage has taken away from a store that cannot be written."""
    try:
        yield
    except RecordError as error:
        with _readable(one.path):
            digest = private.hashed(one.file)[2]
        if digest != one.sha256:
            raise _unsteady(one.path) from error
        raise
