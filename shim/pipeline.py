"""pipeline.toml to validated values: the one table of stages, read once and never guessed at.

Every mistake is a PipelineError (exit 78) that names the file, the key and the nearest right one.
"""

from __future__ import annotations

import graphlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shim import regular, secret_names
from shim.address import key_problem
from shim.errors import PipelineError, nearest, shown
from shim.fields import FIELDS, INPUT_FIELDS
from shim.reader import Reader, duration
from shim.secret_names import SecretNames

MAX_PATH = 900  # bytes: the store's and the run's prefix fit before it in a key
RESERVED = "_stages"  # the folder of the records under a run prefix
TABLE_KEYS = ("root", "redact", "env_file", "requirements", "keep_failed", "stage",
              "state_machine", "spot")  # fmt: skip
KEEP_FAILED = 10 * 10**9  # bytes of what a failed attempt made, for each stage
OPTION_KEYS = ("pass", "help", "type", "default")
OPTION_TYPES = {"flag": (bool,), "text": (str,), "int": (int,), "float": (int, float)}
PATTERN = re.compile(r"[*?]|\[.*\]")  # as in a shell: glob(7)
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class StageOption:
    """One option of one stage: `--freeze-evaluator` for us, `--freeze` for the stage's command."""

    name: str
    stage: str
    passes: str
    kind: str
    help: str
    default: Any

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return self.name.upper().replace("-", "_")


@dataclass(frozen=True)
class Stage:
    """One row of the table. `timeout` is in seconds; paths are relative to the run prefix.

    `keep_failed` is how many bytes of what its failed attempt made are kept.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    requires: tuple[str, ...]
    produces: tuple[str, ...]
    inputs: tuple[str, ...]
    timeout: int
    state: str
    slug: str
    io: str
    keep_failed: int
    options: tuple[StageOption, ...]


STAGE_KEYS = ("name", "command", "needs", "requires", "produces", "inputs", "timeout", "state",
              "slug", "io", "keep_failed", "options")  # fmt: skip


@dataclass(frozen=True)
class Pipeline:
    """The whole table, its stages in an order in which they can run.

    `state_machine` and `spot` are those sections as they were read: shim.asl.table and
    shim.spot_table validate them.
    """

    path: str
    root: str
    redact: SecretNames
    env_file: str | None
    requirements: str | None
    stages: tuple[Stage, ...]
    state_machine: Any = None
    spot: Any = None

    @property
    def options(self) -> tuple[StageOption, ...]:
        """Every stage's options."""
        return tuple(option for stage in self.stages for option in stage.options)


def load(path: Path) -> Pipeline:
    """Read and validate a table. Raises PipelineError."""
    try:
        table = tomllib.loads(regular.read(path).decode())
    except OSError as error:
        raise PipelineError(
            f"cannot read the table {path} ({error.strerror})", "name one with --pipeline"
        ) from error
    except (ValueError, RecursionError) as error:  # also bytes, numbers and depths beyond TOML's
        raise PipelineError(f"{path}: not valid TOML: {error}", "see https://toml.io") from error
    return parse(table, path)


def parse(table: Mapping[str, Any], path: Path) -> Pipeline:
    """Validate a table that was read from `path`. Raises PipelineError."""
    reader = Reader(str(path))
    reader.keys(table, TABLE_KEYS, "")
    rows = table.get("stage")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise reader.wrong("there is no [[stage]]", "add one row [[stage]] for each stage")
    kept = reader.size(table, "keep_failed", "", KEEP_FAILED)
    stages = [_stage(reader, row, number, kept) for number, row in enumerate(rows, 1)]
    _unique(reader, stages)
    _files_apart(reader, stages)
    base = path.absolute().parent
    return Pipeline(
        path=str(path.absolute()),
        root=str((base / reader.text(table, "root", "", ".")).resolve()),
        redact=secret_names.parse(reader, table),
        env_file=reader.optional(table, "env_file", ""),
        requirements=reader.optional(table, "requirements", ""),
        stages=_ordered(reader, stages),
        state_machine=table.get("state_machine"),
        spot=table.get("spot"),
    )


def artifact_problem(path: str) -> str | None:
    """Return why a text cannot name an artifact under a run prefix, or None if it can."""
    if problem := key_problem(path):
        return problem
    if len(path.encode()) > MAX_PATH:
        return "is too long"
    if path.split("/")[0] == RESERVED:
        return f"lies under {RESERVED}/, which holds the records"
    return None


