"""A launched lab instance: a tree of real processes, with its own folder and metadata service.

Its user data runs as on a real instance, see init.py; `shutdown` and its like are those of
power.py. What it is given beyond a real instance's environment: where its metadata service is, and
where it may write.

The lab may have, beside what imds.py asks for:
instance_env   variables for all instances, such as those that pip needs to find its packages; of
               PATH its folders are added
minute         seconds that a minute of `shutdown +N` lasts, 60 if it is not there
now            a function that returns the lab's time
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tests.lab import init, power
from tests.lab.imds import Imds, Instance, Lab

SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
PATIENCE = 10.0  # seconds that init may take to end everything


class Machine:
    """One instance; `folder` holds home, log, bin, console (all that it printed) and calls."""

    def __init__(self, instance: Instance, user_data: bytes, folder: Path, lab: Lab) -> None:
        self.folder = folder.resolve()
        self.imds = Imds(instance, user_data, lab)
        self.on_shutdown: Callable[[], None] | None = None
        self._user_data, self._lab = user_data, lab
        self._killed = False
        self._lock = threading.Lock()
        self._init: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """The environment that user data starts with, once the instance is started."""
        more: dict[str, str] = dict(getattr(self._lab, "instance_env", {}))
        path = [str(self.folder / "bin"), *filter(None, [more.pop("PATH", "")]), SYSTEM]
        return {
            **more,
            "PATH": ":".join(path),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            "SPOT_HOME": str(self.folder / "home"),
            "SPOT_LOG": str(self.folder / "log"),
        }

    @property
    def init_pid(self) -> int | None:
        """The pid of the first process; None before the start."""
        return self._init.pid if self._init else None

    def start(self) -> None:
        """Run the user data; returns at once. Once killed it is not started any more."""
        with self._lock:
            if self._killed or self._init is not None:
                return
            for name in ("bin", power.TIMERS):
                (self.folder / name).mkdir(parents=True)
            (self.folder / "user-data").write_bytes(self._user_data)
            self.imds.on()
            order = {
                "folder": str(self.folder),
                "env": self.env,
                "files": self._programs(),
                "minute": getattr(self._lab, "minute", 60.0),
            }
            with (self.folder / "init.log").open("wb") as log:
                # Its standard input is the power: it ends with this process, however that ends. No
                # PR_SET_PDEATHSIG here, which would end it with the thread that started it, and
                # would leave its children.
                self._init = subprocess.Popen(
                    [sys.executable, "-I", "-S", init.__file__],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={"PATH": os.defpath},
                    start_new_session=True,
                )
            assert self._init.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._init.stdin.write(json.dumps(order).encode() + b"\n")
                self._init.stdin.flush()
            name = str(self.folder)
            watch = threading.Thread(target=self._watch, args=[self._init], name=name, daemon=True)
            watch.start()

    def kill(self) -> None:
        """Cut the power: no process is left when this returns, and `on_shutdown` is not called."""
        with self._lock:
            self._killed = True
            self._end()

    def notice(self, action: str, at: datetime) -> None:
        """Let the metadata service announce an interruption from now on."""
        self.imds.notice(action, at)

    def pids(self) -> list[int]:
        """Return the live processes of the instance, without its init."""
        running = self._init is not None and self._init.poll() is None
        return list(init.find(self.init_pid if running else None, self._mark))

    def calls(self) -> list[list[str]]:
        """Return each call of shutdown, poweroff, systemd-run and systemctl, in order."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def timers(self) -> list[str]:
        """Return the units of the timers that wait, and "shutdown" if one is set."""
        return sorted(path.name for path in (self.folder / power.TIMERS).glob("*"))

    @property
    def _mark(self) -> str:
        return f"SPOT_HOME={self.folder / 'home'}"

    def _programs(self) -> dict[str, str]:
        interpreter = f"{shlex.quote(sys.executable)} -I -S"
        of = f"{shlex.quote(power.__file__)} {shlex.quote(str(self.folder))}"
        found = {name: f'#!/bin/sh\nexec {interpreter} {of} {name} "$@"\n' for name in power.NAMES}
        if not _system_python():
            ours = f'#!/bin/sh\nexec {shlex.quote(_base_python())} "$@"\n'
            found |= {"python3": ours, f"python3.{sys.version_info[1]}": ours}
        return found

    def _watch(self, ran: subprocess.Popen[bytes]) -> None:
        ran.wait()
        with self._lock:
            report = not self._killed
            self._end()
        if report and self.on_shutdown is not None:
            self.on_shutdown()

    def _end(self) -> None:
        ran = self._init
        if ran is not None and ran.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                ran.stdin.close()
            try:
                ran.wait(PATIENCE)
            except subprocess.TimeoutExpired:  # stopped, or stuck
                init.cut(lambda: init.find(ran.pid, self._mark))
                ran.kill()
                ran.wait()
            # For an init that was killed itself.
            init.cut(lambda: init.find(None, self._mark))
        self.imds.close()


@functools.cache
def _system_python() -> bool:
    """Return whether the system's own Python can make an environment for the shim."""
    found = shutil.which("python3", path=SYSTEM)
    return (
        found is not None
        and not subprocess.run([found, "-I", "-c", PYTHON], check=False).returncode
    )


def _base_python() -> str:
    """Return this interpreter, without the environment around it."""
    return str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}"))
