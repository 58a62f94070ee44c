"""`shim asl lint`: the command around the engine."""

from __future__ import annotations

from typing import BinaryIO

import click

from shim.asl import lint, lint_docs, rules, shells
from shim.asl.values import AslError
from shim.errors import RecordError, UsageError, shown


@click.command("lint")
@click.argument("files", nargs=-1, type=click.File("rb"), metavar="FILE...")
@click.option(
    "--format",
    "style",
    type=click.Choice(sorted(lint.FORMATS, reverse=True)),
    default="text",
    show_default=True,
    help="How findings are printed.",
)
@click.option(
    "--select", multiple=True, metavar="RULES", help="Only rules that start so: ASL2,ASL501."
)
@click.option("--ignore", multiple=True, metavar="RULES", help="No rules that start so.")
@click.option("--explain", metavar="RULE", help="Print what a rule is for, and end.")
@click.pass_context
def lint_command(
    ctx: click.Context,
    /,
    files: tuple[BinaryIO, ...],
    style: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    explain: str | None,
) -> None:
    """Find what is wrong in the state machines of FILE...; exit 1 if something is.

    FILE is a state machine in JSON or YAML, a template that holds some, or - for stdin. Every
    finding is certain: a rule that cannot decide says nothing. docs/lint.md describes the rules.
    """
    if explain is not None:
        _print(lint_docs.explain(_rule(explain)))
        return
    if not files:
        raise UsageError("no file to lint", "name state machines or templates, or - for stdin")
    chosen = lint.choose(select, ignore)
    for sentence in shells.missing([rule.code for rule in chosen]):
        click.echo(f"asl lint: {sentence}", err=True)
    findings: list[lint.Finding] = []
    for file in files:
        name = str(getattr(file, "name", "-")).replace("<stdin>", "-")
        try:
            findings += lint.lint(file.read(), name, chosen)
        except AslError as error:
            raise UsageError(f"{shown(name)}: {error}", "see what made it") from error
    _print(lint.FORMATS[style](findings))
    if findings:
        ctx.exit(1)


def _rule(code: str) -> rules.Rule:
    for rule in rules.every():
        if code.upper() == rule.code or code.lower() == rule.name:
            return rule
    known = ", ".join(rule.code for rule in rules.every())
    raise UsageError(f"{shown(code)} is no rule (set by --explain)", f"known: {known}")


def _print(text: str) -> None:
    """Print a result in UTF-8 whatever the locale. Raises RecordError when stdout is full."""
    try:
        click.echo(text.encode("utf-8"), nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RecordError(
            f"cannot write to stdout ({error.strerror})", "see where it goes"
        ) from error