def _stage(reader: Reader, row: Mapping[str, Any], number: int, kept: int) -> Stage:
    name = row.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise reader.wrong(
            f"stage number {number} has the name {shown(name)}",
            "a name is lower-case letters, digits, - and _",
        )
    where = f" of stage {name}"
    reader.keys(row, STAGE_KEYS, where)
    command = reader.texts(row, "command", where)
    if not command:
        raise reader.wrong(f"stage {name} has no command", 'add command = ["program", "argument"]')
    reader.fields(command, FIELDS, "command", where)
    inputs = reader.texts(row, "inputs", where)
    reader.fields(inputs, INPUT_FIELDS, "inputs", where)
    requires, produces = (reader.texts(row, key, where) for key in ("requires", "produces"))
    for path in (*requires, *produces, *inputs):
        if problem := artifact_problem(path):
            raise reader.wrong(f"the path {shown(path)}{where} {problem}")
        if PATTERN.search(path):
            raise reader.wrong(
                f"the path {shown(path)}{where} is a pattern, and only names are known here",
                "name each file",
            )
    timeout = duration(row.get("timeout", ""))
    if timeout is None:
        raise reader.wrong(
            f"timeout{where} is {shown(row.get('timeout'))}",
            "give it seconds, or a text such as 45m or 2h",
        )
    io = reader.text(row, "io", where, "private")
    if io not in ("private", "direct"):
        raise reader.wrong(f"io{where} is {shown(io)}", nearest(io, ("private", "direct")))
    slug = reader.text(row, "slug", where, name)
    if not NAME.fullmatch(slug):
        raise reader.wrong(
            f"slug{where} is {shown(slug)}", "a slug is lower-case letters, digits, - and _"
        )
    return Stage(
        name=name,
        command=command,
        needs=reader.texts(row, "needs", where),
        requires=requires,
        produces=produces,
        inputs=inputs,
        timeout=timeout,
        state=reader.text(row, "state", where, name.title().replace("-", "").replace("_", "")),
        slug=slug,
        io=io,
        keep_failed=reader.size(row, "keep_failed", where, kept),
        options=_options(reader, row.get("options", {}), name),
    )


def _options(reader: Reader, table: object, stage: str) -> tuple[StageOption, ...]:
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise reader.wrong(f"options of stage {stage} is not a table", "see infrastructure/")
    options = []
    for name, row in table.items():
        where = f" of option {shown(name)} of stage {stage}"
        if not NAME.fullmatch(name):
            raise reader.wrong(f"the name{where} cannot be a flag", "write it as freeze-evaluator")
        reader.keys(row, OPTION_KEYS, where)
        kind = reader.text(row, "type", where, "flag")
        if kind not in OPTION_TYPES:
            raise reader.wrong(f"type{where} is {shown(kind)}", nearest(kind, OPTION_TYPES))
        default = row.get("default", False if kind == "flag" else None)
        if default is not None and (
            type(default) not in OPTION_TYPES[kind] or "\0" in str(default)
        ):
            raise reader.wrong(f"default{where} is {shown(default)}", f"its type is {kind}")
        options.append(
            StageOption(
                name=name,
                stage=stage,
                passes=reader.text(row, "pass", where, f"--{name}"),
                kind=kind,
                help=reader.text(row, "help", where, f"passed to {stage}"),
                default=default,
            )
        )
    return tuple(options)


def _unique(reader: Reader, stages: list[Stage]) -> None:
    """Refuse two stages, slugs, artifacts or options with one name."""
    seen: dict[tuple[str, str], str] = {}
    for stage in stages:
        claims = [("name", stage.name), ("slug", stage.slug), ("state", stage.state)]
        claims += [("artifact", str(PurePosixPath(path))) for path in stage.produces]
        claims += [("option", option.variable) for option in stage.options]
        for claim in claims:
            if claim in seen:
                owner = "two stages" if claim[0] == "name" else f"{seen[claim]} and {stage.name}"
                raise reader.wrong(f"{owner} have the {claim[0]} {claim[1]}", "rename one of them")
            seen[claim] = stage.name


def _files_apart(reader: Reader, stages: list[Stage]) -> None:
    """Refuse a file whose name is another one's folder: a directory cannot hold both."""
    owners = {path: stage.name for stage in stages for path in stage.produces}
    for path, stage in owners.items():
        for folder in map(str, PurePosixPath(path).parents):
            if folder in owners:
                raise reader.wrong(
                    f"stage {stage} produces {shown(path)}, and stage {owners[folder]} the file "
                    f"{shown(folder)}, which cannot be its folder too",
                    "rename one of them",
                )


def _ordered(reader: Reader, stages: list[Stage]) -> tuple[Stage, ...]:
    """Return the stages in an order in which they can run, the table's own where that is one."""
    by_name = {stage.name: stage for stage in stages}
    producer = {path: stage.name for stage in stages for path in stage.produces}
    for stage in stages:
        for need in stage.needs:
            if need not in by_name:
                raise reader.wrong(
                    f"stage {stage.name} needs {shown(need)}, which is no stage",
                    nearest(need, by_name),
                )
    sorter = graphlib.TopologicalSorter({stage.name: stage.needs for stage in stages})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise reader.wrong(
            f"needs go in a circle: {' -> '.join(error.args[1])}", "remove one of them"
        ) from error
    order: list[Stage] = []
    before: dict[str, set[str]] = {}
    waiting = list(stages)
    while waiting:
        stage = next(s for s in waiting if all(need in before for need in s.needs))
        waiting.remove(stage)
        before[stage.name] = {stage.name}.union(*(before[need] for need in stage.needs))
        order.append(stage)
    for stage in stages:
        for path in stage.requires:
            owner = producer.get(path)
            if owner is None:
                raise reader.wrong(
                    f"stage {stage.name} requires {shown(path)}, which no stage produces",
                    nearest(path, producer),
                )
            if owner == stage.name or owner not in before[stage.name]:
                raise reader.wrong(
                    f"stage {stage.name} requires {path} of {owner} and does not need {owner}",
                    f'add "{owner}" to its needs',
                )
    return tuple(order)
