"""The commands on instances, imported when one of them is called."""

from __future__ import annotations

from pathlib import Path

import click

from shim import clock
from shim.asking import PlanFile
from shim.plan import Plan
from shim.printing import for_ssm, say, show, show_bytes


@click.command("spot", hidden=True)
@click.option("--plan", type=PlanFile(), required=True)
@click.option("--parent", type=int)
@click.pass_context
def spot_command(ctx: click.Context, /, plan: Plan, parent: int | None) -> None:
    """Run a plan on instances, and end when `--parent` does."""
    from shim import spot

    ctx.exit(spot.run(plan, parent))


@click.command("follow")
@click.argument("launch")
@click.pass_context
def follow_command(ctx: click.Context, /, launch: str) -> None:
    """Print the log of a launch as it grows, and leave with its exit code.

    LAUNCH is the address of its record, as --detach prints it. To stop following ends nothing.
    """
    import time

    from shim.ec2 import Ec2
    from shim.follow import Follower
    from shim.reap import record_at

    record = record_at(launch)
    end = Follower(record.store, Ec2(), record, show_bytes, say, time.sleep).end()
    say(f"{launch} ended: {end.outcome}{end.why and f': {end.why}'}")
    ctx.exit(for_ssm(end.code))


@click.command("reap")
@click.option("--dry-run", is_flag=True, help="Print what would be ended, and end nothing.")
def reap_command(dry_run: bool) -> None:
    """End the instances of launches whose deadline has passed, that are closed or abandoned.

    They are found by their tags, in the region of AWS_REGION; each is printed with what becomes
    of it.
    """
    import time

    from shim import reap
    from shim.ec2 import Ec2

    ec2 = Ec2()
    for found in list(reap.findings(ec2, clock.utc_now())):
        done = "kept"
        if found.reason:
            done = "would end" if dry_run else "ended"
        if found.reason and not dry_run:
            reap.finish(ec2, found, say, time.sleep)
        show(f"{found.instance.id}  {done}: {found.reason or found.note}")


@click.command("guest", hidden=True)
@click.option("--record", type=click.Path(path_type=Path), required=True)
@click.option("--log", type=click.Path(path_type=Path), required=True)
@click.pass_context
def guest_command(ctx: click.Context, /, record: Path, log: Path) -> None:
    """Run what a launch record says, on the instance that it is about."""
    from shim import guest

    ctx.exit(guest.run(record, log))
