"""What a command leaves running is ended, named and reaped, wherever it has moved to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shim.leftovers import Leftovers, children
from shim.store import open_store
from tests.children import PATIENCE, alive, finished, python, read, shell, until, wrapped
from tests.children import children as children_of
from tests.stages import Table

# Forks twice with a setsid between, as daemon(7) says, closes its output, and does what it is told.
AWAY = """
import os, signal, sys, time
file = os.open("away", os.O_WRONLY | os.O_CREAT)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3): os.dup2(null, number)
        {manners}
        os.write(file, b"%d" % os.getpid())
        while True: time.sleep(0.01)
    os._exit(0)
while not os.path.getsize("away"): time.sleep(0.01)
{then}
"""
RUDE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def away(then: str, manners: str = "") -> list[str]:
    """Return a command that leaves a daemon, whose pid it writes into the file `away`."""
    return python(AWAY.format(then=then, manners=manners))


def pid_of(folder: Path) -> int:
    """Return the pid that such a daemon wrote."""
    return int(until(lambda: read(folder / "away")))


@pytest.mark.parametrize(
    ("then", "how", "status"),
    [
        ("sys.exit(5)", {}, 5),
        ("os.kill(os.getpid(), 9)", {}, 137),
        ("time.sleep(60)", {"timeout": 0.6, "grace": 0.5}, 124),
    ],
    ids=["exit", "signal", "timeout"],
)
def test_what_moved_to_a_session_of_its_own_is_ended_with_the_command_and_named(
    tmp_path: Path, then: str, how: dict[str, Any], status: int
) -> None:
    """I67: after a double fork with setsid too; on stderr, in the log and in the result."""
    with wrapped(tmp_path, away(then), **how) as ran:
        console, errors = ran.front.communicate(timeout=PATIENCE)
        assert ran.front.returncode == status
    daemon = pid_of(tmp_path)
    name = f"{Path(sys.executable).name} ({daemon})"
    assert not alive(daemon)
    assert console == b""
    assert f"ended what the command left running: {name}\n" in errors.decode()
    assert f"[spot_backtest: ended what the command left running: {name}]\n" in ran.log.read_text()
    assert ran.result()["leftovers"] == [name]


def test_a_leftover_that_ignores_term_is_killed_after_a_short_grace(tmp_path: Path) -> None:
    """I67: the status stays the command's."""
    assert finished(tmp_path, away("sys.exit(3)", RUDE), grace=0.2)[0] == 3
    assert not alive(pid_of(tmp_path))


def test_a_leftover_has_its_last_words(tmp_path: Path) -> None:
    """I67: it gets TERM first, and what it then writes is in the log."""
    program = "trap 'echo saved; exit' TERM; echo up; while :; do sleep 0.02; done"
    status, _, _, log = finished(tmp_path, shell(f'setsid sh -c "{program}" & sleep 0.3; exit 4'))
    assert status == 4
    assert b"saved\n" in log


@pytest.mark.parametrize("victim", ["front", "supervisor"])
def test_what_moved_away_ends_also_when_one_half_of_the_wrapper_is_killed(
    tmp_path: Path, victim: str
) -> None:
    """I67: whichever of the two is left ends it, and says so."""
    with wrapped(tmp_path, away("time.sleep(60)")) as ran:
        daemon = pid_of(tmp_path)
        supervisor = ran.supervisor
        os.kill(ran.front.pid if victim == "front" else supervisor, signal.SIGKILL)
        assert ran.wait() == (-9 if victim == "front" else 137)
        until(lambda: not alive(supervisor) and not alive(daemon))
        said = ran.result()
    assert f"({daemon})" in str(said.get("leftovers") or said["lost"])


def test_what_respawns_itself_costs_bounded_time(tmp_path: Path) -> None:
    """I67: a chain of processes, each of which lives for a moment; the status is kept."""
    chain = "import os\nos.setsid()\nwhile not os.path.exists('stop'):\n if os.fork(): os._exit(0)"
    began = time.monotonic()
    command = shell(f'{sys.executable} -c "{chain}" >/dev/null 2>&1 & exit 6')
    try:
        assert finished(tmp_path, command, grace=0.2)[0] == 6
        assert time.monotonic() - began < 15
    finally:
        (tmp_path / "stop").touch()


def test_orphans_are_reaped_while_the_command_runs(tmp_path: Path) -> None:
    """I67: a stage of hours leaves no thousands of zombies."""
    script = "for n in 1 2 3 4 5; do (sleep 0.01 &); done; echo up; sleep 60"
    with wrapped(tmp_path, shell(script)) as ran:
        until(lambda: read(ran.log))
        until(lambda: len(children_of(ran.supervisor)) == 1)
        os.kill(ran.front.pid, signal.SIGTERM)
        assert ran.wait() == 143


def test_a_supervisor_of_ours_below_a_command_ends_its_own_work() -> None:
    """I67: it ships its log and closes its receipt, which takes longer than any grace here."""
    supervisor = "printf spot_backtest > /proc/$$/comm; echo up; read line"
    with subprocess.Popen(
        shell(supervisor), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as found:
        assert found.stdout
        assert found.stdout.readline() == b"up\n"
        left = Leftovers([*(set(children()) - {found.pid})], grace=0)
        left.end()
        assert left.named() == ()
        assert alive(found.pid)
        found.communicate(b"\n", timeout=PATIENCE)


def test_a_helper_of_ours_and_a_stranger_are_left_alone() -> None:
    """I67: a child in our own session is ours, such as a credential process of an AWS client."""
    with (
        subprocess.Popen(["sleep", "60"]) as ours,
        subprocess.Popen(["sleep", "60"], start_new_session=True) as kept,
        subprocess.Popen(["sleep", "60"], start_new_session=True) as left,
    ):
        assert {ours.pid, kept.pid, left.pid} <= set(children())
        found = Leftovers([*(set(children()) - {ours.pid, left.pid})], grace=0)
        found.end()
        assert found.named() == (f"sleep ({left.pid})",)
        assert alive(ours.pid)
        assert alive(kept.pid)
        ours.kill()
        kept.kill()


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv(1)"
)
def test_a_leftover_of_another_user_is_named_as_not_ended(tmp_path: Path) -> None:
    """I67: without the right to signal it (capabilities(7)) it is said, and nobody waits for it."""
    without_right = ["setpriv", "--bounding-set", "-kill"]
    command = away("sys.exit(3)", "os.setresuid(65534, 65534, 65534)")
    with wrapped(tmp_path, command, call=without_right) as ran:
        _, errors = ran.front.communicate(timeout=PATIENCE)
        assert ran.front.returncode == 3
    daemon = pid_of(tmp_path)
    try:
        assert alive(daemon)
        assert f"({daemon}, not ended: Operation not permitted)" in errors.decode()
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_stage_that_leaves_a_writer_is_dead_before_its_receipt_is_closed(tmp_path: Path) -> None:
    """I67: nothing of it writes after exit 124, and the receipt names it."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    command = away("time.sleep(60)")
    table.stage("backtest", command=command, timeout="1s")
    assert table.run("stage", "backtest").returncode == 124
    daemon = pid_of(tmp_path)
    assert not alive(daemon)
    (receipt,) = table.receipts("backtest")
    assert receipt["outcome"] == "timed out"
    assert str(daemon) in receipt["leftovers"][0]
    assert "ended what the command left running" in table.log("backtest")
    assert receipt["cpu_seconds"] > 0
    assert receipt["memory_peak_bytes"] > 1 << 20
    assert receipt["memory_of"] in ("cgroup", "largest process")
