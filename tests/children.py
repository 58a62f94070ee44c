"""Real children for the tests of the process wrapper: start, poll, end by pid.

Run as a script it is the wrapper's caller: one JSON object says what to run, and how it ended is
written to a file as another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0  # seconds, which only a failure takes


def until(found: Callable[..., Any], *arguments: Any) -> Any:
    """Poll until a call finds something and return it; fail after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if value := found(*arguments):
            return value
        assert time.monotonic() < deadline, "what was expected did not come"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def read(path: Path) -> bytes:
    """Return what a file holds, nothing while it is not there, as that of a process that ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return b""


def shell(script: str) -> list[str]:
    """Return a command that runs a script."""
    return ["sh", "-c", script]


def python(program: str, *arguments: str) -> list[str]:
    """Return a command that runs a program in Python."""
    return [sys.executable, "-c", program, *arguments]


@dataclasses.dataclass
class Wrapped:
    """A running wrapper: its front, the log and the file with the result."""

    front: subprocess.Popen[bytes]
    log: Path
    told: Path

    @property
    def command(self) -> int:
        """The pid of the command, once it has started: the only child of the supervisor."""
        found = until(lambda: children(self.supervisor))
        return int(found[0])

    @property
    def supervisor(self) -> int:
        """The pid of the supervisor."""
        return int(until(lambda: children(self.front.pid))[0])

    @property
    def console(self) -> int:
        """The reading end of the pipe that is the front's stdout."""
        assert self.front.stdout is not None
        return self.front.stdout.fileno()

    def close_console(self) -> None:
        """Leave, as `head` does."""
        assert self.front.stdout is not None
        self.front.stdout.close()

    def wait(self) -> int:
        """Return the front's exit status; drops what it wrote."""
        return self.front.wait(PATIENCE)

    def result(self) -> dict[str, Any]:
        """Return how the command ended, as the supervisor saw it."""
        return dict(json.loads(until(lambda: read(self.told))))


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


@contextlib.contextmanager
def wrapped(
    folder: Path,
    command: Sequence[str],
    *,
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    call: Sequence[str] = (),
    before: Callable[[], Any] | None = None,
    group: int | None = 0,
    **how: Any,
) -> Iterator[Wrapped]:
    """Start a command under the wrapper, in a process group of its own; end both at the end."""
    log, told = Path(how.pop("log", folder / "the.log")), folder / "result.json"
    plan = {"command": list(command), "log": str(log), "told": str(told), **how}
    front = subprocess.Popen(
        [*call, sys.executable, "-m", "tests.children", json.dumps(plan)],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**(os.environ if env is None else env), "PYTHONPATH": str(ROOT)},
        cwd=folder,
        process_group=group,
        preexec_fn=before,
    )
    try:
        yield Wrapped(front, log, told)
    finally:
        supervisors = children(front.pid)
        commands = [pid for supervisor in supervisors for pid in children(supervisor)]
        if front.poll() is None:
            for pid in (front.pid, *supervisors, *commands):
                for kill in (os.killpg, os.kill):  # the group too, if it leads one
                    with contextlib.suppress(ProcessLookupError):
                        kill(pid, signal.SIGKILL)
        front.wait()
        for stream in (front.stdout, front.stderr):
            if stream:
                stream.close()


def finished(folder: Path, command: Sequence[str], **how: Any) -> tuple[int, bytes, bytes, bytes]:
    """Run a command under the wrapper; return its status, the console, stderr and the log."""
    with wrapped(folder, command, **how) as ran:
        console, errors = ran.front.communicate(timeout=PATIENCE)
        return ran.front.returncode, console, errors, read(ran.log)


def main() -> int:
    """Run what the argument says: one command, a list of them, or a capture."""
    from shim import capture, process
    from shim.detach import Lifeline, detached
    from shim.redact import Masker

    plan = json.loads(sys.argv[1])
    told = Path(plan.pop("told"))
    command, log = plan.pop("command"), Path(plan.pop("log"))
    if "slug" in plan:
        return capture.capture(command, log=log, env=os.environ, **plan)

    cancel_at = plan.pop("cancel_at", None)
    all_of = plan.pop("all_of", None)
    quiet: list[float] = []

    def work(lifeline: Lifeline) -> int:
        cancel = threading.Event()
        if cancel_at:
            watch = functools.partial(_set_when, cancel, Path(cancel_at))
            threading.Thread(target=watch, daemon=True).start()
        runs = [
            process.run(
                one,
                log=log,
                lifeline=lifeline,
                env=os.environ,
                mask=Masker(os.fsencode(value) for value in plan.get("secrets", [])),
                console=plan.get("console", 1),
                cwd=Path(plan["cwd"]) if "cwd" in plan else None,
                timeout=plan.get("timeout"),
                grace=plan.get("grace", 10.0),
                cancel=cancel,
                silent=quiet.append,
                silent_every=plan.get("silent_every", 60.0),
            )
            for one in all_of or [command]
        ]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = dataclasses.asdict(runs[-1]) | {
            "rest": runs[-1].rest.decode(errors="replace"),
            "quiet": quiet,
            "kilobytes": memory,
            "codes": [ended.code for ended in runs],
            "stop": lifeline.stop,
        }
        written = told.with_suffix(".part")
        written.write_text(json.dumps(result))
        written.rename(told)
        return runs[-1].code

    def lost(why: str) -> None:
        told.write_text(json.dumps({"lost": why}))

    return detached(work, lost)


def _set_when(event: threading.Event, path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)
    event.set()


if __name__ == "__main__":
    sys.exit(main())
