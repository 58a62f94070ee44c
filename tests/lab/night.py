"""A night of a lab: one clock, one host, one execution of a state machine, and what it tells.

The clock stands in the place of everybody's own: of the shim, of Step Functions, which has
StartTime from it, and of the host's `date`. It stands still until the execution is started.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.lab import init
from tests.lab.fast_clock import FastClock
from tests.lab.host import Host
from tests.lab.patches import patches, sitecustomize
from tests.lab.stepfunctions import INPUT, Engine, engine
from tests.lab.timeline import Timeline
from tests.launches import PACE

START = datetime(2026, 5, 16, 22, 45, tzinfo=UTC)  # a Saturday
MIDNIGHT = datetime(2026, 5, 17, tzinfo=UTC)
LONGEST = 240.0  # real seconds for an execution
SETTLING = 20.0  # real seconds for what ends after it
NAME = "saturday"  # of the execution
# By a clock as fast as this one a heartbeat every 30 s is no sign of life; and nobody waits long
# for a store that has gone with the lab.
SHIM = {
    **PACE,
    "shim.record": "HEARTBEAT, SILENT = 2.0, 86400.0",
    "shim.follow": f"{PACE['shim.follow']}; OUTAGE = 15.0",
    "shim.endure": "PATIENCE = 15.0",
    "shim.ship": f"{PACE['shim.ship']}; LAST = 5.0",
}
STAMP = "now_iso = lambda: {}.strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3] + 'Z'"


class Unproven(Exception):  # noqa: N818  a result
    """What was to be proven is not so."""


class Night:
    """See above; `rate` is how fast the clock runs, but for the time just before midnight."""

    def __init__(self, folder: Path, rate: float) -> None:
        self.folder, self.rate = folder, rate
        self.clock = FastClock(folder / "clock", START, 0.0)
        self.timeline = Timeline(self.clock)
        self.host = Host(folder / "host", self.clock)
        now = f"utc_now = lambda: {self.clock.expression}"
        self.shim = patches(folder / "patches", {**SHIM, "shim.clock": now})
        self._seen = 0
        self._crossed = False

    @contextmanager
    def step_functions(self) -> Iterator[Engine]:
        """Run Step Functions; what its commands leave on the host is ended with it."""
        now = STAMP.format(self.clock.expression)
        its_own = {
            "PYTHONPATH": str(
                sitecustomize(self.folder / "site", {"ministack.services.stepfunctions": now})
            ),
            "SFN_WAIT_SCALE": str(1 / self.rate),
            "LAB_PATH": self.host.path,
        }
        set_ = (f"{name}={value}" for name, value in its_own.items())
        try:
            with engine(self.folder / "engine", ("env", *set_)) as lab:
                yield lab
        finally:
            init.cut(self.processes)

    def processes(self) -> init.Found:
        """Return what runs on the host."""
        return init.find(None, self.host.mark)

    def cross(self, what: str, seconds: float) -> None:
        """Let midnight come in so many real seconds, while what has just begun goes on."""
        rate = self.clock.reach(MIDNIGHT, seconds)
        self.timeline.tell(f"(the clock runs {rate:.0f} times as fast, so {what} sees midnight)")

    def run(self, lab: Engine, definition: Mapping[str, Any], look: Callable[[], str]) -> None:
        """Run a definition to its end; `look` says what else goes on. Raises Unproven."""
        text = self.host.rooted(json.dumps(definition))
        lab.create(text)
        self.clock.run(self.rate)
        arn = lab.start(text, INPUT, name=NAME)
        until = time.monotonic() + LONGEST
        while True:
            found = lab.ask("DescribeExecution", executionArn=arn)
            doing = look()
            self._tell_entered(lab, arn, definition)
            self._tell_midnight()
            self.timeline.show(doing)
            if found["status"] != "RUNNING":
                break
            if time.monotonic() > until:
                raise Unproven(f"it runs for {LONGEST:.0f} s\n{last_words(lab)}")
            time.sleep(0.15)
        self.timeline.tell(f"the execution ends: {found['status']}", _moment(found["stopDate"]))
        self.settled("a process of the host is left", lambda: not self.processes(), look)
        self.timeline.end()
        if found["status"] != "SUCCEEDED":
            raise Unproven(f"{found.get('cause')}\n{last_words(lab)}")

    def settled(self, what: str, done: Callable[[], bool], look: Callable[[], str]) -> None:
        """Watch until something has ended. Raises Unproven: what, if it does not."""
        until = time.monotonic() + SETTLING
        while not done():
            self.timeline.show(look())
            if time.monotonic() > until:
                raise Unproven(what)
            time.sleep(0.05)
        look()

    def _tell_entered(self, lab: Engine, arn: str, definition: Mapping[str, Any]) -> None:
        """Tell of the states that were entered since the last look."""
        asked = {"executionArn": arn, "reverseOrder": True, "maxResults": 100}
        events = lab.ask("GetExecutionHistory", includeExecutionData=False, **asked)["events"]
        for event in reversed([event for event in events if event["id"] > self._seen]):
            self._seen = event["id"]
            name = event.get("stateEnteredEventDetails", {}).get("name", "")
            if what := about(definition, name):
                self.timeline.tell(f"state {name}: {what}", _moment(event["timestamp"]))

    def _tell_midnight(self) -> None:
        if not self._crossed and self.clock.now() >= MIDNIGHT:
            self._crossed = True
            self.clock.run(self.rate)
            self.timeline.tell("midnight UTC: every clock says Sunday, 2026-05-17", MIDNIGHT)


def about(definition: Mapping[str, Any], name: str) -> str:
    """Return what a state is for, where that is worth a line."""
    state = definition["States"].get(name, {})
    if name == definition["StartAt"]:
        return "the run date is that of StartTime"
    if state.get("Type") == "Parallel":
        return "its branches start"
    resource = state.get("Resource", "")
    if resource.endswith("ssm:sendCommand"):
        return "sends its command to the host"
    return "tells the topic" if resource.endswith("sns:publish") else ""


def last_words(lab: Engine) -> str:
    """Return the ends of what the last commands printed."""
    outputs = sorted(lab.folder.glob("*/output"), key=lambda path: path.stat().st_mtime)
    return "\n".join(path.read_text(errors="replace")[-3000:] for path in outputs[-2:])


def _moment(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)
