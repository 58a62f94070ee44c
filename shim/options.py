"""The plan's options: flag, variable and help of each; the table adds those of its stages.

The table has to be known before the command line can be parsed, because it declares options; so its
path is looked for first, in the arguments and in SPOT_PIPELINE.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from shim import pipeline
from shim.errors import PipelineError, nearest
from shim.pipeline import Pipeline, StageOption

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "infrastructure" / "pipeline.toml"
TAKEN = {  # variables that no stage's option may be read from
    *("PATH", "HOME", "USER", "SHELL", "LANG", "PWD", "TMPDIR", "TERM"),
    *("STAGE", "EXECUTION_ID", "ARTIFACTS_DIR", "ARTIFACTS_URI"),
    *("SSM_COMMAND_ID", "SPOT_CODE_VERSION", "SPOT_BACKTEST_PYTHON", "SHIM_DEBUG"),
    *("CHECKPOINT_DIR", "SPOT_LAUNCH", "SPOT_RECLAIM"),
}
OWN = {  # flags and parameters of the commands beside the plan's
    *("--help", "--version", "--json", "--as-json", "--plan", "--plan-file", "--report"),
    *("--parent", "--name"),
}
DATES = ("today", "yesterday", "last-friday")


def complete_stages(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a comma list with the stages that it does not hold yet."""
    found = table(ctx)
    before, comma, start = incomplete.rpartition(",")
    names = [stage.name for stage in (found.stages if found else ())]
    done = before.split(",")
    return [before + comma + n for n in names if n.startswith(start) and n not in done]


