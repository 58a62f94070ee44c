"""What the front does for a supervisor that was killed: ship the log, keep the files, close."""

from __future__ import annotations

import time
from pathlib import Path

from shim import commit, record, ship, tidy
from shim.errors import ShimError
from shim.kept import Keeper
from shim.outcome import Result
from shim.plan import Plan, StagePlan
from shim.sinks import say
from shim.store import Store, open_store


def close(
    plan: Plan,
    stage: StagePlan,
    attempt: str,
    log: Path,
    keeper: Keeper,
    why: str,
    started: float,
) -> Result:
    """End an attempt in the place of its supervisor and return what there is to report."""
    result = Result("lost", time.monotonic() - started, str(log) if tidy.is_file(log) else "-")
    kept: dict[str, str] = {}
    try:
        store = open_store(plan.store)
        if tidy.is_file(log) and (shipper := ship.started(store, plan, stage, log)).finish():
            result.log = shipper.uri
            tidy.remove_file(log)
        say(f"{stage.name}: {why}; its log is {result.log}")
        if not _committed(store, plan, stage, attempt):
            where = keeper.keep(store, lambda: True)
            kept = {"kept": where} if where else {}
        known = record.identity(plan, stage.name, attempt)
        record.close_left(store, plan.run_prefix, known, why, log=result.log, **kept)
    except ShimError as error:
        say(f"{stage.name}: {why}; its receipt stays open: {error}")
    keeper.tidy(log)
    return result


def _committed(store: Store, plan: Plan, stage: StagePlan, attempt: str) -> bool:
    try:
        made = commit.read(store, plan.run_prefix, stage.name)
    except ShimError:  # nobody knows: what is kept too much harms nobody
        return False
    return made is not None and made.attempt == attempt
