"""The command `status`, imported when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from shim import asking, clock, options, status
from shim import plan as plans
from shim.errors import PipelineError, PreflightError
from shim.printing import say, show
from shim.store import open_store

LOOKING = {"date", "store", "pipeline", "dry_run", "debug"}  # the plan's options that say where


class StatusCommand(options.PlanCommand):
    """A command with those of the plan's options that say where to look, and its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters."""
        own = {param.name for param in self.params}
        found = super().get_params(ctx)
        return [p for p in found if p.name in LOOKING | own or "--help" in p.opts]


@click.command("status", cls=StatusCommand)
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON document.")
@click.pass_context
def status_command(ctx: click.Context, /, as_json: bool, **_: object) -> None:
    """Print what stands at a run date: each stage's commit, attempts and launches.

    It reads the store and writes nothing. It leaves with 0 when every stage of the table has a
    commit that verifies, else with 69.
    """
    table = options.table(ctx)
    if table is None:
        raise PipelineError("the table could not be read", "name one with --pipeline")
    plan = plans.build(table, asking.place(ctx), clock.utc_now(), "0000", Path.cwd())
    names = [stage.name for stage in plan.stages]
    found = status.of(
        open_store(plan.store), plan.run_prefix, plan.run_date, plan.run_date_source, names
    )
    show(found.to_json() if as_json else found.to_text())
    if lacking := found.unverified:
        have = "has" if len(lacking) == 1 else "have"
        say(f"{', '.join(lacking)} {have} no commit that verifies at {plan.run_date}")
        ctx.exit(PreflightError.code)