def _dates(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [day for day in DATES if day.startswith(incomplete)]


def _switch(name: str, variable: str, text: str) -> click.Option:
    return click.Option([f"--{name}/--no-{name}"], envvar=variable, show_envvar=True, help=text)


def _value(name: str, variable: str, text: str, **more: Any) -> click.Option:
    return click.Option([f"--{name}"], envvar=variable, show_envvar=True, help=text, **more)


def plan_options() -> list[click.Parameter]:
    """Return the options that every table has."""
    return [
        _value(
            "date",
            "RUN_DATE",
            "The run date: YYYY-MM-DD, an RFC 3339 timestamp (its UTC date), or today, yesterday, "
            "last-friday, 3-days-ago. Default: today in UTC.",
            metavar="DATE",
            shell_complete=_dates,
        ),
        _value(
            "skip-stages",
            "SKIP_STAGES",
            "Stages not to run, with commas between.",
            metavar="STAGES",
            shell_complete=complete_stages,
        ),
        _value(
            "only-stages",
            "ONLY_STAGES",
            "The only stages to run, with commas between.",
            metavar="STAGES",
            shell_complete=complete_stages,
        ),
        _value(
            "store",
            "SPOT_STORE",
            "Where artifacts live: a directory or s3://bucket/prefix. "
            "Default: artifacts/ in the table's root.",
            metavar="URI",
            shell_complete=lambda _ctx, _param, text: [CompletionItem(text, type="dir")],
        ),
        _value(
            "pipeline",
            "SPOT_PIPELINE",
            "The table of stages. Default: infrastructure/pipeline.toml.",
            type=click.Path(),
            metavar="FILE",
        ),
        _value(
            "on",
            "SPOT_ON",
            "Where the stages run: here, or on an EC2 spot instance that is launched, followed and "
            "ended.",
            type=click.Choice(["here", "spot"]),
            default="here",
            show_default=True,
        ),
        _switch("detach", "SPOT_DETACH", "With --on spot: launch, say how to follow, and leave."),
        _switch(
            "allow-dirty",
            "SPOT_ALLOW_DIRTY",
            "With --on spot: take the files as they are, committed or not.",
        ),
        _switch("preflight-only", "SPOT_PREFLIGHT_ONLY", "Check all that can be, run nothing."),
        _switch(
            "dry-run",
            "DRY_RUN",
            "Run under backtest/.dry-run/, with DRY_RUN=1 for stages; with --on spot print the "
            "pools and their prices, and launch nothing.",
        ),
        _switch("resume", "SPOT_RESUME", "Do not repeat a stage whose commit verifies."),
        _switch(
            "trust-existing",
            "SPOT_TRUST_EXISTING",
            "Accept a skipped stage's artifacts that have no commit.",
        ),
        _value(
            "timeout",
            "SPOT_TIMEOUT",
            "Each stage's timeout, instead of the table's: seconds, 45m, 2h.",
            metavar="DURATION",
        ),
        _switch("quiet", "SPOT_QUIET", "Print errors only; the log in the store has everything."),
        _switch("debug", "SPOT_DEBUG", "Print a traceback with an error (or SHIM_DEBUG=1)."),
    ]


def stage_options(options: Sequence[StageOption]) -> list[click.Parameter]:
    """Return the options that the table declares for its stages."""
    types = {"text": str, "int": int, "float": float}
    return [
        _switch(option.name, option.variable, option.help)
        if option.kind == "flag"
        else _value(option.name, option.variable, option.help, type=types[option.kind])
        for option in options
    ]


def find_table(arguments: Sequence[str]) -> Path:
    """Return the path of the table: `--pipeline`, then SPOT_PIPELINE, then the project's own."""
    found = os.environ.get("SPOT_PIPELINE") or str(TABLE)
    for number, word in enumerate(arguments):
        if word == "--":
            break
        if word.startswith("--pipeline="):
            found = word.partition("=")[2]
        if word == "--pipeline" and number + 1 < len(arguments):
            found = arguments[number + 1]
    return Path(found)


def table(ctx: click.Context) -> Pipeline | None:
    """Return the table that belongs to a command line, None where it could not be read."""
    return ctx.meta.get("shim.table")


def _refuse_clashes(found: Pipeline) -> None:
    """Refuse a stage's option whose flag or variable means something already."""
    variables = {str(param.envvar) for param in plan_options()} | TAKEN
    flags = {opt for param in plan_options() for opt in (*param.opts, *param.secondary_opts)} | OWN
    for option in found.options:
        mine = {f"--{option.name}"} | ({f"--no-{option.name}"} if option.kind == "flag" else set())
        if option.variable in variables or mine & flags:
            raise PipelineError(
                f"{found.path}: option {option.name} of stage {option.stage} would be set by "
                f"--{option.name} or {option.variable}, which mean something already",
                f"call it {option.name}-{option.stage}",
            )
        flags |= mine


class PlanCommand(click.Command):
    """A command with the plan's options and those of the table's stages.

    `only_help` is for one that runs nothing: a broken table does not stop it.
    """

    def __init__(self, *args: Any, only_help: bool = False, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.only_help = only_help

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the table first; a broken one still lets `--help` and completion work."""
        self.read_table(ctx, args)
        return super().parse_args(ctx, args)

    def read_table(self, ctx: click.Context, args: Sequence[str]) -> None:
        """Put the table into the context. Raises PipelineError.

        A plan that was made elsewhere needs no table.
        """
        if any(word == "--plan" or word.startswith("--plan=") for word in args):
            return
        try:
            found = pipeline.load(find_table(args))
            _refuse_clashes(found)
            ctx.meta["shim.table"] = found
        except PipelineError as error:
            helping = self.only_help or {"--help", "-h"}.intersection(args)
            if not ctx.resilient_parsing and not helping:
                raise
            ctx.meta["shim.table_error"] = error

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the plan's options, the stages' and the command's own."""
        found = table(ctx)
        own = [param for param in self.params if isinstance(param, click.Argument | click.Option)]
        return [
            *plan_options(),
            *stage_options(found.options if found else ()),
            *own,
            *filter(None, [self.get_help_option(ctx)]),
        ]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each stage's own under its name."""
        found = table(ctx)
        owner = {option.name: option.stage for option in (found.options if found else ())}
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record:
                stage = owner.get((param.name or "").replace("_", "-"))
                title = f"Options of stage {stage}" if stage else "Options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
        if error := ctx.meta.get("shim.table_error"):
            with formatter.section("The stages' own options are unknown"):
                formatter.write_text(str(error))


def source_of(ctx: click.Context, name: str) -> str:
    """Return the flag or the variable that set a parameter, as the user knows it."""
    for param in ctx.command.get_params(ctx):
        if param.name == name:
            if ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
                return str(param.envvar)
            return str(param.opts[0])
    return name


def offer(error: click.UsageError) -> str:
    """Return what to do about a name that Click could not match."""
    ctx = error.ctx
    if isinstance(error, click.NoSuchOption) and ctx:
        names = [opt for p in ctx.command.get_params(ctx) for opt in (*p.opts, *p.secondary_opts)]
        return nearest(error.option_name, [name for name in names if name.startswith("--")])
    kind = error.param.type if isinstance(error, click.BadParameter) and error.param else None
    if isinstance(kind, click.Choice):
        return nearest("", kind.choices)
    if isinstance(kind, click.types.BoolParamType):
        return "use 1 or 0"
    return "--help lists every option"
