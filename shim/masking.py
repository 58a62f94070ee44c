"""What a run masks: the secrets of a plan, of its stages' environments and of their commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress

from shim.environment import child_environment
from shim.errors import ShimError
from shim.plan import Plan, StagePlan
from shim.redact import Masker, masker
from shim.secret_values import (
    Secret,
    command_secrets,
    environment_secrets,
    masked_command,
    masked_line,
)

NOTHING = masker(())


def masked_plan(plan: Plan) -> Plan:
    """Return a plan as it may be printed: without the secrets in its commands."""
    stages = tuple(
        dataclasses.replace(stage, command=shown_command(plan, stage)) for stage in plan.stages
    )
    return dataclasses.replace(plan, stages=stages, masked=plan.masked or stages != plan.stages)


def shown_command(plan: Plan, stage: StagePlan) -> tuple[str, ...]:
    """Return a stage's command as it may be printed."""
    return masked_command(stage.command, plan.secret_names, stage.secret_flags)


def stage_masker(
    plan: Plan, stage: StagePlan, command: Sequence[str], env: Mapping[str, str]
) -> Masker:
    """Return what masks the log of a stage, `command` and `env` being what it gets."""
    names = plan.secret_names
    found = command_secrets(command, names, stage.secret_flags)
    return masker([*environment_secrets(env, names), *found])


def masked_notice(plan: Plan) -> str:
    """Return a line that names what no log of a run that begins will show, or nothing.

    On an instance the environment is another one, whose own entry tells.
    """
    found: list[Secret] = []
    names = plan.secret_names
    for number, stage in enumerate(plan.planned):
        if number == 0 and plan.on == "here":
            with suppress(ShimError):  # an env_file that cannot be read: the stage says so
                found += environment_secrets(child_environment(plan, stage, "", ""), names)
        found += command_secrets(stage.command, names, stage.secret_flags)
    return masked_line(found)
