"""The plan that a command line asks for, or that it was given."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from shim import clock, options, regular
from shim import plan as plans
from shim.errors import PipelineError, UsageError, shown
from shim.plan import Plan
from shim.request import Request, Setting


class PlanFile(click.ParamType[Plan | None]):
    """A file that holds a plan, `-` for stdin, read at once."""

    name = "filename"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Plan | None:
        """Return the plan. Raises UsageError."""
        if ctx and ctx.resilient_parsing:  # completion: nobody has typed a plan into stdin
            return None
        try:
            text = sys.stdin.buffer.read() if value == "-" else regular.read(Path(str(value)))
        except OSError as error:
            self.fail(f"cannot read {shown(value)}: {error.strerror}; - is stdin", param, ctx)
        return Plan.from_json(text)


def plan_of(ctx: click.Context, given: Plan | None = None) -> Plan:
    """Return the plan that was given, or the one that the command line asks for.

    Raises UsageError for a flag beside a plan, which would have no effect.
    """
    if given:
        for param in options.plan_options():
            name = param.name or ""
            flag = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if flag and name != "debug":
                raise UsageError(
                    f"{param.opts[0]} has no effect beside --plan, which says all that is to run",
                    "leave it out, or give every option without --plan",
                )
        if given.masked:
            raise UsageError(
                "this plan was printed without its secrets (each is *** in it), so it cannot run",
                "give the options themselves instead of --plan",
            )
        return given
    found = options.table(ctx)
    if found is None:
        raise PipelineError("the table could not be read", "name one with --pipeline")
    asked = _request(ctx, _code_version(Path(found.root)))
    return plans.build(found, asked, clock.utc_now(), secrets.token_hex(2), Path.cwd())


def _request(ctx: click.Context, code_version: str) -> Request:
    """Return what a parsed command line asks for."""
    values = ctx.params
    found = options.table(ctx)
    return replace(
        place(ctx),
        skip_stages=_setting(ctx, "skip_stages"),
        only_stages=_setting(ctx, "only_stages"),
        timeout=_setting(ctx, "timeout"),
        on=values["on"],
        allow_dirty=values["allow_dirty"],
        detach=values["detach"],
        execution_id=os.environ.get("EXECUTION_ID"),
        code_version=code_version,
        preflight_only=values["preflight_only"],
        resume=values["resume"],
        trust_existing=values["trust_existing"],
        quiet=values["quiet"],
        debug=values["debug"],
        options={
            option.name: value
            for option in (found.options if found else ())
            if (value := values[option.name.replace("-", "_")]) is not None
            and ctx.get_parameter_source(option.name.replace("-", "_"))
            is not ParameterSource.DEFAULT
        },
    )


def place(ctx: click.Context) -> Request:
    """Return a request for the date, the store and the prefix alone: where a run is looked for."""
    store, date = _setting(ctx, "store"), ctx.params["date"]
    from_variable = ctx.get_parameter_source("date") is ParameterSource.ENVIRONMENT
    return Request(
        date=None if from_variable else date,
        run_date=date if from_variable else None,
        store=store and Setting(os.path.expanduser(store.value), store.source),  # noqa: PTH111  no error for a strange ~name
        dry_run=ctx.params["dry_run"],
    )


def _setting(ctx: click.Context, name: str) -> Setting | None:
    value = ctx.params.get(name)
    return None if value is None else Setting(value, options.source_of(ctx, name))


def _code_version(root: Path) -> str:
    """Return SPOT_CODE_VERSION, else the commit of the table's checkout, else `unknown`."""
    given = os.environ.get("SPOT_CODE_VERSION")
    if given:
        return given
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
