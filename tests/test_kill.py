"""Kill -9 at any moment of a stage: no half commit, no child left, and the next try succeeds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shim.store import Store, open_store
from tests.children import PATIENCE, alive, read, until
from tests.stages import PREFIX, ROOT, WAIT_FOR_GO, Table

VICTIMS = ["front", "group", "supervisor", "both"]
MOMENTS = ["opened", "running", "publishing", "committing", "committed"]
SCRIPT = (
    f'echo $$ > child; echo run >> runs; echo x > "$ARTIFACTS_DIR/one.txt"; {WAIT_FOR_GO}; '
    'echo y > "$ARTIFACTS_DIR/two.txt"'
)
# Holds a write back, or what follows it, until a test lets it go on.
HOLD = """
import pathlib, time
from shim.store import open_store
Held = type(open_store({uri!r}))
put = Held.put
def hold():
    pathlib.Path("held").touch()
    while not pathlib.Path("go-on").exists():
        time.sleep(0.01)
def held(self, key, *more, **named):
    if key.endswith({before!r}):
        hold()
    done = put(self, key, *more, **named)
    if key.endswith({after!r}):
        hold()
    return done
Held.put = held
"""


def killable(folder: Path, store: Store) -> Table:
    """Return a table: a stage that tells its process id and waits, and one that needs it."""
    made = Table(folder, store)
    made.stage("backtest", SCRIPT, produces=["one.txt", "two.txt"])
    made.stage("parity", needs=["backtest"], requires=["two.txt"])
    return made


@pytest.fixture
def table(tmp_path: Path, store: Store) -> Table:
    """Such a table, with a store of each kind."""
    return killable(tmp_path, store)


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """Such a table, with a directory."""
    return killable(tmp_path, open_store(str(tmp_path / "a store")))


@pytest.fixture
def remote_table(tmp_path: Path, remote: Store) -> Table:
    """Such a table, with S3."""
    return killable(tmp_path, remote)


@pytest.fixture
def started() -> Iterator[Any]:
    """Starts the stage and returns it at a moment; ends whatever is left of it after the test."""
    running: list[tuple[Table, subprocess.Popen[str]]] = []

    def start(table: Table, moment: str) -> subprocess.Popen[str]:
        before = {"publishing": "two.txt", "committing": "_stages/backtest.json"}.get(moment, "\0")
        after = "_stages/backtest.json" if moment == "committed" else "\0"
        patch = HOLD.format(uri=table.store.uri, before=before, after=after)
        process = table.start("stage", "backtest", patch=patch)
        running.append((table, process))
        until(lambda: table.receipts("backtest"))
        if moment != "opened":
            until(lambda: child(table) and "begun" in local_log(table))
        if moment not in ("opened", "running"):
            (table.folder / "go").touch()
            until((table.folder / "held").exists)
        return process

    yield start
    for table, process in running:
        supervisors = [receipt["pid"] for receipt in table.receipts("backtest")]
        for pid in (process.pid, *supervisors, child(table)):
            with suppress(ProcessLookupError):
                if pid and alive(pid):
                    os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)


def kill(table: Table, process: subprocess.Popen[str], victim: str) -> None:
    """Kill -9, as Run Command, the kernel or a colleague does."""
    (receipt,) = table.receipts("backtest")
    if victim == "group":
        os.killpg(process.pid, signal.SIGKILL)
        return
    if victim == "both":  # held first, so that neither sees the other's end
        os.kill(process.pid, signal.SIGSTOP)
    if victim != "front":
        os.kill(receipt["pid"], signal.SIGKILL)
    if victim != "supervisor":
        os.kill(process.pid, signal.SIGKILL)


def begun(table: Table) -> bool:
    """Return whether the wrapper has the first words: what is in a pipe dies with its reader."""
    return any(b"begun" in read(log) for log in table.folder.glob("spot_backtest-*/*.log"))


def child(table: Table) -> int:
    """Return the process id of the stage's command, 0 if it never started."""
    path = table.folder / "child"
    return int(path.read_text() or 0) if path.exists() else 0


def local_log(table: Table) -> str:
    """Return the log as the supervisor has written it here."""
    return "".join(path.read_text() for path in table.folder.glob("spot_backtest*/*.log"))


