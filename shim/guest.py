"""A launch's work on its instance: the entry under capture, watched for its end.

EC2's notice and whatever closes the record from elsewhere are noticed here; the record is closed
after the log is whole, so who follows the launch has all of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from shim import clock, launch, reclaim
from shim.errors import BusyError, ShimError
from shim.imds import Imds, Notice, UnreachableError
from shim.launch import LOG_SLUG, Record
from shim.plan import Plan
from shim.ship import log_key
from shim.sinks import say
from shim.store import Store, open_store

ROOT = Path(__file__).resolve().parent.parent
SETTLING = 60.0  # seconds from TERM to KILL: a stage has ten, its log a minute to be shipped
CLOSING = 900.0  # seconds for which the record is tried to be closed
PAUSE = 2.0  # seconds between two tries
TAIL = 1000  # bytes that capture may say after it has shipped the log


@dataclass(frozen=True)
class Pace:
    """In seconds: between two looks for a notice and at the record; what is kept before the end."""

    notice: float = 5.0  # as EC2 advises
    record: float = 30.0
    margin: float = 30.0


PACE = Pace()


def run(record_file: Path, log: Path, entry: Sequence[str] | None = None) -> int:
    """Run what a launch record says and close it; return 0 once it is closed.

    `entry` replaces the entry's command line, for tests. Raises ShimError.
    """
    values = json.loads(record_file.read_text())
    plan = Plan.from_json(json.dumps(values["plan"]))
    record = Record(open_store(plan.store), launch.key(plan.run_prefix, values["launch"]))
    values = record.load()
    if values["state"] == "closed":
        say(f"the launch is over already: {values.get('outcome')}")
        return 0
    with tempfile.TemporaryDirectory(prefix="spot_backtest.") as folder:
        return _Guest(plan, values, record, log, Path(folder), entry).run()


class _Guest:
    def __init__(
        self,
        plan: Plan,
        values: Mapping[str, Any],
        record: Record,
        log: Path,
        folder: Path,
        entry: Sequence[str] | None,
    ) -> None:
        self.plan, self.values, self.record, self.log = plan, values, record, log
        self.marker = folder / "reclaim"
        (folder / "plan.json").write_text(_here(plan, values).to_json())
        self.entry = entry or [
            "bash",
            str(ROOT / "spot_backtest.sh"),
            "--plan",
            f"{folder}/plan.json",
        ]
        host = values.get("instance") or os.uname().nodename
        self.key = log_key(plan.logs_prefix, LOG_SLUG, plan.run_date, host, clock.utc_now())
        self.imds = Imds()
        self.notice: Notice | None = None
        self.stop_at = float("inf")
        self.stopped: float | None = None  # when TERM was sent
        self.superseded = False
        self.silent: set[str] = set()  # what is known not to answer

    def run(self) -> int:
        """Run to the end. The signals that end a service end the work in order."""
        wake = os.pipe()
        for descriptor in wake:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        with subprocess.Popen(
            self._command(), env=self._env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as child:
            self._watch(child, wake[0])
        if self.superseded:
            say("the launch was closed by another; this instance ends")
            return 0
        self._close(child.returncode)
        return 0

    def _command(self) -> list[str]:
        plan = self.plan
        return [
            *(sys.executable, "-I", str(ROOT / "shim"), "capture", "--slug", LOG_SLUG),
            *("--log", str(self.log), "--store", plan.store, "--date", plan.run_date),
            *("--key", self.key, *(["--dry-run"] if plan.dry_run else []), "--", *self.entry),
        ]

    def _env(self) -> dict[str, str]:
        return {
            **os.environ,
            "RUN_DATE": self.plan.run_date,
            "EXECUTION_ID": self.plan.execution_id,
            "SPOT_PIPELINE": _here(self.plan, self.values).pipeline,
            reclaim.LAUNCH: self.values["launch"],
            reclaim.NOTICE: str(self.marker),
        }

    def _watch(self, child: subprocess.Popen[bytes], wake: int) -> None:
        booted = {"booted": clock.iso(clock.utc_now()), "log": self.key}
        pending: dict[str, str] = {**booted, "host": os.uname().nodename}
        poller = select.poll()
        ended = os.pidfd_open(child.pid)
        for descriptor in (ended, wake):
            poller.register(descriptor, select.POLLIN)
        look = read = 0.0
        while True:
            now = time.monotonic()
            if now >= look:
                look = now + PACE.notice
                pending |= self._look()
            if now >= read or (pending and "the store" not in self.silent):
                read = now + PACE.record
                if self._tell(pending):
                    pending = {}
            self._stop(child, now)
            next_stop = self.stop_at if self.stopped is None else self.stopped + SETTLING
            pause = max(0.0, min(look, read, next_stop) - time.monotonic())
            found = dict(poller.poll(pause * 1000))
            if ended in found:
                break
            if wake in found and os.read(wake, 64):
                self.stop_at = 0.0
        os.close(ended)

    def _look(self) -> dict[str, str]:
        """Look for a notice; return what is to be told of it."""
        if self.notice is not None:
            return {}
        try:
            self.notice = self.imds.notice()
        except UnreachableError as error:
            self._say_once("the metadata service", error)
            return {}
        self.silent.discard("the metadata service")
        if self.notice is None:
            return {}
        self.marker.touch(mode=0o600)
        left = (self.notice.at - clock.utc_now()).total_seconds()
        self.stop_at = min(self.stop_at, time.monotonic() + left - PACE.margin)
        say(f"EC2 announces: {self.notice.action} at {clock.iso(self.notice.at)}, in {left:.0f} s")
        return {"notice": clock.iso(self.notice.at)}

    def _tell(self, pending: Mapping[str, str]) -> bool:
        """Enter what is new into the record, or read it; return whether the store answered."""
        try:
            if pending:
                self.record.update(**pending)
            elif self.record.load()["state"] == "closed":
                self._superseded()
        except BusyError:
            self._superseded()
        except ShimError as error:
            self._say_once("the store", error)
            return False
        self.silent.discard("the store")
        return True

    def _superseded(self) -> None:
        self.superseded = True
        self.stop_at = 0.0

    def _stop(self, child: subprocess.Popen[bytes], now: float) -> None:
        if self.stopped is None and now >= self.stop_at:
            self.stopped = now
            child.terminate()
        elif self.stopped is not None and now >= self.stopped + SETTLING:
            child.kill()

    def _say_once(self, who: str, error: ShimError) -> None:
        if who not in self.silent:
            self.silent.add(who)
            say(f"{error}; the work goes on")

    def _close(self, status: int) -> None:
        """Close the record once the log is whole. Raises the store's error after CLOSING s."""
        code = status if status >= 0 else 128 - status
        outcome, why = "failed" if code else "committed", None
        if self.notice and code and (code == reclaim.CODE or self.stopped is not None):
            outcome, code = "reclaimed", reclaim.CODE
            why = f"EC2 announced: {self.notice.action} at {clock.iso(self.notice.at)}"
        elif code and self.stopped is not None:
            late = clock.utc_now() >= datetime.fromisoformat(self.values["deadline"])
            outcome, why = ("timed out" if late else "ended"), "the instance was shut down"
        until = time.monotonic() + CLOSING
        while True:
            try:
                self._ship(self.record.store)
                self.record.close(outcome, code, error=why)
            except ShimError as error:
                self._say_once("the store", error)
                if time.monotonic() > until:
                    raise
                time.sleep(PAUSE)
            else:
                return

    def _ship(self, store: Store) -> None:
        """Ship the log whole if capture could not."""
        there = store.head(self.key)
        size = self.log.stat().st_size if self.log.exists() else 0
        if size and (there is None or there.size + TAIL < size):
            store.put(self.key, self.log)


def _here(plan: Plan, values: Mapping[str, Any]) -> Plan:
    """Return the plan for this instance: the same, in the unpacked code."""
    inside = len(PurePosixPath(values["entry"]).parts)
    root = ROOT.parents[inside - 1] / values["root"]
    return dataclasses.replace(
        plan,
        on="here",
        detach=False,
        spot=None,
        quiet=False,
        root=os.path.normpath(root),
        pipeline=os.path.normpath(root / values["pipeline"]),
    )
