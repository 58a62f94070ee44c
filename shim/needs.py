"""What a stage stands on: the commits of the stages it needs, verified and not believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from shim import commit
from shim.commit import Commit
from shim.errors import PreflightError
from shim.plan import DRY_RUN, PREFIX, Plan, StagePlan
from shim.rundate import is_run_date
from shim.store import Store

LOOK_BACK = 31  # run dates that are tried for a hint


def stages(plan: Plan, stage: StagePlan) -> list[str]:
    """Return the stages that a stage needs and those whose artifacts it requires."""
    owners = {path: other.name for other in plan.stages for path in other.produces}
    return list(dict.fromkeys([*stage.needs, *(owners[path] for path in stage.requires)]))


def of(store: Store, plan: Plan, stage: StagePlan, need: str) -> Commit | None:
    """Return the verified commit of a needed stage; None for artifacts trusted without one.

    Raises PreflightError when it does not verify, or there is none and it is not to be trusted.
    """
    found = commit.read(store, plan.run_prefix, need)
    if found is None:
        trusted = _required(plan, stage, need) or plan.stage(need).produces
        lacking = [path for path in trusted if not store.head(plan.run_prefix + path)]
        if plan.trust_existing and not lacking:
            return None
        raise PreflightError(
            f"{stage.name} needs {need}, and {need} has no commit under "
            f"{store.uri_of(plan.run_prefix)}{_lacking(lacking)}",
            f"run {need} for {plan.run_date} first"
            + ("" if lacking else ", or accept its artifacts with --trust-existing"),
        )
    wrong = commit.problems(store, plan.run_prefix, found, plan.run_date)
    unlisted = [path for path in _required(plan, stage, need) if path not in found.artifacts]
    wrong += [f"it does not list {path}" for path in unlisted]
    if wrong:
        raise PreflightError(
            f"{stage.name} needs {need}, and its commit under {store.uri_of(plan.run_prefix)} "
            f"does not verify: {', '.join(wrong)}",
            f"run {need} for {plan.run_date} again",
        )
    return found


def newest_complete(store: Store, plan: Plan, names: Iterable[str]) -> str | None:
    """Return the newest other run date at which all these stages have a commit that verifies."""
    needed = list(names)
    base = PREFIX + (DRY_RUN if plan.dry_run else "")
    for date in islice(_dates(store, base, plan.run_date), LOOK_BACK):
        prefix = f"{base}{date}/"
        if all(_verifies(store, prefix, stage, date) for stage in needed):
            return date
    return None


def _dates(store: Store, base: str, but: str) -> Iterator[str]:
    for name in reversed(store.folders(base)):
        if is_run_date(name) and name != but:
            yield name


def _verifies(store: Store, prefix: str, stage: str, date: str) -> bool:
    try:
        return commit.verified(store, prefix, stage, date) is not None
    except PreflightError:  # an unreadable commit is none
        return False


def _required(plan: Plan, stage: StagePlan, need: str) -> list[str]:
    produced = plan.stage(need).produces
    return [path for path in stage.requires if path in produced]


def _lacking(paths: list[str]) -> str:
    return f" (missing: {', '.join(paths)})" if paths else ""
