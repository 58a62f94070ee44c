"""Tools that tests run but do not import: each set of them in an environment of its own.

They are kept in a temporary folder of the user's, so that they are installed once on a machine.
Where that cannot be done, a test that needs them is skipped with the installer's last line.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.entry import ROOT

LONGEST = 240  # seconds for an installation


def python_tools(lock: str) -> Path:
    """Return the folder of the programs that a lock file with hashes installs; or skip."""
    path = ROOT / "requirements" / lock
    key = f"{sys.version_info[0]}.{sys.version_info[1]} {path.read_text()}"

    def install(folder: Path) -> None:
        python = str(folder / "bin" / "python")
        given = ("--quiet", "--require-hashes", "-r", str(path))
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
        try:
            if uv:
                run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
                run(uv, "pip", "install", "--python", python, *given)
                return
        except (OSError, subprocess.SubprocessError):  # pip may know another index
            shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", str(folder))
        run(python, "-m", "pip", "install", "--disable-pip-version-check", *given)

    return installed(path.stem, key, install) / "bin"


def node_tool(package: str, program: str) -> Path:
    """Return a program of an npm package, as name@version; or skip."""
    return node_package(package) / "node_modules" / ".bin" / program


def node_package(package: str) -> Path:
    """Return the folder with node_modules that an npm package makes, as name@version; or skip."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")

    def install(folder: Path) -> None:
        folder.mkdir()
        run(npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", package)

    return installed("npm", package, install)


def installed(name: str, key: str, install: Callable[[Path], None]) -> Path:
    """Return the folder that a function fills, once for each key on a machine; or skip."""
    base = Path(tempfile.gettempdir()) / f"spot-backtest-lab-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        pytest.skip(f"{base} belongs to somebody else")
    folder = base / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    done = folder / "installed"
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                install(folder)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"{name} cannot be installed: {_reason(error)}")
            done.touch()
    return folder


def run(*command: str) -> None:
    """Run an installer. Raises OSError or SubprocessError."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


def _reason(error: Exception) -> str:
    text = str(getattr(error, "stderr", None) or error).strip()
    lines = [line for line in text.splitlines() if "complete log of this run" not in line]
    return lines[-1] if lines else repr(error)
