"""The commands that work on state machines: `shim asl render`."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from shim.asl import files
from shim.asl.render import Commands, Rendering, render
from shim.asl.values import AslError, Reading, Value
from shim.errors import RecordError, UsageError, shown

# docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html, "name"
NAME = re.compile(
    r"[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]{1,80}"
)
UNSAFE = re.compile(r"[^A-Za-z0-9_]+")
LONGEST = 100
HELD = "it holds ${…}, which CloudFormation replaces at deployment and which is shown as written"


@click.command("render")
@click.argument("file", type=click.File("rb"))
@click.option("--input", "text", metavar="JSON", help="The execution's input.  [default: {}]")
@click.option("--start-time", metavar="T", help="The execution's start, such as 2026-05-17T23:59Z.")
@click.option("--name", metavar="N", help="The execution's name.")
@click.option(
    "--script",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write each state's script to this folder.",
)
def render_command(
    file: BinaryIO, text: str | None, start_time: str | None, name: str | None, folder: Path | None
) -> None:
    """Print the lines that each state of FILE sends through SSM, as AWS sends them.

    FILE is a state machine in JSON or YAML, a template that holds some, or - for stdin. What only
    a run can decide stands as <where it comes from>. A line is shown twice where the documented
    reading of an escape and the one observed on AWS differ.
    """
    given = _input(text)
    moment = None if start_time is None else _moment(start_time)
    if name is not None and not NAME.fullmatch(name):
        raise UsageError(
            f"{shown(name)} is not an execution's name (set by --name)",
            'it has 1 to 80 characters, no blank and none of <>{}[]?*"#%\\^|~`$&,;:/',
        )
    scripts: dict[str, str] = {}
    texts = []
    for found in files.definitions(file.read(), file.name):
        try:
            rendering = render(found.definition, given, moment, name)
        except AslError as error:
            raise UsageError(f"{shown(file.name)}: {error}", "see what made it") from error
        texts.append(described(rendering, found))
        for commands in rendering.commands:
            prefix = f"{found.where}-" if found.where else ""
            for stem, script in _scripts(f"{prefix}{commands.state}", commands):
                scripts[_unique(stem, scripts)] = script
    if folder is not None:
        _write(folder, scripts)
    _print("\n\n".join(texts))


def described(rendering: Rendering, found: files.Found) -> str:
    """Return a definition's commands as text for a person: a head for each state, its lines."""
    texts = [f"# in {found.where}"] if found.where else []
    texts += [f"! {HELD}"] if found.substituted else []
    texts += [f"! {problem}" for problem in rendering.problems]
    if not rendering.commands:
        texts.append("# no state sends an SSM command")
    for commands in rendering.commands:
        texts += ["", f"# {commands.state} ({commands.document or 'no document'})"]
        if not commands.reached:
            texts.append("! this input does not lead here; shown as if every choice were open")
        texts += [f"! {problem}" for problem in commands.problems]
        texts += _lines(commands)
    return "\n".join(texts).lstrip("\n")


def _lines(commands: Commands) -> list[str]:
    documented, observed = commands.documented, commands.observed
    texts = []
    for index in range(max(len(documented), len(observed))):
        one, two = documented[index : index + 1], observed[index : index + 1]
        if one == two:
            texts.append(_numbered(index, one[0].text))
        else:
            texts += [_numbered(index, line.text, "  [documented]") for line in one]
            texts += [_numbered(index, line.text, "  [observed]") for line in two]
    return texts


def _numbered(index: int, text: str, reading: str = "") -> str:
    """Return a line with its number; a command of several lines goes on below a bar."""
    first, *more = text.split("\n")
    return "\n".join(
        [f"{index + 1:3}{reading}  {first}", *(f"  |{reading}  {line}" for line in more)]
    )


def _scripts(path: str, commands: Commands) -> list[tuple[str, str]]:
    """Return the names, without suffix, and the texts of a state's scripts: two if they differ."""
    stem = UNSAFE.sub("-", path).strip("-")[:LONGEST] or "state"
    if not commands.differs:
        return [(stem, commands.script())]
    return [(f"{stem}.{reading.value}", commands.script(reading)) for reading in Reading]


def _unique(stem: str, taken: dict[str, str]) -> str:
    names = {name.lower() for name in taken}
    name, number = f"{stem}.sh", 1
    while name.lower() in names:
        number += 1
        name = f"{stem}-{number}.sh"
    return name


def _write(folder: Path, scripts: dict[str, str]) -> None:
    """Write the scripts, for their owner only. Raises RecordError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, script in scripts.items():
            path = folder / name
            path.unlink(missing_ok=True)  # so an old file's mode, or a link's target, is not kept
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "wb") as stream:
                stream.write(script.encode("utf-8"))
    except OSError as error:
        where = error.filename or folder
        raise RecordError(
            f"cannot write {shown(str(where))} ({error.strerror})", "name another with --script"
        ) from error


def _input(text: str | None) -> Value:
    """Return the execution's input. Raises UsageError."""
    if text is None:
        return {}
    try:
        value: Value = json.loads(text, parse_constant=_refused)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{shown(text)} is not JSON: {error} (set by --input)",
            'quote it for the shell: --input \'{"run_date": "2026-05-17"}\'',
        ) from error
    return value


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _moment(text: str) -> str:
    """Return a moment as AWS writes StartTime: UTC, with milliseconds. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f"{shown(text)} is not a moment (set by --start-time)",
        "use a time with its zone, such as 2026-05-17T23:59:59Z",
    )


def _print(text: str) -> None:
    """Print a result in UTF-8 whatever the locale. Raises RecordError when stdout is full."""
    try:
        click.echo(text.encode("utf-8"))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RecordError(
            f"cannot write to stdout ({error.strerror})", "see where it goes"
        ) from error
