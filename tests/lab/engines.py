"""Other interpreters of state machines, each as a function: an execution, and what it sent to SSM.

Ministack's is the lab's engine; npm's aws-local-stepfunctions and moto's run in a process of their
own, which is started once and ends with its block.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab import fake_credentials
from tests.lab.stepfunctions import NUMBERS, Engine
from tests.lab.tools import node_package

HERE = Path(__file__).parent
NPM = "aws-local-stepfunctions@3.0.0"
SUCCESS = [[{"Status": "Success", "ResponseCode": 0}]]
Lines = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One execution; its name is free in every engine."""

    definition: Mapping[str, Any]
    given: Mapping[str, Any]
    slugs: Sequence[str] = ()
    name: str = field(default_factory=lambda: f"it's-{next(NUMBERS)}")


@dataclass(frozen=True)
class Sent:
    """What an execution sent: the `commands` of each SendCommand; and its error, empty if none."""

    commands: tuple[Lines, ...]
    error: str


Run = Callable[[Sequence[Case]], list[Sent]]


def ministack(lab: Engine) -> Run:
    """Return the lab's engine; no script is run, and every command has succeeded."""

    def run(cases: Sequence[Case]) -> list[Sent]:
        arns = [
            lab.start(
                *(json.dumps(case.definition), case.given),
                name=case.name,
                answers=dict.fromkeys(case.slugs, SUCCESS),
            )
            for case in cases
        ]
        found = []
        for execution in map(lab.end, arns):
            calls = [call for call in execution.calls if call["action"] == "sendCommand"]
            commands = (call["params"]["Parameters"]["commands"] for call in calls)
            failed = execution.status != "SUCCEEDED"
            error = f"{execution.error}: {execution.cause}" if failed else ""
            found.append(Sent(tuple(map(tuple, commands)), error))
        return found

    return run


@contextmanager
def npm(log: Path) -> Iterator[Run]:
    """Run npm's engine; or skip."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = (node, str(HERE / "local_engine.mjs"), str(node_package(NPM)))
    with _program(command, log) as run:
        yield run


@contextmanager
def moto(log: Path) -> Iterator[Run]:
    """Run moto's engine."""
    with _program((sys.executable, str(HERE / "moto_engine.py")), log) as run:
        yield run


@contextmanager
def _program(command: Sequence[str], log: Path) -> Iterator[Run]:
    environment = {**os.environ, **fake_credentials("")}
    del environment["AWS_ENDPOINT_URL"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def run(cases: Sequence[Case]) -> list[Sent]:
            found = []
            for case in cases:
                order = {
                    "definition": case.definition,
                    "input": case.given,
                    "name": case.name,
                    "context": {"Execution": {"Name": case.name}},
                }
                asked.write(f"{json.dumps(order)}\n")
                asked.flush()
                line = answers.readline()
                assert line, log.read_text()[-2000:]
                answer = json.loads(line)
                commands = (each["Parameters"]["commands"] for each in answer["sent"])
                sent = tuple(tuple(each) for each in commands if each is not None)
                found.append(Sent(sent, answer["error"] or ""))
            return found

        yield run
