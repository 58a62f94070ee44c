"""The environment that a stage's command gets: the caller's, then the table's file, then ours."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from shim import reclaim, regular
from shim.errors import PipelineError, shown
from shim.plan import Plan, StagePlan

# Shells read the file that such a variable names before anything else (bash(1), «Invocation»):
# what it sets would win over the run's own names.
START_UP = ("BASH_ENV", "ENV")


def adopt(pid: int) -> None:
    """Take over the environment that a process was started with (proc(5)): the entry's.

    So a stage gets what the caller gave, and not what bash has made of it.
    """
    with suppress(OSError):  # no /proc: what bash passed on is nearly the same
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found = dict(pair.split(b"=", 1) for pair in reversed(pairs) if pair.find(b"=") > 0)
        os.environ.clear()
        os.environb.update(found)


def without_start_up(env: Mapping[str, str], tell: Callable[[str], None]) -> dict[str, str]:
    """Return an environment in which no file is read that could set another run date."""
    dropped = [name for name in START_UP if name in env]
    if dropped:
        names = " and ".join(dropped)
        tell(f"the command does not get {names}: the file could change the run date")
    return {name: value for name, value in env.items() if name not in START_UP}


def child_environment(
    plan: Plan,
    stage: StagePlan,
    artifacts: str,
    checkpoint: str,
    tell: Callable[[str], None] = lambda _text: None,
) -> dict[str, str]:
    """Return the variables of a stage's command, with its private directory and its checkpoint's.

    A variable that was injected wins over the file, and the run's own names over both: a file
    cannot move a run to another date. `tell` hears what is left out. Raises PipelineError if the
    file cannot be read.
    """
    env = without_start_up({**_from_file(plan), **os.environ}, tell)
    env.setdefault("PYTHONUNBUFFERED", "1")  # what a stage prints is in its log when it prints it
    env |= {
        "RUN_DATE": plan.run_date,
        "STAGE": stage.name,
        "EXECUTION_ID": plan.execution_id,
        "ARTIFACTS_DIR": artifacts,
        "CHECKPOINT_DIR": checkpoint,
        "ARTIFACTS_URI": f"{plan.store}/{plan.run_prefix}".rstrip("/"),
    }
    for name in ("DRY_RUN", reclaim.LAUNCH, reclaim.NOTICE):
        env.pop(name, None)
    if plan.dry_run:
        env["DRY_RUN"] = "1"
    return env


def _from_file(plan: Plan) -> dict[str, str]:
    """Read the table's env_file as data; no shell and no interpolation."""
    if plan.env_file is None:
        return {}
    from dotenv import dotenv_values

    path = Path(plan.root, plan.env_file)
    try:
        text = regular.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise PipelineError(
            f"cannot read {path} ({why}), the env_file of {plan.pipeline}",
            "create it, or remove env_file from the table",
        ) from error
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    for name, value in values.items():
        # What execve(2) cannot pass on.
        if not name or "=" in name or "\0" in name + (value or ""):
            raise PipelineError(
                f"{path}, the env_file of {plan.pipeline}, sets {shown(name)} to what no variable "
                "can have",
                "NUL is in no value, and = in no name",
            )
    return {name: value for name, value in values.items() if value is not None}
