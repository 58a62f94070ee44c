"""What a command used of the machine: CPU time, and memory at its highest.

Memory is that of all its processes together where a cgroup of its own can be made: version 2, in a
subtree that was delegated to us with the memory controller (docs.kernel.org/admin-guide/
cgroup-v2.html, «Delegation»; systemd.io/CGROUP_DELEGATION). Elsewhere it is that of its largest
process, which is never less than the supervisor's own at the command's start: the counter goes on
through execve (getrusage(2)). A number that cannot be had is None, and never a failure.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes on macOS, KiB on Linux


@dataclass(frozen=True)
class Usage:
    """CPU time in seconds, user and system; the most memory in bytes, and of what that is."""

    cpu_seconds: float
    memory_peak_bytes: int
    memory_of: Literal["cgroup", "largest process"]


class UsageMeter:
    """Measures one command of this process, whose children it is among; all that is waited for."""

    def __init__(self, root: Path = ROOT, own: Path = OWN) -> None:
        self._before = _cpu()
        self._cgroup = _new_cgroup(root, own)
        self._entrance: int | None = None
        with suppress(OSError):
            if self._cgroup:
                self._entrance = os.open(self._cgroup / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def enter(self) -> None:
        """Put the calling process into the cgroup; between fork and exec, so it never raises."""
        if self._entrance is not None:
            with suppress(OSError):
                os.write(self._entrance, b"0")

    def read(self) -> Usage:
        """Return what was used; to be called once the command is reaped."""
        found = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = round(_cpu() - self._before, 3)
        with suppress(OSError, ValueError):
            if self._cgroup and (peak := int((self._cgroup / "memory.peak").read_text())):
                return Usage(cpu, peak, "cgroup")
        return Usage(cpu, found.ru_maxrss * UNIT, "largest process")

    def close(self) -> None:
        """Remove the cgroup; one that still has processes stays."""
        with suppress(OSError):
            if self._entrance is not None:
                os.close(self._entrance)
            if self._cgroup:
                self._cgroup.rmdir()
        self._entrance = self._cgroup = None


def _cpu() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _new_cgroup(root: Path, own: Path) -> Path | None:
    """Make a cgroup that counts memory in the nearest one that was delegated to us, if any."""
    with suppress(OSError, ValueError):
        lines = own.read_text().splitlines()
        (path,) = [line[3:] for line in lines if line.startswith("0::")]
        at = root / path.lstrip("/")
        for folder in (at, *at.parents):
            if not folder.is_relative_to(root) or ".." in folder.parts:
                return None
            if _delegated(folder) and "memory" in _controllers(folder):
                made = folder / f"spot_backtest-{os.getpid()}"
                made.mkdir()
                if (made / "memory.peak").exists():  # Linux 5.19
                    return made
                made.rmdir()
                return None
    return None


def _delegated(folder: Path) -> bool:
    """Return whether a cgroup is ours to divide: systemd marks it so, or gave it to our user."""
    if os.geteuid() != 0:
        return folder.stat().st_uid == os.geteuid() and os.access(folder, os.W_OK)
    for name in ("trusted.delegate", "user.delegate"):
        with suppress(OSError, AttributeError):  # no such attribute; no xattr on this system
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _controllers(folder: Path) -> list[str]:
    return (folder / "cgroup.subtree_control").read_text().split()
