"""Who runs an attempt, for how long, and the proof that they are dead: their process is gone.

Only a proof shortens the wait for a silent attempt. It is the kernel's word that there is no such
process, or /proc's that it has ended or started at another time; on another machine, or where the
two cannot tell, nobody is taken for dead here. See kill(2), and proc(5) on boot_id, ns/pid and
field 22 of stat, the start time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shim.errors import PreflightError

PROC = Path("/proc")
ENDED = "ZXx"  # states in proc(5): a zombie, and dead
PR_SET_PDEATHSIG = 1  # prctl(2)
# Found now: between fork and exec, where it is called too, there is no place for a look-up.
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class Stat(NamedTuple):
    """Two fields of /proc/<pid>/stat: the state's letter, the start in clock ticks since boot."""

    state: str
    started: str


def myself() -> dict[str, Any]:
    """Return the host and, where the system tells, the machine and the process, for a record."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": pid,
        "started": _started(pid),
    }


def proven_dead(who: Mapping[str, Any]) -> bool:
    """Return whether the process that wrote `myself()` ran on this machine and is gone."""
    machine, pid, started = who.get("machine"), who.get("pid"), who.get("started")
    if not machine or not started or machine != _machine():
        return False
    if type(pid) is not int or not 0 < pid < 1 << 31:  # 0 and less are groups: kill(2)
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # there is one, of another user
    # Of another user /proc may show nothing (hidepid in proc(5)); that proves nothing.
    now = _stat(pid)
    return now is not None and (now.state in ENDED or now.started != started)


def die_with(parent: int) -> None:
    """Get SIGKILL when the parent dies (PR_SET_PDEATHSIG in prctl(2)); on Linux only.

    The entry runs each stage in a process group of its own, which a SIGKILL to the entry's group
    does not reach; the supervisor then ends the stage as after any death of its front. A command
    that outlived its supervisor could go on writing beside the next attempt. Raises PreflightError
    if the parent is gone already.
    """
    if PRCTL is None:
        return
    PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request
        raise PreflightError("the process that started this one is gone", "start it again")


def _machine() -> str | None:
    """Return this boot and process namespace as one text."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or a zombie."""
    now = _stat(pid)
    return None if now is None or now.state in ENDED else now.started


def _stat(pid: int) -> Stat | None:
    """Return what /proc says of a process; None where it says nothing, which has many reasons."""
    try:
        # The second field is the name in parentheses, and may hold both spaces and parentheses.
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
        fields = text.rpartition(")")[2].split()
    except OSError:
        return None
    return Stat(fields[0], fields[19]) if len(fields) > 19 else None
