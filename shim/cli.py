"""The command line: the only place that prints results and exits."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from shim import __version__, clock, completion, environment, options, rundate, show
from shim import pipeline as tables
from shim.asking import PlanFile, plan_of
from shim.errors import (
    PipelineError,
    PreflightError,
    RecordError,
    ShimError,
    UsageError,
    shown,
)
from shim.groups import Asl, Top
from shim.installation import broken, lacking
from shim.masking import masked_notice, masked_plan
from shim.plan import Plan
from shim.printing import PROGRAM, for_ssm, print_result, say
from shim.printing import show as show_result
from shim.redact import masker
from shim.secret_names import SecretNames
from shim.secret_values import command_secrets, environment_secrets

# The commands in which signals that come before their supervisor is there wait for it.
DETACHED = {"capture", "stage", "spot"}


@click.group(cls=Top, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Run the stages of a batch pipeline under one run date."""


@cli.command("plan", cls=options.PlanCommand)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.pass_context
def plan_command(ctx: click.Context, /, as_json: bool, **_: object) -> None:
    """Print what would run: the run date, the stages and their commands."""
    plan = plan_of(ctx)
    print_result(masked_plan(plan).to_json() if as_json else show.described(plan))


@cli.command("entry", cls=options.PlanCommand, hidden=True)
@click.option("--plan", type=PlanFile())
@click.pass_context
def entry_command(ctx: click.Context, /, plan: Plan | None, **_: object) -> None:
    """Print the plan for the entry: names and values, each ended by a NUL, so nothing is quoted."""
    pairs = show.pairs(plan_of(ctx, plan))
    print_result("".join(f"{name}\0{value}\0" for name, value in pairs), end="")


@cli.command("options", cls=options.PlanCommand, only_help=True, hidden=True)
@click.pass_context
def options_command(ctx: click.Context, /, **_: object) -> None:
    """Print the plan's options, for the entry's help."""
    formatter = ctx.make_formatter()
    ctx.command.format_options(ctx, formatter)
    print_result(formatter.getvalue().rstrip("\n"))


@cli.command("preflight", cls=options.PlanCommand)
@click.option("--plan", type=PlanFile(), help="Take this plan; - is stdin.")
@click.option("--parent", type=int, hidden=True)
@click.pass_context
def preflight_command(
    ctx: click.Context, /, plan: Plan | None, parent: int | None, **_: object
) -> None:
    """Check everything that can be checked before a stage runs."""
    from shim import liveness, preflight

    if parent:
        liveness.die_with(parent)
    plan = plan_of(ctx, plan)
    if plan.on == "spot":
        from shim import spot_preflight
        from shim.ec2 import Ec2

        problems = spot_preflight.check(plan, Ec2()).problems
    else:
        problems = preflight.check(plan)
    for problem in problems:
        say(str(problem))
    if problems:
        ctx.exit(preflight.code(problems))
    if not plan.quiet:
        names = ", ".join(stage.name for stage in plan.planned)
        say(f"preflight: nothing is wrong for {names or 'a run of no stage'}")


@cli.command("stage", cls=options.PlanCommand)
@click.argument("name", shell_complete=options.complete_stages)
@click.option("--plan", type=PlanFile(), help="Take this plan; - is stdin.")
@click.option("--report", type=click.Path(path_type=Path), hidden=True)
@click.option("--parent", type=int, hidden=True)
@click.pass_context
def stage_command(
    ctx: click.Context,
    /,
    name: str,
    plan: Plan | None,
    report: Path | None,
    parent: int | None,
    **_: object,
) -> None:
    """Run one stage: one attempt, from its receipt to its commit."""
    from shim import stage

    plan = plan_of(ctx, plan)
    if plan.on != "here":
        raise UsageError("a stage runs here", "for an instance: ./spot_backtest.sh --on spot")
    if parent:
        environment.adopt(parent)
    planned = plan.stage(name)
    if not report and not plan.quiet and (notice := masked_notice(plan)):
        say(notice)
    code = stage.run(plan, planned, report=report, parent=parent)
    ctx.exit(code if report else for_ssm(code))


