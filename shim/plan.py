"""Flags, environment, table and date to one frozen plan: what was planned is what runs.

Pure: the table was read, the clock was asked and the code version was found by the caller.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from posixpath import normpath
from typing import Any

from shim import address, clock, fields, rundate, spot_table, typed
from shim.errors import UsageError, nearest, shown
from shim.pipeline import Pipeline, Stage
from shim.reader import duration
from shim.request import Request, Setting, skipped
from shim.secret_names import SecretNames
from shim.spot_table import Spot

PREFIX = "backtest/"
DRY_RUN = ".dry-run/"
LOGS = "_ssm_logs/"
# What Step Functions allows in a name, `name` of StartExecution in its API reference, and `:`; not
# a first character that would make it an option or a hidden file.
EXECUTION = re.compile(r"[A-Za-z0-9!'()+=@_:][A-Za-z0-9!'()+=@_:.-]{0,255}")


@dataclass(frozen=True)
class StagePlan:
    """One stage as it will run. `timeout` is in seconds, `keep_failed` in bytes.

    `command` is bound: only `{artifacts_dir}` and `{python}` are left to be filled where it runs.
    `skipped` says why it will not run; it is empty for a stage that will. `secret_flags` are flags
    of the command whose values are secrets, each with the option that sets it.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    requires: tuple[str, ...]
    produces: tuple[str, ...]
    inputs: tuple[str, ...]
    timeout: int
    state: str
    slug: str
    io: str
    keep_failed: int
    skipped: str
    secret_flags: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs to know, the same on every machine that carries it out.

    `redact` and `redact_allow` are the patterns of secret names and of those that are none,
    `allow_files` what a bundle may hold. A plan that is `masked` was printed without its secrets:
    it can be read, and not run.
    """

    run_date: str
    run_date_source: str
    execution_id: str
    store: str
    run_prefix: str
    logs_prefix: str
    on: str
    allow_dirty: bool
    detach: bool
    pipeline: str
    root: str
    code_version: str
    preflight_only: bool
    dry_run: bool
    resume: bool
    trust_existing: bool
    quiet: bool
    debug: bool
    redact: tuple[str, ...]
    redact_allow: tuple[str, ...]
    allow_files: tuple[str, ...]
    masked: bool
    env_file: str | None
    requirements: str | None
    stages: tuple[StagePlan, ...]
    spot: Spot | None

    @property
    def planned(self) -> tuple[StagePlan, ...]:
        """The stages to run, in order."""
        return tuple(stage for stage in self.stages if not stage.skipped)

    @property
    def skipped(self) -> tuple[StagePlan, ...]:
        """The stages that do not run."""
        return tuple(stage for stage in self.stages if stage.skipped)

    @property
    def secret_names(self) -> SecretNames:
        """What the table says about secrets."""
        return SecretNames(self.redact, self.redact_allow, self.allow_files)

    def stage(self, name: str) -> StagePlan:
        """Return a stage by name. Raises UsageError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = [stage.name for stage in self.stages]
        raise UsageError(f"{shown(name)} is not a stage", nearest(name, known))

    def to_json(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Return the plan that `to_json` wrote. Raises UsageError."""
        try:
            values = json.loads(text)
            stages = tuple(typed.build(StagePlan, stage) for stage in values.pop("stages"))
            spot = values.pop("spot")
            spot = spot if spot is None else typed.build(Spot, spot)
            plan = typed.build(cls, values, stages=stages, spot=spot)
            expected = prefixes(plan.run_date, plan.dry_run)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"this is not a plan ({error})", "pass what `plan --json` printed"
            ) from error
        if (plan.run_prefix, plan.logs_prefix) != expected:
            raise UsageError(
                f"the plan's prefix {shown(plan.run_prefix)} is not the one of {plan.run_date}",
                "pass what `plan --json` printed",
            )
        return plan


def prefixes(run_date: str, dry_run: bool) -> tuple[str, str]:
    """Return the prefixes of artifacts and of logs in the store. Raises ValueError."""
    if not rundate.is_run_date(run_date):
        raise ValueError(f"{shown(run_date)} is not a run date")
    folder = DRY_RUN if dry_run else ""
    return f"{PREFIX}{folder}{run_date}/", f"{LOGS}{folder}"


def build(pipeline: Pipeline, request: Request, now: datetime, token: str, cwd: Path) -> Plan:
    """Return the plan for a request.

    `now` has a zone, `token` is four random hex digits for an ad-hoc execution, `cwd` is where a
    relative store begins. Raises UsageError.
    """
    date = rundate.resolve(request.date, request.run_date, now)
    run_prefix, logs_prefix = prefixes(date.text, request.dry_run)
    store = _store(request.store, pipeline.root, cwd)
    execution_id = _execution(request.execution_id, now, token)
    _reachable(request, store)
    known = {
        "run_date": date.text,
        "execution_id": execution_id,
        "store": store,
        "artifacts_uri": f"{store}/{run_prefix}".removesuffix("/"),
    }
    timeout = _timeout(request.timeout)
    reasons = skipped(pipeline, request)
    stages = tuple(
        _stage(stage, known, request.options, timeout, reasons.get(stage.name, ""), pipeline.redact)
        for stage in pipeline.stages
    )
    spot = None
    if request.on == "spot":
        seconds = sum(stage.timeout for stage in stages if not stage.skipped)
        spot = spot_table.parse(pipeline.spot, pipeline.path, seconds)
    return Plan(
        run_date=date.text,
        run_date_source=date.source,
        execution_id=execution_id,
        store=store,
        run_prefix=run_prefix,
        logs_prefix=logs_prefix,
        on=request.on,
        allow_dirty=request.allow_dirty,
        detach=request.detach,
        pipeline=pipeline.path,
        root=pipeline.root,
        code_version=request.code_version,
        preflight_only=request.preflight_only,
        dry_run=request.dry_run,
        resume=request.resume,
        trust_existing=request.trust_existing,
        quiet=request.quiet,
        debug=request.debug,
        redact=pipeline.redact.patterns,
        redact_allow=pipeline.redact.allow,
        allow_files=pipeline.redact.allow_files,
        masked=False,
        env_file=pipeline.env_file,
        requirements=pipeline.requirements,
        stages=stages,
        spot=spot,
    )


def _store(setting: Setting | None, root: str, cwd: Path) -> str:
    """Return an absolute directory or `s3://bucket/prefix` without a slash at its end."""
    if setting is None:
        return str(Path(root) / "artifacts")
    found = address.parse(setting.value, setting.source)
    return found.uri if found.bucket else normpath(cwd / found.path)


def _reachable(request: Request, store: str) -> None:
    if request.on == "spot" and not store.startswith("s3://"):
        source = request.store.source if request.store else "the default"
        raise UsageError(
            f"an instance cannot reach the store {shown(store)} (set by {source})",
            "--on spot needs --store s3://bucket/prefix",
        )
    if request.detach and request.on != "spot":
        raise UsageError("--detach is for --on spot alone", "add --on spot, or leave it out")


def _execution(given: str | None, now: datetime, token: str) -> str:
    if not given:
        return f"adhoc-{clock.compact(now)}-{token}"
    if not EXECUTION.fullmatch(given):
        raise UsageError(
            f"{shown(given)} is not an execution id (set by EXECUTION_ID)",
            "use up to 256 letters, digits and !'()+=@_:.- (not . or - first)",
        )
    return given


def _timeout(setting: Setting | None) -> int | None:
    if setting is None:
        return None
    seconds = duration(setting.value)
    if seconds is None:
        raise UsageError(
            f"{shown(setting.value)} is not a duration (set by {setting.source})",
            "use seconds, or a text such as 45m or 2h",
        )
    return seconds


def _stage(
    stage: Stage,
    known: Mapping[str, str],
    options: Mapping[str, Any],
    timeout: int | None,
    skipped: str,
    names: SecretNames,
) -> StagePlan:
    known = {**known, "stage": stage.name}
    command = [fields.bind(part, known) for part in stage.command]
    for option in stage.options:
        value = options.get(option.name, option.default)
        if value is None or value is False:
            continue
        if value is True:
            command.append(fields.escape(option.passes))
        elif option.passes.startswith("--"):
            command.append(fields.escape(f"{option.passes}={value}"))
        else:
            command += [fields.escape(option.passes), fields.escape(str(value))]
    return StagePlan(
        name=stage.name,
        command=tuple(command),
        needs=stage.needs,
        requires=stage.requires,
        produces=stage.produces,
        inputs=tuple(fields.fill(path, known) for path in stage.inputs),
        timeout=timeout or stage.timeout,
        state=stage.state,
        slug=stage.slug,
        io=stage.io,
        keep_failed=stage.keep_failed,
        skipped=skipped,
        secret_flags={
            option.passes: f"--{option.name}"
            for option in stage.options
            if option.kind != "flag" and names.secret(option.name)
        },
    )
