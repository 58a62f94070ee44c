"""State machines built from tables, for the tests: ours, the weekly one, and either changed."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from shim.asl import build, table
from shim.asl.walk import machines
from shim.pipeline import parse
from tests.entry import ROOT

OURS = ROOT / "infrastructure" / "pipeline.toml"
WEEKLY = ROOT / "examples" / "weekly" / "pipeline.toml"
BOTH = (OURS, WEEKLY)
every_table = pytest.mark.parametrize("path", BOTH, ids=lambda path: path.parent.name)


def read(path: Path) -> dict[str, Any]:
    """Return a table as it is written."""
    return tomllib.loads(path.read_text())


def text_of(path: Path) -> str:
    """Return the definition that is checked in beside a table."""
    return path.with_name("step_function.json").read_text()


def built(path: Path, section: Mapping[str, Any] | None = None, **stage: Any) -> dict[str, Any]:
    """Return the definition of a table, its section and every one of its stages changed."""
    found = read(path)
    found["state_machine"] |= section or {}
    for row in found["stage"]:
        row |= stage
    return build.definition(table.parse(parse(found, path)))


def changed(definition: Mapping[str, Any], change: Callable[[Any], object]) -> str:
    """Return the text of a definition that was changed."""
    document = copy.deepcopy(definition)
    change(document["States"])
    return json.dumps(document)


def every_machine(definition: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return a definition, and each machine inside its Parallel states."""
    yield definition
    for name, state in definition["States"].items():
        for _, machine in machines(name, state):
            yield from every_machine(machine)


def states(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return every state by name, those of branches too."""
    return {
        name: state
        for machine in every_machine(definition)
        for name, state in machine["States"].items()
    }


def targets(state: Mapping[str, Any]) -> set[str]:
    """Return where a state may lead."""
    leads = [state, *state.get("Choices", ()), *state.get("Catch", ())]
    return {lead["Next"] for lead in leads if "Next" in lead} | (
        {state["Default"]} if "Default" in state else set()
    )
