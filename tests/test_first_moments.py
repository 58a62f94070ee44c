"""A signal in the first moments, while Python still imports what it needs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import PATIENCE, read, until
from tests.entry import ROOT

# Says once that it is ready for signals, and then which one came.
LISTENER = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("got", int(signal.sigwait({signal.SIGUSR1, signal.SIGTERM})))
"""
# A module that is imported in the first moments and stays there until a test lets it go on.
SLOW = """
import pathlib, sys, time
pathlib.Path("importing").touch()
while not pathlib.Path("go").exists(): time.sleep(0.01)
sys.path.pop(0)
del sys.modules["click"]
import click
"""


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start the shim with an import that takes as long as the test wants."""
    (folder / "slow").mkdir()
    (folder / "slow" / "click.py").write_text(SLOW)
    code = (
        "import runpy, sys; sys.argv[0] = sys.argv.pop(1); sys.path.insert(0, 'slow'); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    front = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT / "shim"), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "slow")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    until((folder / "importing").exists)
    return front


def pending(pid: int) -> bool:
    """Return whether a signal waits for a process (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return any(int(v, 16) for v in re.findall(r"^S(?:hd|ig)Pnd:\s*(\w+)", status, re.M))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_before_the_supervisor_is_there_waits_for_it(tmp_path: Path, number: int) -> None:
    """I70: it does not kill the front and reaches the command; the status is the command's."""
    command = [sys.executable, "-c", LISTENER]
    front = started(tmp_path, "capture", "--slug", "s", "--log", "the.log", "--", *command)
    front.send_signal(number)
    assert pending(front.pid)
    (tmp_path / "go").touch()
    front.communicate(timeout=PATIENCE)
    assert (front.returncode, read(tmp_path / "the.log")) in [
        (0, b"got %d\n" % number),
        (128 + number, b""),  # a command that is not ready for it dies of it, as without us
    ]


def test_a_command_that_starts_nothing_can_be_ended_in_its_first_moments(tmp_path: Path) -> None:
    """Signals are let through again before anything is done."""
    front = started(tmp_path, "plan", "--date", "2026-05-17")
    front.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    front.communicate(timeout=PATIENCE)
    assert front.returncode == -signal.SIGTERM
