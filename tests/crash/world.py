"""A world for one case: a lab, the pipeline, the paces of the sweep, and what a fault can do to it.

All that takes minutes is thirty times as fast: a heartbeat comes each second, an attempt is dead
after six silent ones, and a minute lasts two seconds. The order of things is what it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from tests.crash import pipeline
from tests.crash.cases import STORE
from tests.crash.lab import Gentle, Lab
from tests.crash.printing import printed
from tests.entry import Done
from tests.lab import unset
from tests.lab.ec2_instances import LabInstance
from tests.lab.patches import patches
from tests.launches import MARK, PACE, Spot, fill_disk, kill_all, launchers
from tests.repositories import commit_all

EXECUTION = "o'clock(1)!=@+:"  # what Step Functions allows and a shell would misread
MINUTE = 2.0  # seconds
CREDENTIALS = "latest/meta-data/iam/security-credentials/"
OUTSIDE = "outside"  # who looks at a case from there
HARDWARE = ("Server.InternalError", "Server.InternalError: Internal error on launch")

BEGIN = """
def _mark(what, port={port}):
    import os, socket
    role = "instance" if os.environ.get("SPOT_HOME") else "launcher"
    try:
        with socket.create_connection(("127.0.0.1", port), 60) as to:
            to.sendall(f"GET /_mark/{{role}}/{{what}} HTTP/1.0\\r\\n\\r\\n".encode())
            while to.recv(4096):
                pass
    except OSError:
        pass
"""
MARKED = {
    "shim.detach": """
import sys as _sys
_who = next((word for word in _sys.argv[1:] if not word.startswith("-")), "shim")
_of, _sup, _flushed = detached, _supervise, _flush
_inside = []
def detached(work, lost):
    _mark(f"{_who}-front-start")
    code = _of(work, lost)
    _mark(f"{_who}-front-end")
    return code
def _supervise(*given):
    _inside.append(1)
    _mark(f"{_who}-supervisor-start")
    return _sup(*given)
def _flush():
    if _inside:
        _mark(f"{_who}-supervisor-end")
    _flushed()
""",
    "shim.process": """
import sys as _sys
_who = next((word for word in _sys.argv[1:] if not word.startswith("-")), "shim")
_ran = run
def run(*given, **named):
    _mark(f"{_who}-command-start")
    ended = _ran(*given, **named)
    _mark(f"{_who}-command-end")
    return ended
""",
    "shim.guest": """
_ran = run
def run(*given, **named):
    _mark("guest-start")
    code = _ran(*given, **named)
    _mark("guest-end")
    return code
""",
}
CLOCK = """
import os as _os
from datetime import timedelta as _timedelta
_file = {folder!r} + ("/clock-instance" if _os.environ.get("SPOT_HOME") else "/clock-launcher")
def utc_now():
    with open(_file) as stream:
        return datetime.now(UTC) + _timedelta(seconds=float(stream.read() or 0))