def survive(table: Table, started: Any, victim: str, moment: str) -> None:
    """Kill, look at what is left, try again: the whole promise."""
    process = started(table, moment)
    (open_receipt,) = table.receipts("backtest")

    kill(table, process, victim)
    until(lambda: victim == "supervisor" or not alive(process.pid))
    (table.folder / "go-on").touch()
    until(lambda: not alive(process.pid) and not alive(open_receipt["pid"]))
    until(lambda: not child(table) or not alive(child(table)))

    (receipt,) = table.receipts("backtest")
    if victim != "both":
        assert receipt["state"] == "closed"
        assert table.log("backtest").startswith("" if moment == "opened" else "begun\n")
        assert table.leftovers() == []
    committed = table.commit("backtest")
    # A supervisor that outlives its front finishes a commit that is being sent.
    sent = moment == "committing" and victim in ("front", "group")
    assert bool(committed) == (sent or moment == "committed")
    if not committed:
        assert f"{PREFIX}_stages/backtest.json" not in table.contents()
        assert table.run("stage", "parity").returncode == 69
    runs = (table.folder / "runs").read_text().count("run") if child(table) else 0
    (table.folder / "go").touch()

    again = table.run("stage", "backtest", "--resume")

    assert again.returncode == 0, again.stderr
    assert table.commit("backtest")
    assert (table.folder / "runs").read_text().count("run") == runs + (0 if committed else 1)
    if not committed:
        assert {receipt["state"] for receipt in table.receipts("backtest")} == {"closed"}
    assert table.run("stage", "parity").returncode == 0


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_stage_that_is_killed_while_it_runs_can_be_repeated_at_once(
    local: Table, started: Any, victim: str
) -> None:
    """I05: front, group, supervisor or both: nobody waits for a silence of three minutes."""
    survive(local, started, victim, "running")


@pytest.mark.parametrize("moment", ["publishing", "committing", "committed"])
def test_a_stage_whose_caller_is_killed_at_the_end_is_committed_whole_or_not(
    local: Table, started: Any, moment: str
) -> None:
    """Invariant 2: half of its artifacts may lie there, and no commit says that they are all."""
    survive(local, started, "group", moment)


def test_the_same_holds_in_s3(remote_table: Table, started: Any) -> None:
    """One of the spread that make test-all runs."""
    survive(remote_table, started, "supervisor", "publishing")


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_at_any_moment_leaves_no_half_commit(
    table: Table, started: Any, victim: str, moment: str
) -> None:
    """I05, on both stores."""
    survive(table, started, victim, moment)


def test_an_entry_that_is_killed_takes_its_stage_along(local: Table) -> None:
    """I05: its stages run in process groups of their own, and end all the same."""
    command = [str(ROOT / "spot_backtest.sh"), *local.words("--only-stages", "backtest")]
    entry = subprocess.Popen(
        command,
        cwd=local.folder,
        env=local.env({"SPOT_BACKTEST_PYTHON": sys.executable}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pid = until(lambda: child(local))

    os.killpg(entry.pid, signal.SIGKILL)
    entry.wait(20)

    (receipt,) = until(lambda: [r for r in local.receipts("backtest") if r["state"] == "closed"])
    assert not alive(pid)
    assert receipt["outcome"] == "front died"
    assert local.commit("backtest") is None
    (local.folder / "go").touch()
    assert local.entry("--only-stages", "backtest").returncode == 0


@pytest.mark.parametrize("moment", ["publishing", "committing"])
def test_a_signal_after_the_command_stops_before_the_commit(
    local: Table, started: Any, moment: str
) -> None:
    """A cancel while artifacts are published: 128+n, a closed receipt, no commit."""
    process = started(local, moment)

    process.send_signal(signal.SIGTERM)
    until(lambda: idle(process.pid))
    (local.folder / "go-on").touch()
    said, _ = process.communicate(timeout=PATIENCE)

    # Asked for the last time before the commit is sent: one that is under way is not taken back.
    committed = moment == "committing"
    assert process.returncode == (0 if committed else 128 + signal.SIGTERM), said
    assert bool(local.commit("backtest")) == committed
    (receipt,) = local.receipts("backtest")
    assert receipt["code"] == process.returncode
    assert committed or "was stopped before its commit (SIGTERM)" in said


@pytest.mark.parametrize(("code", "written"), [(0, "graceful"), (0, "half"), (3, "graceful")])
def test_a_cancel_of_the_supervisor_never_commits(local: Table, code: int, written: str) -> None:
    """A command that ends with 0 when it is told to stop has not said that it is complete."""
    writes = f'echo x > "$ARTIFACTS_DIR/{written}.txt"'
    local.stage("graceful", f"trap 'exit {code}' TERM; {writes}; {WAIT_FOR_GO}")
    process = local.start("stage", "graceful")
    try:
        (receipt,) = until(lambda: local.receipts("graceful"))
        assert process.stdout
        until(lambda: "begun" in str(process.stdout and process.stdout.readline()))
        os.kill(receipt["pid"], signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        (local.folder / "go").touch()
        process.communicate(timeout=PATIENCE)

    assert process.returncode == (code or 128 + signal.SIGTERM), said
    assert local.commit("graceful") is None
    assert local.receipts("graceful")[0]["code"] == process.returncode


def idle(pid: int) -> bool:
    """Return whether a process has taken all signals that were sent to it (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return all(int(v, 16) == 0 for v in re.findall(r"^S(?:hd|ig)Pnd:\s*(\w+)", status, re.M))
