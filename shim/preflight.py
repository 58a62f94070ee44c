"""Everything that can be known to be wrong before a stage runs, all of it at once."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shim import clock, fields, needs, reclaim
from shim.endure import Enduring, unanswered
from shim.environment import child_environment
from shim.errors import AccessError, PipelineError, PreflightError, ShimError
from shim.plan import Plan, StagePlan
from shim.sinks import say
from shim.store import ABSENT, Store, open_store

PROBES = "_tmp/"  # in the store, outside of every run prefix
FREE = 100 << 20  # bytes that must be free where a stage writes
# S3 refuses requests that are 15 minutes off (RequestTimeTooSkewed):
# docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
SKEW = 15 * 60
ORDER = (PipelineError.code, AccessError.code, PreflightError.code)


def check(plan: Plan) -> list[ShimError]:
    """Return every problem, in words for a person; nothing for a plan that can start."""
    problems: list[ShimError] = []
    if plan.on == "here":
        for stage in plan.planned:
            problems += _command(plan, stage)
        problems += _temporary()
    try:
        store = open_store(plan.store)
        if reclaim.launch():  # on an instance nobody is there to be told at once
            store = Enduring(store, lambda: None, say)
        _writable(store)
        if plan.store.startswith("s3://"):
            problems += _clock(store)
        else:
            problems += _disk(plan.store, "the store; choose another with --store")
        problems += _inputs(store, plan)
        problems += _needs(store, plan)
    except ShimError as error:
        problems.append(unanswered(error))
    return list({str(problem): problem for problem in problems}.values())


def code(problems: list[ShimError]) -> int:
    """Return the exit code that stands for a list of problems."""
    codes = {problem.code for problem in problems}
    return next((known for known in ORDER if known in codes), min(codes))


def _command(plan: Plan, stage: StagePlan) -> Iterator[ShimError]:
    values = {"python": sys.executable, "artifacts_dir": "."}
    words = [fields.fill(part, values) for part in stage.command]
    root = Path(plan.root)
    try:
        path = child_environment(plan, stage, "", "").get("PATH")
    except PipelineError as error:
        yield error
        return
    # As execvp(3) will look for it from the stage's working directory.
    name = str(root / words[0]) if "/" in words[0] else words[0]
    if shutil.which(name, path=path) is None:
        yield PreflightError(
            f"{stage.name} runs {words[0]}, which is not there or cannot be executed",
            f"install it, or mend its command in {plan.pipeline}",
        )
        return
    script = words[1] if words[0] == sys.executable and len(words) > 1 else ""
    if script.endswith(".py") and not (root / script).is_file():
        yield PreflightError(
            f"{stage.name} runs {root / script}, which is not there",
            f"mend its command in {plan.pipeline}",
        )


def _temporary() -> Iterator[ShimError]:
    hint = "point TMPDIR elsewhere"
    try:
        yield from _disk(tempfile.gettempdir(), f"temporary files; {hint}")
    except OSError as error:
        yield PreflightError(f"there is no folder for temporary files ({error.strerror})", hint)


def _disk(where: str, what: str) -> Iterator[ShimError]:
    free = shutil.disk_usage(where).free
    if free < FREE:
        yield PreflightError(f"{where} has {free >> 20} MiB free, too little for {what}")


def _writable(store: Store) -> None:
    """Write and remove a probe. Raises ShimError."""
    key = f"{PROBES}preflight-{secrets.token_hex(8)}"
    store.put(key, b"", ABSENT)
    store.delete(key)


def _clock(store: Store) -> Iterator[ShimError]:
    ahead = (clock.utc_now() - store.now()).total_seconds()
    if abs(ahead) > SKEW:
        yield PreflightError(
            f"this machine's clock is {abs(ahead) / 60:.0f} minutes "
            f"{'ahead of' if ahead > 0 else 'behind'} that of {store.uri}",
            "set it; timedatectl shows it",
        )


def _inputs(store: Store, plan: Plan) -> Iterator[ShimError]:
    for stage in plan.planned:
        for key in stage.inputs:
            if store.head(key) is None:
                yield PreflightError(
                    f"{store.uri_of(key)} is missing, an input of {stage.name}",
                    "put it there, or mend inputs in the table",
                )


def _needs(store: Store, plan: Plan) -> Iterator[ShimError]:
    """Check what planned stages need of stages that do not run; name a date where it all is."""
    planned = {stage.name for stage in plan.planned}
    wanted = [
        (stage, need)
        for stage in plan.planned
        for need in needs.stages(plan, stage)
        if need not in planned
    ]
    problems = []
    for stage, need in wanted:
        try:
            needs.of(store, plan, stage, need)
        except PreflightError as error:
            problems.append(error)
    yield from problems
    if problems:
        date = needs.newest_complete(store, plan, {need for _, need in wanted})
        origin = f"the run date {plan.run_date} came from {_source(plan)}"
        if date:
            yield PreflightError(
                f"{origin}, and all that is needed is there at {date}", f"select it: --date {date}"
            )
        else:
            yield PreflightError(origin, "no other run date has all that is needed either")


def _source(plan: Plan) -> str:
    return "the clock" if plan.run_date_source == "clock" else plan.run_date_source
