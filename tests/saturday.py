"""A Saturday night in the lab, to watch: Step Functions, SSM, EC2 and S3 while midnight passes.

Usage: python -m tests.saturday [weekly] [--keep FOLDER]

At 22:45 UTC Step Functions starts infrastructure/step_function.json; each stage's command launches
an instance, and midnight comes while the backtest runs. With `weekly` it starts that of
examples/weekly, whose launchers are stubs. AWS is on 127.0.0.1 and instances are trees of real
processes. Exit 0 if what the last line says was proven, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn
from unittest import mock

import pytest
from moto.s3 import models as s3_models

from shim.store import Store, open_store
from tests.lab import NO_CONFIG, s3_server, unset
from tests.lab.aws import AwsLab, Call, aws_lab
from tests.lab.launchers import Launchers
from tests.lab.night import NAME, START, Night, Unproven
from tests.machines import OURS, WEEKLY, read, text_of
from tests.repositories import copy_of_the_tool

DATE, NEXT = "2026-05-16", "2026-05-17"
ENV_FILE = "/etc/spot-backtest.env"
CROSSING = 2.5  # real seconds from the backtest's receipt to midnight; it runs for more
RECEIPT = re.compile(r"backtest/[^_]+/_stages/([a-z]+)/([^/]+)\.json")
COMMIT = re.compile(r"backtest/[^_]+/_stages/([a-z]+)\.json")
DAY = re.compile(r"(?<![\w-])\d{4}-\d\d-\d\d(?![\w-])")


def say(text: str = "") -> None:
    """Print a line."""
    print(text, flush=True)


def saturday(night: Night, stack: ExitStack) -> tuple[Store, str]:
    """Run infrastructure/step_function.json; return the store and what was proven."""
    aws = stack.enter_context(aws_lab(night.folder / "aws"))
    furnish(aws, night, stack)
    tool = copy_of_the_tool(night.host.at("/opt/spot-backtest"))
    given = {
        **aws.env,
        **night.shim,
        "SPOT_STORE": f"s3://{aws.bucket}",
    }
    night.host.env_file(ENV_FILE, given)
    definition = json.loads(text_of(OURS))
    say("machine  infrastructure/step_function.json, the host's paths in a folder")
    say(f"host     {tool}; {ENV_FILE} says where the store is")
    say(f"store    s3://{aws.bucket} at {aws.url}")
    _say_clock(night)
    lab = stack.enter_context(night.step_functions())
    watch = Instances(night, aws)
    night.run(lab, definition, watch.look)
    night.settled("an instance is left", lambda: not watch.left(), watch.look)
    night.timeline.end()
    with mock.patch.dict(os.environ, aws.env):
        store = open_store(f"s3://{aws.bucket}")
        return store, _proven(night, aws, store, tool, given)


def furnish(aws: AwsLab, night: Night, stack: ExitStack) -> None:
    """Give the clock to the store, in every answer's Date and for its objects, and to instances."""

    def date_time_string(*_: object) -> str:
        return format_datetime(night.clock.now(), usegmt=True)

    def utcnow() -> datetime:
        return night.clock.now().replace(tzinfo=None)

    stack.enter_context(mock.patch.object(s3_server.Handler, "date_time_string", date_time_string))
    stack.enter_context(mock.patch.object(s3_models, "utcnow", utcnow))
    aws.change("dt.datetime.now(dt.timezone.utc)", night.clock.expression)
    aws.instance_env = dict(night.shim)


class Instances:
    """Watches the instances, and the receipts and commits that are put into the store."""

    def __init__(self, night: Night, aws: AwsLab) -> None:
        self._night, self._aws = night, aws
        self._states: dict[str, str] = {}
        self._receipts: set[str] = set()
        aws.on_call = self._call

    def look(self) -> str:
        """Tell of those that were launched or have ended; return which run."""
        tell = self._night.timeline.tell
        for made in list(self._aws.instances.values()):
            before, self._states[made.id] = self._states.get(made.id), made.state
            if before is None:
                tell(f"{made.id} is launched: {made.type} {made.market} in {made.zone}")
            if before != made.state == "terminated":
                tell(f"{made.id} has ended: {made.reason[0]}")
        return f"{', '.join(self._aws.alive()) or 'no instance'} runs"

    def left(self) -> list[str]:
        """Return those that have not ended, or of which a process is left."""
        made = list(self._aws.instances.values())
        return [i.id for i in made if i.state != "terminated" or i.machine.pids()]

    def _call(self, call: Call) -> None:
        if call.outcome != "ok" or call.operation != "PutObject":
            return
        tell, key = self._night.timeline.tell, call.params["Key"]
        if found := COMMIT.fullmatch(key):
            tell(f"{found[1]} has committed, from {call.caller}")
        found = RECEIPT.fullmatch(key)
        if found and found[2] not in self._receipts:
            self._receipts.add(found[2])
            tell(f"{found[1]} starts on {call.caller}: attempt {found[2]}")
            if found[1] == "backtest":
                self._night.cross(found[1], CROSSING)


