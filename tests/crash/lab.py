"""The lab of the sweep: each call and each mark has a name, and at one of them a trap is sprung.

A mark is a request that changed code and the stage make where a process begins or ends: it is
answered when whatever was to happen there has happened. Beside the calls of the lab there is the
access log that the checker reads, and instances that are shut down, not cut off, when they are
terminated (docs.aws.amazon.com/AWSEC2/latest/UserGuide/how-ec2-instance-termination-works.html).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.lab.aws import AwsLab, Call, Fault
from tests.lab.ec2_instances import ENDED, LabInstance
from tests.lab.machine import Machine

MARKS = "_mark"  # a bucket that there is not
READS = ("Get", "Head", "List", "Describe")
STATE = re.compile(rb'"state": "(open|closed)"')
SHUTDOWN = 20.0  # seconds that a terminated instance may take for its shutdown; systemd gives 90
# What a key is, the first that fits; the last part of a name tells stages apart where it matters.
KINDS = (
    (r"_bundles/", "bundle"),
    (r"_tmp/", "probe"),
    (r"_ssm_logs/(?:\.dry-run/)?(\w+)/", "log-{}"),
    (r"_stages/_launches/.+\.json$", "launch"),
    (r"_stages/_claim\.json$", "claim"),
    (r"_stages/_checkpoints/", "checkpoint"),
    (r"_stages/(\w+)\.json$", "commit-{}"),
    (r"_stages/(\w+)/.+\.json$", "receipt-{}"),
    (r"/(\w+)\.txt$", "artifact-{}"),
)


@dataclass
class Trap:
    """What is to happen once, at the call or mark `at`, before or after its effect."""

    at: str
    after: bool
    fire: Callable[[], None]
    what: str = ""  # as of AwsLab.fault
    sprung: float = 0.0  # when, by the wall clock
    failed: str = ""  # why it did not happen, which no case may hide

    def spring(self) -> None:
        """Let it happen."""
        try:
            self.fire()
        except Exception as error:
            self.failed = repr(error)
            raise


@dataclass(frozen=True)
class Row:
    """A line of the access log, in the order of effects."""

    at: float  # by the wall clock
    caller: str
    operation: str
    key: str
    outcome: str


@dataclass
class Log:
    """What outsiders can know of the calls."""

    rows: list[Row] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of calls and marks as they began


class Gentle(Machine):
    """A machine that EC2 shuts down when it is terminated: TERM to all, then time to end."""

    def __init__(self, instance: LabInstance, user_data: bytes, folder: Path, lab: Lab) -> None:
        super().__init__(instance, user_data, folder, lab)
        self._instance = instance
        self.began = time.time()
        self.ended: float | None = None  # when it began to end

    def kill(self) -> None:
        """Shut down if it was terminated by a call, then cut the power."""
        self.ended = self.ended or time.time()
        if self._instance.reason == ENDED:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + SHUTDOWN
            while self.pids() and time.monotonic() < until:
                time.sleep(0.05)
        super().kill()


class Lab(AwsLab):
    """One lab for one case."""

    _boots = Gentle

    def __init__(self, folder: Path) -> None:
        self.trap: Trap | None = None
        self.log = Log()
        super().__init__(folder)
        self.log = Log()

    def _answer(
        self, call: Call, environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        if call.params.get("Bucket") == MARKS:
            return self._mark(call, start)
        state = ""
        if call.service == "s3" and call.operation == "PutObject":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
            found = STATE.search(body) if "_stages/" in call.params["Key"] else None
            state = f"-{found[1].decode()}" if found else ""
        call.name = name(call, state)  # type: ignore[attr-defined]
        self.log.names.append(call.name)  # type: ignore[attr-defined]
        try:
            return super()._answer(call, environ, start)
        finally:
            key = call.params.get("Key", "") or str(call.params.get("InstanceIds") or "")
            row = Row(time.time(), call.caller, call.operation, key, call.outcome)
            self.log.rows.append(row)

    def _mark(self, call: Call, start: Callable[..., Any]) -> Iterable[bytes]:
        self.log.names.append(call.params["Key"])
        trap = self._trapped(call.params["Key"])
        if trap:
            trap.spring()
        start("204 No Content", [("Content-Length", "0")])
        return []

    def _due(self, call: Call) -> Fault | None:
        trap = self._trapped(getattr(call, "name", ""))
        if trap is None:
            return super()._due(call)
        when = {"done" if trap.after else "before": lambda _: trap.spring()}
        return Fault(call.service, call.operation, trap.what, **when)  # type: ignore[arg-type]

    def _trapped(self, at: str) -> Trap | None:
        with self._lock:
            trap = self.trap
            if trap is None or trap.sprung or trap.at != at:
                return None
            trap.sprung = time.time()
            return trap


def name(call: Call, state: str = "") -> str:
    """Return who calls what, and for what kind of object."""
    role = "instance" if call.caller.startswith("i-") else call.caller
    return " ".join(filter(None, [role, call.operation, f"{_kind(call)}{state}"]))


def effective(called: str) -> bool:
    """Return whether a call may change anything; a mark does not."""
    return " " in called and not called.split()[1].startswith(READS)


def _kind(call: Call) -> str:
    if call.service == "ec2":
        if call.operation == "DescribeInstances":
            return "by-id" if call.params.get("InstanceIds") else "by-tag"
        return "dry" if call.params.get("DryRun") else ""
    key = call.params.get("Key", "")
    for shape, kind in KINDS:
        if found := re.search(shape, key):
            return kind.format(*found.groups())
    return "other" if key else ""
