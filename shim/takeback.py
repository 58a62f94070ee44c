"""A publication that fails is taken back: no file stays in the store that no commit lists.

Before its first put an attempt says in its receipt what it is about to publish, by path and SHA-256
(`publishing`). What could not be taken back is still there when the receipt is closed, and its
paths are in `left`; an attempt that was killed has only `publishing`. The next attempt at the stage
reads both, before it does anything else.

What replaced a file of the commit before with other bytes goes too. They cannot be had back, so
that commit does not verify in any case, and nobody must take for its file what an attempt made that
failed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from shim import artifacts, clock, commit, recorded
from shim.artifacts import Found
from shim.commit import Artifact, Commit
from shim.endure import Enduring
from shim.errors import RecordError, ShimError
from shim.pipeline import RESERVED, artifact_problem
from shim.plan import Plan, StagePlan
from shim.private import listed
from shim.record import HEARTBEAT, Attempt
from shim.store import Conflict, Missing, Object, Store

PUBLISHING, LEFT = "publishing", "left"  # fields of a receipt
PLACE = "artifacts_dir"  # another: where the files are if nobody is left to keep them
MOST = 10_000  # files in a receipt, which is written again every 30 s
RECENT = 10  # receipts of earlier attempts that are read


def begin(
    store: Store, plan: Plan, stage: StagePlan, attempt: Attempt, tell: Callable[[str], None]
) -> dict[str, Object]:
    """Take back what earlier attempts have left; return what there is under the run prefix."""
    there = artifacts.snapshot(store, plan)
    try:
        gone = take_back_earlier(store, plan, stage, there, attempt.id)
    except ShimError as error:  # the attempt's own next step says what is wrong, if it still is
        tell(f"what an earlier attempt published stays ({error})")
        return there
    if not gone:
        return there
    tell(f"took back what an earlier attempt published and did not commit: {listed(gone)}")
    return artifacts.snapshot(store, plan)


def announce(
    store: Enduring, attempt: Attempt, found: Iterable[Found], replaced: Commit | None
) -> None:
    """Say in the receipt what is to be published and is not there by the commit before.

    Raises BusyError when the attempt was superseded.
    """
    known = replaced.artifacts if replaced else {}
    new = {one.path: one.sha256 for one in found if not _listed(known, one.path, one.sha256)}
    said = {PUBLISHING: dict(list(new.items())[:MOST])} if new else {}
    store.again(lambda: attempt.write(heartbeat=clock.iso(attempt.store.now()), **said))


def forget(attempt: Attempt) -> None:
    """Leave out of the receipt what is true only while the attempt is at work."""
    attempt.release()
    for name in (PUBLISHING, PLACE):
        attempt.values.pop(name, None)


def fail(
    store: Enduring,
    attempt: Attempt,
    sent: Mapping[str, str | None],
    before: Mapping[str, Object],
) -> dict[str, Any]:
    """Take back what an attempt has put; return what is to be added to its receipt.

    `before` is what was there when it began: what still is, it has not put.
    """
    digests = attempt.values.get(PUBLISHING, {})
    heard = -math.inf

    def still_mine() -> None:
        nonlocal heard
        if time.monotonic() - heard > HEARTBEAT:
            store.again(attempt.beat)
            heard = time.monotonic()

    left = []
    if sent:
        left = take_back(store, attempt.plan, attempt.stage, digests, sent, still_mine, before)
    forget(attempt)
    if left:
        attempt.values[PUBLISHING] = {path: digests[path] for path in left if path in digests}
    return {LEFT: left[:MOST]} if left else {}


def take_back(
    store: Store,
    plan: Plan,
    stage: str,
    digests: Mapping[str, str],
    etags: Mapping[str, str | None],
    still_mine: Callable[[], None],
    before: Mapping[str, Object],
) -> list[str]:
    """Delete what was put and no commit lists; return the paths that may still be there.

    An object that has not the etag that its put gave, or where that was not heard the SHA-256, is
    somebody else's. `still_mine` raises when an attempt must not delete any more.
    """
    waiting = list(etags)
    try:
        current = commit.read(store, plan.run_prefix, stage)
        known = current.artifacts if current else {}
        while waiting:
            path = waiting[0]
            if not _listed(known, path, digests.get(path)):
                still_mine()
                with suppress(Conflict, Missing):
                    there = etags[path] or _own(store, plan, path, digests.get(path), before)
                    if there:
                        store.delete(plan.run_prefix + path, there)
            waiting.pop(0)
    except ShimError:
        return waiting
    return []


def take_back_earlier(
    store: Store, plan: Plan, stage: StagePlan, there: Mapping[str, Object], mine: str
) -> list[str]:
    """Take back what earlier attempts at a stage have left; return the paths that they named.

    `there` is what lies under the run prefix, `mine` the id of the attempt that asks: it owns the
    stage, so nobody else writes these files. Raises ShimError for a store that does not answer.
    """
    folder = f"{RESERVED}/{stage.name}/"
    names = [p for p in there if p.startswith(folder) and p.endswith(".json")]
    names = [p for p in names if "/" not in p.removeprefix(folder) and p != f"{folder}{mine}.json"]
    owners: dict[str, str] | None = None
    done: list[str] = []
    for name in sorted(names, reverse=True)[:RECENT]:
        values, etag = _closed(store, plan.run_prefix + name)
        digests = _files(values.get(PUBLISHING))
        if not digests or values.get("outcome") == "committed":
            continue
        if owners is None:
            owners = artifacts.owners_of(store, plan, stage)
        ours = [path for path in digests if owners.get(path, stage.name) == stage.name]
        left = take_back(store, plan, stage.name, digests, dict.fromkeys(ours), lambda: None, {})
        done += [path for path in ours if path not in left and path in there]
        if not left:
            kept = {k: v for k, v in values.items() if k not in (PUBLISHING, LEFT)}
            with suppress(Conflict, ShimError):  # then it is looked at once more, for nothing
                store.put(plan.run_prefix + name, json.dumps(kept, indent=1).encode(), etag)
    return done


def _listed(known: Mapping[str, Artifact], path: str, sha256: str | None) -> bool:
    """Return whether a commit lists these bytes; without a digest they are those of a commit."""
    return path in known and sha256 in (None, known[path].sha256)


def _own(
    store: Store, plan: Plan, path: str, sha256: str | None, before: Mapping[str, Object]
) -> str | None:
    """Return the etag of what a put made whose answer was not heard, None if it made nothing."""
    key = plan.run_prefix + path
    found = store.head(key)
    if found is None or (path in before and before[path].etag == found.etag):
        return None
    return found.etag if store.digest(key, found.etag) == sha256 else None


def _closed(store: Store, key: str) -> tuple[dict[str, Any], str]:
    """Return the values of a closed receipt and its etag; nothing for any other."""
    found = store.read(key)
    if found is None:
        return {}, ""
    try:
        values = recorded.parsed(store, key, found[0])
    except RecordError:  # a foreign one, which says nothing of files
        return {}, ""
    return (values if values.get("state") == "closed" else {}), found[1].etag


def _files(value: object) -> dict[str, str]:
    """Return paths and digests out of a receipt, which somebody may have written by hand."""
    if not isinstance(value, dict):
        return {}
    return {
        path: digest
        for path, digest in value.items()
        if isinstance(digest, str) and artifact_problem(path) is None
    }
