"""A progress bar on a terminal that goes away."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

from shim.store import open_store
from tests.children import PATIENCE, until
from tests.stages import ROOT, Table
from tests.test_kill import HOLD


def test_a_terminal_that_goes_away_during_a_bar_fails_no_run(tmp_path: Path) -> None:
    """I63: drawing raised, and nothing was committed: 73."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    table.stage("backtest", produces=["one.txt", "two.txt"])
    held = HOLD.format(uri=table.store.uri, before="two.txt", after="\0")
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{held}\n"
    command = table.command("stage", "backtest")
    command[1:2] = ["-c", f"{first}from shim.cli import main; main()"]
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=table.env({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        start_new_session=True,
    )
    try:
        os.close(terminal)
        until((tmp_path / "held").exists)
        assert b"two.txt" in os.read(screen, 1 << 16)
        os.close(screen)
    finally:
        (tmp_path / "go-on").touch()
        code_left = process.wait(PATIENCE)

    assert code_left == 0
    assert table.commit("backtest")