@cli.command("capture", context_settings={"ignore_unknown_options": False})
@click.option("--slug", required=True, help="What the log is of: a folder's name in the store.")
@click.option("--log", required=True, type=click.Path(path_type=Path), help="The local log.")
@click.option("--store", envvar="SPOT_STORE", show_envvar=True, help="Ship the log to this store.")
@click.option("--date", envvar="RUN_DATE", show_envvar=True, help="The run date.  [default: today]")
@click.option(
    "--dry-run/--no-dry-run",
    envvar="DRY_RUN",
    show_envvar=True,
    help="Ship to _ssm_logs/.dry-run/ instead.",
)
@click.option("--key", hidden=True, help="Ship the log under this key.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def capture_command(
    ctx: click.Context,
    /,
    slug: str,
    log: Path,
    store: str | None,
    date: str | None,
    dry_run: bool,
    key: str | None,
    command: Sequence[str],
) -> None:
    """Run a command, keep and ship its log, and return its status.

    Both of its outputs go to --log and to stdout, byte for byte; with a store the log is shipped
    to _ssm_logs/<slug>/<run date>/ while the command runs. What the command leaves running is
    ended, and named on stderr and in the log.
    """
    from shim import capture

    if not tables.NAME.fullmatch(slug):
        raise UsageError(
            f"{shown(slug)} is not a slug (set by --slug)",
            "a slug is lower-case letters, digits, - and _",
        )
    from_flag = ctx.get_parameter_source("date") is click.core.ParameterSource.COMMANDLINE
    day = rundate.resolve(date if from_flag else None, date, clock.utc_now())
    names = _secret_names()
    code = capture.capture(
        command,
        slug=slug,
        log=log,
        store_uri=store,
        run_date=day.text,
        patterns=names.patterns,
        allow=names.allow,
        env=environment.without_start_up(os.environ, say),
        dry_run=dry_run,
        key=key,
    )
    ctx.exit(for_ssm(code))


@cli.group("asl", cls=Asl)
def asl_group() -> None:
    """Build, render and lint state machines in Amazon States Language."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit by the table in README.md."""
    _open_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or "1" in (
        os.environ.get("SHIM_DEBUG"),
        os.environ.get("SPOT_DEBUG"),
    )
    code = 0
    try:
        if not DETACHED.intersection(words[:1]):
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.environ.get(completion.VARIABLE):
            completion.answer(cli, words)
        # Not cli.main(): it exits 1 on a closed pipe by itself.
        with cli.make_context(PROGRAM, words) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as left:
        code = left.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        show_result(error.format_message())
        code = 2
    except click.ClickException as error:
        hint = options.offer(error) if isinstance(error, click.UsageError) else ""
        code = _fail(UsageError(_plain(error), hint), debug, words)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except ShimError as error:
        code = _fail(error, debug, words)
    except BrokenPipeError:
        code = 141
    except ImportError as error:
        code = _fail(lacking(error), debug, words)
    except OSError as error:
        code = _fail(_known(error, debug), debug, words)
    except Exception as error:  # whatever is left is a bug of ours: one line and 70
        code = _fail(_bug(error, debug), debug, words)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # said already, or nobody reads; the flush at exit must not change the code
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    sys.exit(code)


def _open_standard_streams() -> None:
    """Give a closed stream the null device: the next file opened would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _bug(error: Exception, debug: bool) -> ShimError:
    hint = "" if debug else "SHIM_DEBUG=1 shows where; please report it"
    return ShimError(f"internal error: {type(error).__name__}: {error}", hint)


def _known(error: OSError, debug: bool) -> ShimError:
    """Return what an error of the system means where that is known, else our own bug."""
    if broken(error):
        return lacking(error)
    try:
        os.getcwd()  # noqa: PTH109  nothing is done with it
    except OSError as gone:
        return PreflightError(
            f"there is no working directory any more ({gone.strerror})", "change to one: cd ~"
        )
    try:
        sys.stdout.flush()
    except OSError:  # Click printed a help or a version, which is all that was asked for
        return RecordError(f"cannot write to stdout ({error.strerror})", "see where it goes")
    return _bug(error, debug)


def _fail(error: ShimError, debug: bool, words: Sequence[str]) -> int:
    """Print an error without the secrets that are known here, which it may quote."""
    names = _secret_names(words)
    mask = masker(environment_secrets(os.environ, names) + command_secrets(words, names))
    if debug:
        with suppress(OSError):  # as say()
            print(mask.text(traceback.format_exc()), file=sys.stderr, end="")
    say(mask.text(str(error)))
    return error.code


def _plain(error: click.ClickException) -> str:
    """Return Click's message as the beginning of one of ours."""
    if isinstance(error, click.NoSuchOption):
        return f"{shown(error.option_name)} is not an option"
    if isinstance(error, click.BadParameter) and error.param and error.ctx and error.param.name:
        if isinstance(error, click.MissingParameter):
            return f"{error.param.get_error_hint(error.ctx)} is missing"
        source = options.source_of(error.ctx, error.param.name)
        message = error.message.partition(". Recognized values")[0]
        return f"{message.rstrip('.')} (set by {source})"
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def _secret_names(words: Sequence[str] = ()) -> SecretNames:
    """Return what the table says about secrets; without a table the usual names are theirs."""
    try:
        return tables.load(options.find_table(words)).redact
    except PipelineError:
        return SecretNames()
