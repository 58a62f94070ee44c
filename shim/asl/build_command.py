"""The command that writes the state machine of a table: `shim asl build`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from shim import pipeline
from shim.asl import build, table
from shim.errors import PipelineError, RecordError, shown

TABLE = Path(__file__).resolve().parents[2] / "infrastructure" / "pipeline.toml"


@click.command("build")
@click.option(
    "--pipeline",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="SPOT_PIPELINE",
    show_envvar=True,
    default=TABLE,
    help="The table.  [default: infrastructure/pipeline.toml]",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write.  [default: what the table says; - is stdout]",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the file is stale.")
@click.pass_context
def build_command(ctx: click.Context, path: Path, output: Path | None, check: bool) -> None:
    """Write the state machine of the table.

    The file is generated: edit [state_machine] and the stages in the table, not the file.
    """
    machine = table.parse(pipeline.load(path))
    text = build.written(build.definition(machine))
    target = output or machine.definition
    if check:
        if _read(target) != text:
            click.echo(
                f"spot_backtest: {shown(str(target))} is not what the table {path} says;"
                " write it with: shim asl build",
                err=True,
            )
            ctx.exit(1)
        return
    if str(target) == "-":
        click.echo(text, nl=False)
        return
    try:
        _write(target, text)
    except OSError as error:
        raise RecordError(
            f"cannot write {shown(str(target))} ({error.strerror})", "name another with --output"
        ) from error


def _read(target: Path) -> str | None:
    """Return the file's text, None if there is none. Raises PipelineError."""
    try:
        return target.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"cannot read {shown(str(target))} ({error})", "name another with --output"
        ) from error


def _write(target: Path, text: str) -> None:
    """Replace the file at once, so that no reader sees a part of it."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