"""
# Every host is a machine of its own, so that a dead process is proven only to its own.
MACHINE = """
import os as _os
_machine = lambda: _os.environ.get("CRASH_MACHINE", _os.environ.get("SPOT_HOME"))
"""
PACES = {
    **PACE,
    "shim.follow": "POLL, LOOK = 0.6, 0.9",
    "shim.ec2": "PAUSE = 0.5",
    "shim.guest": "PACE = Pace(notice=0.3, record=1.0, margin=1.0)",
    "shim.record": "HEARTBEAT, SILENT = 1.0, 6.0",
}


class World:
    """One execution of the pipeline, run as often as it takes."""

    def __init__(
        self, lab: Lab, tool: Path, folder: Path, bug: Mapping[str, str], fault: str
    ) -> None:
        self.lab, self.folder = lab, folder
        self.launcher: subprocess.Popen[str] | None = None
        self.runs: list[Done] = []
        port = int(lab.url.rpartition(":")[2])
        for role in ("launcher", "instance"):
            self.step_clock(role, 0)
        (folder / "truth").touch()
        for old, new in pipeline.bootstrap(port, folder / "clock-instance"):
            lab.change(old, new)
        seeds = dict(bug)
        if "bootstrap" in seeds:
            old, _, new = seeds.pop("bootstrap").partition(" => ")
            lab.change(old, new)
        if "entry" in seeds:
            tool = _seeded(tool, folder / "tool", seeds.pop("entry"))
        self.spot = Spot(lab, tool, folder / "spot")
        self.spot.use("some $(touch pwned) prefix")
        for stage, script in pipeline.scripts(folder, port).items():
            more: dict[str, Any] = {"needs": ["a"], "requires": ["a.txt"]} if stage == "b" else {}
            (self.spot.work / f"{stage}.sh").write_text(script)
            self.spot.table.stage(stage, command=["bash", f"{stage}.sh"], **more)
        marked = {name: BEGIN.format(port=port) + text for name, text in MARKED.items()}
        texts = {**PACES, **marked, **(self._away(fault) if fault.startswith(STORE) else {})}
        texts["shim.clock"] = CLOCK.format(folder=str(folder))
        texts["shim.liveness"] = MACHINE
        texts["shim.guest"] = f"{PACES['shim.guest']}\n{marked['shim.guest']}"
        for module, text in seeds.items():
            texts[module] = f"{texts.get(module, '')}\n{text}"
        self.spot.changed = patches(folder / "patches", texts)
        (folder / "tmp").mkdir()
        tmp = {"TMPDIR": str(folder / "tmp")}
        lab.instance_env = {**tmp, **self.spot.changed}

    def _away(self, fault: str) -> dict[str, str]:
        """Give the store an address that can go away; return the changes for who asks it."""
        address = self.lab.store_address()
        imported = "import urllib.error, urllib.parse, urllib.request\n"
        self.lab.change(imported, f"import socket\n{imported}{address.resolve('socket')}")
        return address.changes(fault.removeprefix(STORE))

    def start(self, *words: str, machine: str = "one", output: str = "") -> None:
        """Start the launcher on a host; what it prints is lost with one of UNPRINTED."""
        more = {"EXECUTION_ID": EXECUTION, MARK: str(self.folder), "CRASH_MACHINE": machine}
        more["TMPDIR"] = str(self.folder / "tmp")
        self.launcher = None
        with printed(output) as self.spot.output:
            self.launcher = self.spot.start(*words, **more)

    def wait(self) -> None:
        """Wait for the entry alone."""
        assert self.launcher is not None
        self.launcher.wait(120)

    def end(self, timeout: float = 60) -> Done:
        """Wait for the launcher and return how it ended."""
        assert self.launcher is not None
        done = self.spot.end(self.launcher, timeout)
        self.runs.append(done)
        return done

    def reap(self) -> str:
        """Run the sweep for instances that nobody needs; return what it printed."""
        command = ["bash", str(self.spot.tool / "spot_backtest.sh"), "reap"]
        env = self.spot.env(CRASH_MACHINE="sweep", TMPDIR=str(self.folder / "tmp"))
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout + done.stderr

    def instances(self) -> list[LabInstance]:
        """Return the instances that are alive."""
        return [i for i in self.lab.instances.values() if i.state in ("pending", "running")]

    def hold(self) -> None:
        """Let stage a work on and on, on every instance from before the recovery."""
        (self.folder / "hold").touch()

    def again(self) -> None:
        """Begin the recovery."""
        for made in self.lab.instances.values():
            (made.machine.folder / "home").mkdir(exist_ok=True)
            (made.machine.folder / "home" / "held").touch()
        (self.folder / "again").touch()

    def step_clock(self, role: str, seconds: float) -> None:
        """Set the wall clock of the launchers or of the instances off by so much."""
        part = self.folder / f"clock-{role}.part"
        part.write_text(str(seconds))
        part.rename(self.folder / f"clock-{role}")

    def kill(self, group: bool = False) -> None:
        """Send SIGKILL to the entry, or to its process group, as Run Command does."""
        pid = self._entry()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL) if group else os.kill(pid, signal.SIGKILL)

    def crash(self) -> None:
        """End every process of the launcher at once, as a crash of its host does."""
        self._entry()
        kill_all(self.folder)

    def fill_disk(self, role: str) -> None:
        """Let no process of the launcher, or of the instances, write another byte to a file."""
        fill_disk(
            launchers(self.folder)
            if role == "launcher"
            else [pid for made in self.instances() for pid in made.machine.pids()]
        )

    def break_hardware(self) -> None:
        """Let the hosts of the instances fail: the power is cut, and EC2 says why."""
        for made in self.instances():
            self.lab.ec2.end(made, HARDWARE)

    def refuse_credentials(self) -> None:
        """Let the metadata service fail once, for whoever asks for the role's keys next."""
        for made in self.instances():
            cast(Gentle, made.machine).imds.fault(CREDENTIALS, 500)

    def take_back(self, notice: float | None = None) -> None:
        """Reclaim the instances."""
        for made in self.instances():
            self.lab.ec2.reclaim(made, notice)

    def move_tip(self) -> None:
        """Commit something else to the branch, as happens while a run goes on."""
        (self.spot.work / "another").write_text(str(time.time()))
        commit_all(self.spot.work)

    def _entry(self) -> int:
        while self.launcher is None:  # its first mark comes before Popen has returned
            time.sleep(0.001)
        return self.launcher.pid


def _seeded(tool: Path, folder: Path, text: str) -> Path:
    """Return a copy of the tool with a text at the end of what the entry sources."""
    shutil.copytree(tool, folder, symlinks=True)
    with (folder / "infrastructure" / "run_stages.sh").open("a") as stream:
        stream.write(text)
    commit_all(folder)
    return folder


@contextmanager
def world(
    folder: Path, tool: Path, bug: Mapping[str, str] | None = None, fault: str = ""
) -> Iterator[World]:
    """Make a world for a fault; nothing of it is left running when the block ends."""
    folder.mkdir(parents=True)
    with patch("tests.lab.aws.ROOT", tool):  # whatever becomes of the tree meanwhile
        lab = Lab(folder / "aws")
    try:
        env = {**unset(os.environ), **lab.env}
        with patch.dict(os.environ, env, clear=True):
            lab.client("s3", OUTSIDE).put_bucket_versioning(
                Bucket=lab.bucket, VersioningConfiguration={"Status": "Enabled"}
            )
            made = World(lab, tool, folder, bug or {}, fault)
            lab.log.rows.clear()
            lab.log.names.clear()
            try:
                yield made
            finally:
                kill_all(folder)
                if made.launcher is not None:
                    made.launcher.communicate()
    finally:
        lab.close()
