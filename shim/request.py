"""What the user asked for, as it was given and before it is a plan, and which stages that skips."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shim.errors import UsageError, nearest, shown
from shim.pipeline import Pipeline


@dataclass(frozen=True)
class Setting:
    """A value that the user gave, and where: a flag or a variable by its name."""

    value: str
    source: str


@dataclass(frozen=True)
class Request:
    """What the user asked for, parsed by Click and not yet checked against the table.

    `options` holds the values of the stages' own options by name.
    """

    date: str | None = None
    run_date: str | None = None
    skip_stages: Setting | None = None
    only_stages: Setting | None = None
    store: Setting | None = None
    timeout: Setting | None = None
    on: str = "here"
    allow_dirty: bool = False
    detach: bool = False
    execution_id: str | None = None
    code_version: str = "unknown"
    preflight_only: bool = False
    dry_run: bool = False
    resume: bool = False
    trust_existing: bool = False
    quiet: bool = False
    debug: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _names(setting: Setting, pipeline: Pipeline) -> set[str]:
    """Return the stages of a comma list; spaces around a name are nothing."""
    known = [stage.name for stage in pipeline.stages]
    names = {name.strip() for name in setting.value.split(",")} - {""}
    for name in sorted(names.difference(known)):
        raise UsageError(
            f"{shown(name)} is not a stage (set by {setting.source})", nearest(name, known)
        )
    return names


def skipped(pipeline: Pipeline, request: Request) -> dict[str, str]:
    """Return why each stage that will not run is skipped, by name."""
    reasons = {}
    only: set[str] = set()
    if request.only_stages:
        only = _names(request.only_stages, pipeline)
        if not only:
            raise UsageError(
                f"{request.only_stages.source} names no stage",
                f"known: {', '.join(stage.name for stage in pipeline.stages)}",
            )
        for stage in pipeline.stages:
            if stage.name not in only:
                reasons[stage.name] = f"not named by {request.only_stages.source}"
    if request.skip_stages:
        skip = _names(request.skip_stages, pipeline)
        if request.only_stages and (both := sorted(skip.intersection(only))):
            raise UsageError(
                f"{', '.join(both)} is to run and is to be skipped (named by "
                f"{request.only_stages.source} and by {request.skip_stages.source})",
                "name it in one of them",
            )
        for name in skip:
            reasons[name] = f"named by {request.skip_stages.source}"
    return reasons
