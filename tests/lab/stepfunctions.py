"""A Step Functions engine for tests: definitions are executed, and their commands are run by sh.

The engine is ministack in an environment of its own (requirements/ministack.txt), on 127.0.0.1; see
stepfunctions_server.py for its SSM. `python`, which launch lines start, is a stand-in that leaves
what it was given and does what a test says.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.tools import python_tools

SERVER = Path(__file__).with_name("stepfunctions_server.py")
SCALE = "0.001"  # a Wait of 30 s takes 30 ms
INPUT = {"ec2_instance_id": "i-0123456789abcdef0", "sns_topic_arn": "arn:aws:sns:eu-west-1:1:t"}
# What `python` leaves of a call, each ended by a NUL; then the stage, in the same shell.
STAND_IN = """#!/bin/sh
folder=${0%/*}
printf '%s\\0' "$RUN_DATE" "$EXECUTION_ID" "$(date -u +%F)" "$PWD" "${HOME-no HOME}" "$@" \
  >"$folder/ran/$SSM_COMMAND_ID"
stage=$folder/stages/$EXECUTION_ID.$5
[ ! -e "$stage" ] || . "$stage"
"""
CREDENTIAL = "test/20260101/us-east-1/states/aws4_request"
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Ran:
    """One launch line that ran, as its program saw it."""

    run_date: str
    execution_id: str
    today: str
    cwd: str
    home: str
    arguments: tuple[str, ...]

    @property
    def stage(self) -> str:
        """The stage's slug."""
        return self.arguments[self.arguments.index("--slug") + 1]


@dataclass(frozen=True)
class Execution:
    """An execution that ended: the states it entered, with their inputs, and its calls of APIs."""

    name: str
    status: str
    error: str
    cause: str
    entered: tuple[tuple[str, Any], ...]
    calls: tuple[Mapping[str, Any], ...]
    ran: tuple[Ran, ...]

    @property
    def states(self) -> list[str]:
        """The states that were entered, in order; those of parallel branches are mixed."""
        return [name for name, _ in self.entered]

    def actions(self, slug: str = "") -> list[str]:
        """Return the actions called, for one stage or for all, each once for each call."""
        return [str(c["action"]) for c in self.calls if slug in ("", c["slug"])]

    @property
    def messages(self) -> list[tuple[str, str]]:
        """The subjects and messages that were published or were to be."""
        found = (call["params"] for call in self.calls if call["action"] == "publish")
        return [(params["Subject"], params["Message"]) for params in found]


class Engine:
    """A running engine."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self._port = folder, port
        self._machines: dict[str, str] = {}

    def create(self, definition: str) -> str:
        """Create a state machine, once for each definition, and return its ARN."""
        if definition not in self._machines:
            answer = self.ask(
                "CreateStateMachine",
                name=f"machine-{len(self._machines)}",
                definition=definition,
                roleArn="arn:aws:iam::000000000000:role/lab",
            )
            self._machines[definition] = answer["stateMachineArn"]
        return self._machines[definition]

    def start(
        self,
        definition: str,
        given: object,
        *,
        name: str = "",
        stages: Mapping[str, str] | None = None,
        errors: Mapping[str, Sequence[tuple[str, int]]] | None = None,
        answers: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] | None = None,
    ) -> str:
        """Start an execution and return its ARN; `stages` are shell commands by slug."""
        name = name or f"run-{next(NUMBERS)}"
        plan = {"errors": errors or {}, "answers": answers or {}}
        (self.folder / f"{name}.plan").write_text(json.dumps(plan))
        for slug, script in (stages or {}).items():
            (self.folder / "bin" / "stages" / f"{name}.{slug}").write_text(script)
        machine = self.create(definition)
        answer = self.ask(
            "StartExecution", stateMachineArn=machine, name=name, input=json.dumps(given)
        )
        return str(answer["executionArn"])

    def run(self, definition: str, given: object, *, timeout: float = 60, **how: Any) -> Execution:
        """Run an execution to its end; see `start`."""
        return self.end(self.start(definition, given, **how), timeout)

    def end(self, arn: str, timeout: float = 60) -> Execution:
        """Return an execution when it has ended."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.ask("DescribeExecution", executionArn=arn)
            if found["status"] != "RUNNING":
                break
            assert time.monotonic() < deadline, f"{arn} did not end: {self.entered(arn)[-9:]}"
            time.sleep(0.05)
        name = found["name"]
        log = self.folder / f"{name}.calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return Execution(
            name=name,
            status=found["status"],
            error=found.get("error") or "",
            cause=found.get("cause") or "",
            entered=self.entered(arn),
            calls=tuple(json.loads(line) for line in lines),
            ran=self._ran(name),
        )

    def entered(self, arn: str) -> tuple[tuple[str, Any], ...]:
        """Return the states that were entered, in order, each with its input."""
        found: list[tuple[str, Any]] = []
        params = {"executionArn": arn, "maxResults": 1000}
        while True:
            answer = self.ask("GetExecutionHistory", **params)
            entered = (event.get("stateEnteredEventDetails") for event in answer["events"])
            found += [(each["name"], json.loads(each["input"])) for each in entered if each]
            if not answer.get("nextToken"):
                return tuple(found)
            params["nextToken"] = answer["nextToken"]

    def _ran(self, name: str) -> tuple[Ran, ...]:
        files = sorted((self.folder / "bin" / "ran").iterdir(), key=lambda f: f.stat().st_mtime_ns)
        found = []
        for file in files:
            run_date, execution_id, today, cwd, home, *more = file.read_text().split("\0")[:-1]
            if execution_id == name:
                found.append(Ran(run_date, execution_id, today, cwd, home, tuple(more)))
        return tuple(found)

    def ask(self, action: str, **params: Any) -> dict[str, Any]:
        """Call an action of Step Functions."""
        headers = {
            "X-Amz-Target": f"AWSStepFunctions.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}",
        }
        server = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with contextlib.closing(server):
            server.request("POST", "/", json.dumps(params), headers)
            answer = server.getresponse()
            body = answer.read()
        assert answer.status == 200, body
        decoded: dict[str, Any] = json.loads(body)
        return decoded


@contextmanager
def engine(folder: Path, prefix: tuple[str, ...] = ()) -> Iterator[Engine]:
    """Run an engine, which ends with the block or with this process; `prefix` may set its clock."""
    python = python_tools("ministack.txt") / "python"
    stand_in = folder / "bin" / "python"
    for name in ("ran", "stages", "home"):
        (folder / "bin" / name).mkdir(parents=True)
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "bin" / "home"),
        "TMPDIR": str(folder / "bin" / "home"),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SFN_WAIT_SCALE": SCALE,
        "LAB_FOLDER": str(folder),
        "LAB_PATH": f"{folder / 'bin'}:/usr/bin:/bin",
    }
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(
            [*prefix, str(python), str(SERVER)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        ) as server,
    ):
        try:
            found = Engine(folder, port)
            _await(found, server, folder / "server.log")
            yield found
        finally:
            if server.stdin:
                server.stdin.close()  # the server ends with it; under faketime a signal would not
            server.wait(20)


def _await(found: Engine, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            found.ask("ListStateMachines")
            return
        assert server.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)
