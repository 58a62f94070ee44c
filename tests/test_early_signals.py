"""A signal in the first moments of a run: Python is starting, and nobody has a handler yet."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.store import open_store
from tests.children import PATIENCE, until
from tests.entry import ENTRY, ROOT, base_env
from tests.lab.patches import interpreter
from tests.stages import Table

# Python comes no further than this in its own start, for the command WORD, until `go` is there.
HELD = """
import os, sys, time
if {word!r} in sys.orig_argv:
    open({folder!r} + "/held", "w").close()
    while not os.path.exists({folder!r} + "/go"):
        time.sleep(0.01)
"""
HEARS = "trap 'echo heard; kill $!; exit 0' USR1; echo begun; sleep 60 & wait"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table of one stage, which ends when it hears USR1."""
    made = Table(tmp_path, open_store(str(tmp_path / "store")))
    made.stage("backtest", HEARS, produces=[])
    return made


def held(folder: Path, word: str) -> dict[str, str]:
    """Return the environment in which the shim's interpreter is slow to start for a command."""
    python = interpreter(folder / "slow", {})
    (site,) = (folder / "slow").rglob("sitecustomize.py")
    site.write_text(HELD.format(word=word, folder=str(folder)))
    return {"SPOT_BACKTEST_PYTHON": str(python)}


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test has started; it is ended if the test could not."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


def start(
    started: list[subprocess.Popen[str]], folder: Path, command: list[str], **env: str
) -> subprocess.Popen[str]:
    """Start a command with both outputs in one pipe."""
    started.append(
        subprocess.Popen(
            command,
            cwd=folder,
            env=base_env(**{"TMPDIR": str(folder), **env}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    )
    return started[-1]


def test_a_signal_waits_until_the_stage_can_take_it(
    table: Table, started: list[subprocess.Popen[str]]
) -> None:
    """I70: USR1 while the stage's Python starts; it kills nobody, and the command hears it."""
    entry = start(
        started, table.folder, [str(ENTRY), *table.words()], **held(table.folder, "stage")
    )
    until((table.folder / "held").exists)
    entry.send_signal(signal.SIGUSR1)
    (table.folder / "go").touch()
    said, _ = entry.communicate(timeout=PATIENCE)
    (receipt,) = table.receipts("backtest")
    # A shell has no handler in its own first moments; the wrapper's part is that it gets there.
    assert (entry.returncode, receipt["code"]) in {(0, 0), (138, 138)}, said
    assert receipt["state"] == "closed"


@pytest.mark.parametrize("word", ["entry", "preflight", "stage", "-c"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_request_to_stop_ends_a_run_that_has_not_begun(
    table: Table, started: list[subprocess.Popen[str]], word: str, number: int
) -> None:
    """I70: while any of its Pythons starts: 128+n, nothing has run, nothing is left."""
    entry = start(started, table.folder, [str(ENTRY), *table.words()], **held(table.folder, word))
    until((table.folder / "held").exists)
    entry.send_signal(number)
    if word in ("entry", "-c"):
        (table.folder / "go").touch()
    said, _ = entry.communicate(timeout=PATIENCE)
    assert entry.returncode == 128 + number, said
    assert "Traceback" not in said
    assert table.receipts("backtest") == []
    assert [path.name for path in table.folder.glob("spot_backtest*")] == []


@pytest.mark.parametrize("word", ["entry", "preflight", "-c", "capture"])
def test_a_signal_for_nobody_kills_nobody(
    table: Table, started: list[subprocess.Popen[str]], word: str
) -> None:
    """I70: USR1 to the whole group, before there is a command that it could be for."""
    table.stage("parity")
    words = table.words("--only-stages=parity")
    if word == "capture":
        words = ["capture", "--slug=s", "--log=the.log", "--", "true"]
    entry = start(started, table.folder, [str(ENTRY), *words], **held(table.folder, word))
    until((table.folder / "held").exists)
    os.killpg(entry.pid, signal.SIGUSR1)
    (table.folder / "go").touch()
    said, _ = entry.communicate(timeout=PATIENCE)
    assert entry.returncode == 0, said


def test_capture_by_itself_holds_a_signal_while_it_is_imported(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    """I70: from its first line on; the command gets it afterwards."""
    python = interpreter(
        tmp_path / "slow",
        {"shim.errors": HELD.format(word="capture", folder=str(tmp_path))},
    )
    ready = "trap 'echo heard; exit 4' USR1; touch ready; while :; do sleep 0.02; done"
    words = ["capture", "--slug=s", "--log=the.log", "--", "sh", "-c", ready]
    shim = start(started, tmp_path, [str(python), str(ROOT / "shim"), *words])
    until((tmp_path / "held").exists)
    shim.send_signal(signal.SIGUSR1)
    (tmp_path / "go").touch()
    until(lambda: (tmp_path / "ready").exists() or shim.poll() is not None)
    if shim.poll() is None:
        shim.send_signal(signal.SIGUSR1)
    said, _ = shim.communicate(timeout=PATIENCE)
    # The first one may have reached the command before its own handler was there.
    assert shim.returncode in (4, 128 + signal.SIGUSR1), said
    assert "shim" not in said
    assert (tmp_path / "the.log").exists()


def test_a_signal_at_any_early_moment_kills_nobody(
    table: Table, started: list[subprocess.Popen[str]]
) -> None:
    """I70: sent again and again from the first line on, to the entry alone."""
    table.stage("parity", "trap '' USR1; echo x >$ARTIFACTS_DIR/parity.txt")
    entry = start(started, table.folder, [str(ENTRY), *table.words("--only-stages=parity")])
    until(lambda: ignores(entry.pid))
    while not table.receipts("parity") and entry.poll() is None:
        entry.send_signal(signal.SIGUSR1)
        time.sleep(0.01)  # a rate, not a wait
    said, _ = entry.communicate(timeout=PATIENCE)
    assert entry.returncode in (0, 128 + signal.SIGUSR1), said
    (receipt,) = table.receipts("parity")
    assert (receipt["state"], receipt["code"]) == ("closed", entry.returncode)


def ignores(pid: int) -> bool:
    """Return whether a process ignores USR1, which is what the entry does first (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigIgn:\t")[2][:16], 16) >> (signal.SIGUSR1 - 1) & 1)
