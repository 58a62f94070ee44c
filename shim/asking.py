"""The plan that a command line asks for, or that it was given."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import click

from shim import clock, options, regular
from shim import plan as plans
from shim.errors import PipelineError, shown
from shim.plan import Plan


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
    """Return the plan that was given, or the one that the command line asks for."""
    if given:
        return given
    found = options.table(ctx)
    if found is None:
        raise PipelineError("the table could not be read", "name one with --pipeline")
    asked = options.request(ctx, _code_version(Path(found.root)))
    return plans.build(found, asked, clock.utc_now(), secrets.token_hex(2), Path.cwd())


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