def _proven(night: Night, aws: AwsLab, store: Store, tool: Path, given: Mapping[str, str]) -> str:
    """Show what stands at the end and return what that proves. Raises Unproven."""
    say(f"\n$ ./spot_backtest.sh status --date {DATE}")
    status = subprocess.run(
        ["bash", str(tool / "spot_backtest.sh"), "status", "--date", DATE],
        env={"PATH": night.host.path, **given},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    say(f"\nkeys in {store.uri}")
    keys = [there.key for there in store.list("")]
    for key in keys:
        say(f"  {key}")
    say("\nfirst lines of report.md")
    report = store.read(f"backtest/{DATE}/report.md")
    for line in (report[0].decode() if report else "").splitlines()[:12]:
        say(f"  {line}".rstrip())
    dates = sorted({day for key in keys for day in DAY.findall(key)})
    began, ended = _backtest(store)
    commits = [key for key in keys if COMMIT.fullmatch(key)]
    _check(
        {
            f"the dates in the store are {dates}": dates == [DATE],
            f"status leaves with {status.returncode}": status.returncode == 0,
            f"there are {len(commits)} commits": len(commits) == 3,
            f"{len(aws.instances)} instances were launched": len(aws.instances) == 3,
            f"{len(aws.alive())} instances are alive": not aws.alive(),
            f"the backtest ran from {began} to {ended}": began < NEXT <= ended,
        }
    )
    return f"one date ({DATE}), three commits, zero instances (three were launched)"


def _backtest(store: Store) -> tuple[str, str]:
    """Return when the backtest's receipt was opened and when it committed, by the store's clock."""
    there = store.read(f"backtest/{DATE}/_stages/backtest.json")
    commit = json.loads(there[0]) if there else {"attempt": "none", "committed": ""}
    there = store.read(f"backtest/{DATE}/_stages/backtest/{commit['attempt']}.json")
    return (json.loads(there[0])["opened"] if there else ""), commit["committed"]


def weekly(night: Night, stack: ExitStack) -> tuple[Store, str]:
    """Run examples/weekly/step_function.json; return the store and what was proven."""
    home = copy_of_the_tool(night.host.at("/home/ec2-user/weekly"))
    stages = [row["name"] for row in read(WEEKLY)["stage"]]
    launchers = Launchers(night, home / "infrastructure", stages)
    store = open_store(str(night.folder / "store"))
    values = {**night.shim, "SPOT_STORE": store.uri}
    night.host.env_file("/home/ec2-user/weekly/weekly.env", values)
    say("machine  examples/weekly/step_function.json, the host's paths in a folder")
    say(f"host     {home}; each launcher is a stub that waits a second")
    say(f"store    {store.uri}")
    _say_clock(night)
    lab = stack.enter_context(night.step_functions())
    night.run(lab, json.loads(text_of(WEEKLY)), launchers.look)
    say("\nstage               began                 ended, by its own clock")
    for name, times in launchers.times.items():
        say(f"{name:<18}  {'  '.join(times)}")
    logs = [there.key for there in store.list("_ssm_logs/")]
    dates = sorted({day for key in logs for day in DAY.findall(key)})
    own = sorted({time[:10] for times in launchers.times.values() for time in times})
    beside, ran = launchers.beside(), list(launchers.times)
    wanted = [set(group) for group in read(WEEKLY)["state_machine"]["parallel"]]
    _check(
        {
            f"these ran: {ran}": sorted(ran) == sorted(stages),
            f"they were told {launchers.told}": launchers.told == {(DATE, NAME)},
            f"the dates of the {len(logs)} logs are {dates}": (len(logs), dates) == (8, [DATE]),
            f"their own clocks said {own}": own == [DATE, NEXT],
            f"side by side ran {beside}": beside == wanted,
        }
    )
    pair = " and ".join(sorted(beside[0]))
    return store, f"one date ({DATE}), eight stages on two days, two side by side ({pair})"


def _check(checks: Mapping[str, bool]) -> None:
    """Raise Unproven for what is not as it must be."""
    if wrong := [text for text, right in checks.items() if not right]:
        raise Unproven("; ".join(wrong))


def _say_clock(night: Night) -> None:
    say(f"clock    {night.rate:.0f} times as fast from {START:%A %F %T} UTC on, for all of them;")
    say("         StartTime is this clock's, seconds that the shim counts are real ones")
    say("engine   ministack, in an environment of its own that is made on first use\n")


def keep(store: Store, folder: Path) -> None:
    """Copy what a store holds into a folder."""
    kept = open_store(str(folder))
    for there in list(store.list("")):
        if found := store.read(there.key):
            kept.put(there.key, found[0])


def main() -> int:
    """Run one night; whatever it started has ended when this returns."""
    parser = argparse.ArgumentParser(prog="python -m tests.saturday")
    parser.add_argument("which", nargs="?", choices=("saturday", "weekly"), default="saturday")
    parser.add_argument("--keep", type=Path, help="copy what the store holds at the end to here")
    given = parser.parse_args()
    for name in os.environ.keys() - unset(os.environ).keys():
        del os.environ[name]
    os.environ.update(NO_CONFIG)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    began = time.monotonic()
    run, rate = (weekly, 120.0) if given.which == "weekly" else (saturday, 30.0)
    try:
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="saturday-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            store, proven = run(Night(folder, rate), stack)
            if given.keep:
                keep(store, given.keep)
    except Unproven as error:
        say(f"\nnot proven: {error}")
        return 1
    except pytest.skip.Exception as error:  # ministack cannot be installed
        say(f"\nnot run: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nstopped; all that was started has ended")
        return 130
    say(f"\n{proven}; {time.monotonic() - began:.0f} s")
    return 0


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """Stop once: what is started is then ended without a second interruption."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
