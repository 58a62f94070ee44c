"""Who runs an attempt, for how long, and the proof that they are dead: their process is gone.

Only a proof shortens the wait for a silent attempt; on another machine, or where /proc cannot tell,
nobody is taken for dead here. See proc(5): boot_id, ns/pid and field 22 of stat, the start time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shim.errors import PreflightError

PROC = Path("/proc")
PR_SET_PDEATHSIG = 1  # prctl(2)
# Found now: between fork and exec, where it is called too, there is no place for a look-up.
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


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
    if not machine or not started or not isinstance(pid, int) or machine != _machine():
        return False
    return bool(_started(pid) != started)


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
    try:
        # The second field is the name in parentheses, and may hold both spaces and parentheses.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
