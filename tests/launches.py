"""Runs on instances of the lab: a committed copy of the tool, a table of its own, the entry."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from shim.store import Store, open_store
from tests.children import until
from tests.entry import Done
from tests.lab.aws import AwsLab
from tests.lab.init import Found, cut, find
from tests.lab.patches import patches
from tests.repositories import commit_all
from tests.stages import DATE, Table

# What a person waits for, in seconds; nothing that is proven depends on it.
PACE = {
    "shim.follow": "POLL, LOOK = 0.25, 0.5",
    "shim.ec2": "PAUSE = 0.1",
    "shim.ship": "EVERY = 0.3",
    "shim.guest": "PACE = Pace(notice=0.1, record=0.3, margin=1.0)",
}
SPOT = """
[spot]
launch_template = "{template}"
types = ["c5.large", "m5.large"]
subnets = {subnets}
backoff = 1
{more}
"""
MARK = "TEST_LAUNCHER"  # a variable, by which all that a launcher starts is found
STARTED: list[subprocess.Popen[str]] = []


def launchers(mark: Path) -> Found:
    """Return every process that launchers with this mark have started here, supervisors too."""
    return find(None, f"{MARK}={mark}")


def kill_all(mark: Path) -> None:
    """End launchers and all of their processes at once, as a crash of their machine does."""
    cut(lambda: launchers(mark))


def fill_disk(pids: Iterable[int]) -> None:
    """Let no process write another byte to a file, as a full disk does (RLIMIT_FSIZE, prlimit(2)).

    What a shell then gets beside the error is SIGXFSZ, which it must ignore.
    """
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))


def end_all() -> None:
    """End every launcher that a failed test has left; its session notices and ends the rest."""
    for launcher in STARTED:
        if launcher.poll() is None:
            launcher.kill()
        launcher.communicate()
    STARTED.clear()


class Spot:
    """The entry of a copy of the tool, with a lab's AWS and a table in a repository of its own."""

    def __init__(self, aws: AwsLab, tool: Path, folder: Path, **section: Any) -> None:
        self.aws, self.tool, self.folder = aws, tool, folder
        self.uri = f"s3://{aws.bucket}/some prefix"
        self.output = subprocess.PIPE  # or a descriptor, for all that launchers print
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.store: Store = open_store(self.uri)
        self.table = Table(self.work, self.store)
        values = {"attempts": 3, **section}
        more = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        self.table.head = SPOT.format(
            template=aws.template, subnets=json.dumps(list(aws.subnets)), more=more
        )
        self.change()

    def use(self, prefix: str) -> None:
        """Have the store under another prefix of the lab's bucket."""
        self.uri = f"s3://{self.aws.bucket}/{prefix}"
        self.store = self.table.store = open_store(self.uri)

    def change(self, texts: Mapping[str, str] | None = None) -> None:
        """Let texts change modules of the shim, here and on instances, beside the pace."""
        self.changed = patches(self.folder / "patches", {**PACE, **(texts or {})})
        self.aws.instance_env = dict(self.changed)

    def command(self, *words: str) -> list[str]:
        """Return the entry's command line for the table, the store and the date."""
        given = ["--pipeline", str(self.table.path), "--store", self.uri]
        on = ["--on", "spot", "--date", DATE]
        entry = ["bash", str(self.tool / "spot_backtest.sh")]
        return [*entry, *on, *given, *words]

    def env(self, **more: str) -> dict[str, str]:
        """Return the launcher's environment."""
        return {"PATH": os.environ["PATH"], **self.aws.env, **self.changed, **more}

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Commit the table and start the entry."""
        commit_all(self.work)
        launcher = subprocess.Popen(
            self.command(*words),
            env=self.env(**env),
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            text=True,
            start_new_session=True,
        )
        STARTED.append(launcher)
        return launcher

    def until(self, launcher: subprocess.Popen[str], found: Callable[[], Any]) -> Any:
        """Poll while a launcher runs; its last words are the failure's if it ends."""

        def look() -> Any:
            value = found()
            if not value and launcher.poll() is not None:
                raise AssertionError(f"{self.end(launcher)}\n{self.console()}")
            return value

        return until(look)

    def run(self, *words: str, **env: str) -> Done:
        """Run the entry to its end."""
        return self.end(self.start(*words, **env))

    def end(self, launcher: subprocess.Popen[str], timeout: float = 120) -> Done:
        """Return how a launcher ended."""
        out, err = launcher.communicate(timeout=timeout)
        return Done(launcher.returncode, out or "", err or "")

    def records(self) -> list[dict[str, Any]]:
        """Return every launch record of the date, the oldest first."""
        keys = [o.key for o in self.store.list(f"backtest/{DATE}/_stages/_launches/")]
        found = [self.store.read(key) for key in sorted(keys)]
        return [json.loads(there[0]) for there in found if there]

    def console(self, instance: str | None = None) -> str:
        """Return what the log of an instance, or of all of them, holds."""
        ids = [instance] if instance else list(self.aws.instances)
        logs = [self.aws.instances[name].machine.folder / "log" for name in ids]
        return "\n".join(log.read_text(errors="replace") for log in logs if log.exists())
