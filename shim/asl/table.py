"""The `[state_machine]` section of pipeline.toml to validated values.

Every mistake is a PipelineError (exit 78) that names the file, the key and the nearest right one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shim import spot_table
from shim.errors import PipelineError, nearest, shown
from shim.fields import fill
from shim.pipeline import Pipeline, Stage
from shim.reader import Reader, duration

KEYS = ("definition", "on", "launch", "launches", "before", "dry_run", "poll", "delivery",
        "tries", "backoff", "parallel", "defaults")  # fmt: skip
LAUNCH = (
    "python -m shim capture --slug {slug} --log /var/log/{slug}.log --"
    " bash spot_backtest.sh --on={on} --only-stages={stage}"
)
LAUNCH_FIELDS = ("stage", "slug", "on", "others")
WHERE = " of [state_machine]"
GRACE = 300  # seconds: the stage's own timeout ends it before SSM does, and its log is shipped
# executionTimeout is 5 to 172800 seconds, else 3600 without a word; TimeoutSeconds, which is only
# the delivery, is 30 to 2592000: the AWS-RunShellScript document, and SendCommand in the API
# reference of Systems Manager.
LONGEST_EXECUTION = 172800
DELIVERY = (30, 2592000)
# What a shell, the ASL and JSON all read as it stands: no quote, backslash, brace or line end.
PLAIN = re.compile(r"[ !#-&(-\[\]-z|~]*")
STATE = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,59}")  # AWS allows 80 characters, with the suffix
KEY = re.compile(r"[a-z][a-z0-9_]{0,59}")
# What the definition writes into the execution's data itself.
OWN = ("run_date", "input", "defaults", "check", "mode", "work", "command", "result", "error",
       "failure", "branches")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One stage as the definition starts it.

    `launch` is the line that starts it and `seconds` the longest that this may take, `skip` the
    boolean of the input that skips it, and `execution_timeout` what SSM gets, in seconds.
    """

    stage: Stage
    launch: str
    seconds: int
    skip: str

    @property
    def execution_timeout(self) -> int:
        return self.seconds + GRACE


@dataclass(frozen=True)
class StateMachine:
    """The whole section. Durations are in seconds; a step of several rows runs them at once."""

    definition: Path
    steps: tuple[tuple[Row, ...], ...]
    before: tuple[str, ...]
    dry_run: str
    poll: int
    delivery: int
    tries: int
    backoff: int
    defaults: Mapping[str, str | bool | int]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every stage's row, in order."""
        return tuple(row for step in self.steps for row in step)


def parse(pipeline: Pipeline) -> StateMachine:
    """Validate the section of a table. Raises PipelineError."""
    reader = Reader(pipeline.path)
    table = pipeline.state_machine
    if not isinstance(table, dict):
        raise reader.wrong(
            "there is no [state_machine]", "add that section, as in infrastructure/pipeline.toml"
        )
    reader.keys(table, KEYS, WHERE)
    before = reader.texts(table, "before", WHERE)
    for line in before:
        _plain(reader, line, f"before{WHERE}")
    dry_run = table.get("dry_run", "--dry-run")
    if not isinstance(dry_run, str):
        raise reader.wrong(f"dry_run{WHERE} is {shown(dry_run)}", "give it a text, empty for none")
    _plain(reader, dry_run, f"dry_run{WHERE}")
    delivery = _seconds(reader, table, "delivery", "10m")
    if not DELIVERY[0] <= delivery <= DELIVERY[1]:
        raise reader.wrong(
            f"delivery{WHERE} is {delivery} s",
            f"SSM takes {DELIVERY[0]} to {DELIVERY[1]} seconds",
        )
    tries = table.get("tries", 4)
    if type(tries) is not int or not 1 <= tries <= 20:
        raise reader.wrong(f"tries{WHERE} is {shown(tries)}", "give it a number from 1 to 20")
    rows = _rows(reader, pipeline, table)
    name = reader.text(table, "definition", WHERE, "step_function.json")
    return StateMachine(
        definition=Path(pipeline.path).parent / name,
        steps=_steps(reader, table, rows),
        before=before,
        dry_run=dry_run,
        poll=_seconds(reader, table, "poll", "30s"),
        delivery=delivery,
        tries=tries,
        backoff=_seconds(reader, table, "backoff", "5m"),
        defaults=_defaults(reader, table),
    )


