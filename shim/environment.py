"""The environment that a stage's command gets: the caller's, then the table's file, then ours."""

from __future__ import annotations

import os
from pathlib import Path

from shim import reclaim
from shim.errors import PipelineError
from shim.plan import Plan, StagePlan


def child_environment(
    plan: Plan, stage: StagePlan, artifacts: str, checkpoint: str
) -> dict[str, str]:
    """Return the variables of a stage's command, with its private directory and its checkpoint's.

    A variable that was injected wins over the file, and the run's own names over both: a file
    cannot move a run to another date. Raises PipelineError if the file cannot be read.
    """
    env = {**_from_file(plan), **os.environ}
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
        with path.open(encoding="utf-8") as stream:
            values = dotenv_values(stream=stream, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"cannot read {path} ({error}), the env_file of {plan.pipeline}",
            "create it, or remove env_file from the table",
        ) from error
    return {name: value for name, value in values.items() if value is not None}
