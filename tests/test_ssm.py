"""The whole chain as SSM Run Command starts and ends it: sh, no HOME, /usr/bin, SIGKILL to a group.

The agent joins the commands to one script, runs it with sh (dash on Debian and Ubuntu), waits for
the end of its output, and kills the process group on timeout and cancel:
docs.aws.amazon.com/systems-manager/latest/userguide/run-command.html
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import alive, until
from tests.entry import ROOT

TABLE = """
[[stage]]
name = "backtest"
command = ["sh", "-c", {script}]
produces = ["a.txt"]
timeout = 60
"""
LAUNCH = """cd {root}
export RUN_DATE=2026-05-17
{python} -m shim capture --slug backtest --log {log} --store {store} -- \
bash spot_backtest.sh --pipeline {table} --store {store} --only-stages=backtest
"""


class Agent:
    """Runs commands as the SSM agent does, in a folder with a store."""

    def __init__(self, folder: Path, script: str) -> None:
        self.store, self.folder = folder / "store", folder
        table = folder / "pipeline.toml"
        table.write_text(TABLE.format(script=json.dumps(script)))
        values = {"root": ROOT, "python": sys.executable, "log": folder / "capture.log"}
        values |= {"store": self.store, "table": table}
        lines = LAUNCH.format(**{k: shlex.quote(str(v)) for k, v in values.items()})
        (folder / "_script.sh").write_text(lines)

    def start(self) -> subprocess.Popen[str]:
        """Start the script in a process group of its own."""
        shell = shutil.which("dash") or "sh"
        return subprocess.Popen(
            [shell, str(self.folder / "_script.sh")],
            env={
                "PATH": os.environ["PATH"],
                "PWD": "/usr/bin",
                "SSM_COMMAND_ID": "0831e1a8-a1ac-4257-a1fd-c831b48c4107",
                "SPOT_BACKTEST_PYTHON": sys.executable,
            },
            cwd="/usr/bin",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def run(self) -> tuple[int, str]:
        """Run to the end of the output; return the status and the output."""
        with self.start() as process:
            out = process.communicate(timeout=60)[0]
        return process.returncode, out

    def receipt(self) -> dict[str, object]:
        """Return the one receipt of the stage."""
        (file,) = (self.store / "backtest/2026-05-17/_stages/backtest").glob("*.json")
        values: dict[str, object] = json.loads(file.read_text())
        return values


def test_the_launch_lines_work_under_dash_without_home(tmp_path: Path) -> None:
    """I23, I24: sh that is dash, no HOME, /usr/bin: the stage runs and commits."""
    code, out = Agent(tmp_path, 'echo hello; echo "$RUN_DATE" >"$ARTIFACTS_DIR/a.txt"').run()
    assert code == 0, out
    store = tmp_path / "store"
    assert (store / "backtest/2026-05-17/a.txt").read_text() == "2026-05-17\n"
    assert (store / "backtest/2026-05-17/_stages/backtest.json").exists()
    # One log of the stage, one of everything around it.
    logs = list(store.glob("_ssm_logs/backtest/2026-05-17/*.log"))
    assert sorted("committed" in log.read_text() for log in logs) == [False, True]


@pytest.mark.parametrize("code", [137, 194])
def test_a_status_that_ssm_misreads_leaves_as_1(tmp_path: Path, code: int) -> None:
    """I32: 137 would be shown as a timeout, 194 would reboot the host; the receipt tells."""
    agent = Agent(tmp_path, f"exit {code}")
    status, out = agent.run()
    assert status == 1
    assert f"the exit code is {code}; it leaves as 1" in out
    assert agent.receipt()["code"] == code


@pytest.mark.parametrize("code", [3, 124])
def test_any_other_status_leaves_through_the_whole_chain(tmp_path: Path, code: int) -> None:
    """I03: capture, entry and stage hand the stage's own status on."""
    assert Agent(tmp_path, f"exit {code}").run()[0] == code


def test_a_killed_process_group_still_ends_ships_and_closes(tmp_path: Path) -> None:
    """I05: SIGKILL to the group: the stage is ended, both logs shipped, the receipt closed."""
    agent = Agent(tmp_path, "echo begun $$; exec sleep 300")
    process = agent.start()
    assert process.stdout
    line = ""
    while not line.startswith("begun"):
        line = process.stdout.readline()
        assert line, "the stage did not begin"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: agent.receipt()["state"] == "closed")
    assert not alive(int(line.split()[1]))
    assert agent.receipt()["outcome"] != "committed"
    folder = agent.store / "_ssm_logs/backtest/2026-05-17"
    until(lambda: sum("begun" in log.read_text() for log in folder.glob("*.log")) == 2)
    assert not (agent.store / "backtest/2026-05-17/_stages/backtest.json").exists()
    process.stdout.close()


def test_a_daemon_that_keeps_the_output_open_does_not_keep_the_agent(tmp_path: Path) -> None:
    """I35: the agent waits for the end of the output; it comes soon after the stage's end."""
    pid = tmp_path / "pid"
    script = f'sleep 300 & echo $! >{shlex.quote(str(pid))}; echo x >"$ARTIFACTS_DIR/a.txt"'
    code, out = Agent(tmp_path, script).run()
    assert code == 0, out
    assert not alive(int(pid.read_text()))