def _rows(reader: Reader, pipeline: Pipeline, table: Mapping[str, Any]) -> list[Row]:
    names = [stage.name for stage in pipeline.stages]
    launches = _mapping(reader, table, "launches")
    for name in launches:
        _stage_name(reader, name, names, f"launches{WHERE}")
    on = reader.text(table, "on", WHERE, "here")
    common = reader.text(table, "launch", WHERE, LAUNCH)
    rows: list[Row] = []
    skips: dict[str, str] = {}
    for stage in pipeline.stages:
        key = f"launch of {stage.name}{WHERE}" if stage.name in launches else f"launch{WHERE}"
        where = f" of launches{WHERE}"
        launch = reader.text(launches, stage.name, where, common)
        reader.fields([launch], LAUNCH_FIELDS, key, "")
        others = ",".join(name for name in names if name != stage.name)
        filled = fill(launch, {"stage": stage.name, "slug": stage.slug, "on": on, "others": others})
        _plain(reader, filled, key)
        if not STATE.fullmatch(stage.state):
            raise reader.wrong(
                f"state of stage {stage.name} is {shown(stage.state)}",
                "a state's name is up to 60 letters, digits, spaces, _ and -",
            )
        seconds = stage.timeout
        if on == "spot" and "{on}" in launch:
            seconds = spot_table.parse(pipeline.spot, pipeline.path, stage.timeout).longest
        row = Row(stage, filled, seconds, skip=f"skip_{stage.name.replace('-', '_')}")
        if row.execution_timeout > LONGEST_EXECUTION:
            more = "" if seconds == stage.timeout else f", and all its launches {seconds} s"
            raise reader.wrong(
                f"timeout of stage {stage.name} is {stage.timeout} s{more}",
                f"under SSM it is at most {LONGEST_EXECUTION - GRACE} s in all",
            )
        if row.skip in skips:
            raise reader.wrong(
                f"{skips[row.skip]} and {stage.name} are both skipped by {row.skip}",
                "rename one of them",
            )
        skips[row.skip] = stage.name
        rows.append(row)
    return rows


def _steps(
    reader: Reader, table: Mapping[str, Any], rows: list[Row]
) -> tuple[tuple[Row, ...], ...]:
    """Return the rows in the order of the table, those of one `parallel` group as one step."""
    groups = table.get("parallel", [])
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        raise reader.wrong(
            f"parallel{WHERE} is {shown(groups)}", 'give it lists of stages, as [["a", "b"]]'
        )
    names = [row.stage.name for row in rows]
    steps: list[tuple[Row, ...]] = [(row,) for row in rows]
    for group in groups:
        for name in group:
            _stage_name(reader, name, names, f"parallel{WHERE}")
        members = tuple(row for row in rows if row.stage.name in group)
        if len(members) < 2 or len(members) != len(group):
            raise reader.wrong(f"parallel{WHERE} has {shown(group)}", "name two stages or more")
        for row in members:
            for need in row.stage.needs:
                if need in group:
                    raise reader.wrong(
                        f"parallel{WHERE} has {row.stage.name} beside {need}, which it needs",
                        "take one of them out",
                    )
        place = next((i for i, step in enumerate(steps) if step == members[:1]), len(steps))
        if steps[place : place + len(members)] != [(row,) for row in members]:
            raise reader.wrong(
                f"the stages of {shown(group)} in parallel{WHERE} do not stand together",
                "put their rows one after another, and each stage into one group",
            )
        steps[place : place + len(members)] = [members]
    return tuple(steps)


def _defaults(reader: Reader, table: Mapping[str, Any]) -> dict[str, str | bool | int]:
    where = f" of defaults{WHERE}"
    defaults: dict[str, str | bool | int] = {}
    for key, value in _mapping(reader, table, "defaults").items():
        if key == "run_date":
            raise reader.wrong(
                f"{key}{where} would be one date for ever", "leave it to the execution"
            )
        if key in OWN or not KEY.fullmatch(key):
            raise reader.wrong(f"the key {shown(key)}{where} cannot be used", "rename it")
        switch = key == "dry_run" or key.startswith("skip_")
        if type(value) not in ((bool,) if switch else (str, bool, int)):
            raise reader.wrong(
                f"{key}{where} is {shown(value)}", "use true or false" if switch else "use a text"
            )
        if isinstance(value, str) and not _fits(value):
            raise _refused(reader, value, f"{key}{where}")
        defaults[key] = value
    return defaults


def _seconds(reader: Reader, table: Mapping[str, Any], key: str, default: str) -> int:
    seconds = duration(table.get(key, default))
    if seconds is None or seconds > 86400:
        raise reader.wrong(
            f"{key}{WHERE} is {shown(table.get(key))}",
            "give it seconds, or a text such as 30s or 5m, up to 24h",
        )
    return seconds


def _mapping(reader: Reader, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise reader.wrong(f"{key}{WHERE} is {shown(value)}", f"write [state_machine.{key}]")
    return value


def _stage_name(reader: Reader, name: object, names: list[str], where: str) -> None:
    if name not in names:
        raise reader.wrong(
            f"{where} names {shown(name)}, which is no stage", nearest(str(name), names)
        )


def _plain(reader: Reader, text: str, what: str) -> None:
    if not PLAIN.fullmatch(text):
        raise _refused(reader, text, what)


def _fits(text: str) -> bool:
    return text.isprintable() and not set(text) & set("'\"\\")


def _refused(reader: Reader, text: str, what: str) -> PipelineError:
    return reader.wrong(
        f"{what} holds a quote, a backslash, a brace or what is not plain text: {shown(text)}",
        "put what needs it into a script, and name the script here",
    )
