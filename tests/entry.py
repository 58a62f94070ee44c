"""Runs the entry as its users do: a child process, an environment from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRY = ROOT / "spot_backtest.sh"


@dataclass(frozen=True)
class Done:
    """What a call left: its exit code and what it printed."""

    code: int
    out: str
    err: str


def base_env(**more: str) -> dict[str, str]:
    """Return PATH, the interpreter of the tests and what is given; nothing else."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {"PATH": path, "SPOT_BACKTEST_PYTHON": sys.executable, **more}


def spot_backtest(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
    prefix: tuple[str, ...] = (),
) -> Done:
    """Run the entry with `env` on top of `base_env`; `prefix` is put before its command line."""
    done = subprocess.run(
        [*prefix, str(ENTRY), *map(str, arguments)],
        env=base_env(**(env or {})),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
