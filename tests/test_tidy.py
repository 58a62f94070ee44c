"""Cleaning up after a run never decides how the run ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shim import tidy
from shim.store import open_store
from tests.children import alive, read, until
from tests.stages import ROOT, WAIT_FOR_GO, Table

# What stages do to the folder of their log, `$1`, and to the log, `$2`.
HARMS = {
    "removed": 'rm "$2"',
    "folder removed": 'rm -r "$1"; mkdir -p "$ARTIFACTS_DIR"',
    "replaced by a folder": 'rm "$2"; mkdir -p "$2/x"',
    "replaced by a FIFO": 'rm "$2"; mkfifo "$2"',
    "replaced by a link": 'ln -sf /etc/hostname "$2"',
}
FIND = 'folder=$(dirname "$ARTIFACTS_DIR"); set -- "$folder" "$folder/$STAGE.log"'
MADE = 'echo x > "$ARTIFACTS_DIR/backtest.txt"'


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """A table without stages, and a directory."""
    return Table(tmp_path, open_store(str(tmp_path / "store")))


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("code", [0, 37])
def test_whatever_became_of_the_log_the_status_is_the_stages(
    local: Table, harm: str, code: int
) -> None:
    """I64: no cleanup turns 0 or 37 into 70, nor waits for anybody.

    A folder that was made anew around ARTIFACTS_DIR is not the attempt's, so a 0 there is 65.
    """
    local.stage("backtest", f"{FIND}; echo out; {HARMS[harm]}; {MADE}; exit {code}")
    code = code or (65 if harm == "folder removed" else 0)
    done = local.run("stage", "backtest")
    assert done.returncode == code, done.stderr
    (receipt,) = local.receipts("backtest")
    assert (receipt["state"], receipt["code"]) == ("closed", code)
    assert bool(local.commit("backtest")) == (code == 0)
    assert "internal error" not in done.stderr


def test_a_log_in_a_folder_that_cannot_be_changed_stays_and_is_named(local: Table) -> None:
    """I64: an immutable folder (chattr(1)), which stops root as well."""
    locked = f'{FIND}; {MADE}; chattr +i "$1" && echo "$1" > locked'
    local.stage("backtest", locked)
    try:
        done = local.run("stage", "backtest")
    finally:
        if folder := read(local.folder / "locked").decode().strip():
            subprocess.run(["chattr", "-i", folder], check=True)
    if not folder:
        pytest.skip("chattr +i needs root and a file system that knows it")
    assert done.returncode == 0, done.stderr
    assert local.commit("backtest")
    assert f"{folder}/backtest.log stays here (Operation not permitted)" in done.stderr


def test_the_temporary_folder_of_an_entry_that_is_killed_is_removed(local: Table) -> None:
    """I67: the supervisor is who is left to do it."""
    local.stage("backtest", f"echo $$ > child; {WAIT_FOR_GO}")
    with subprocess.Popen(
        [str(ROOT / "spot_backtest.sh"), *local.words()],
        cwd=local.folder,
        env=local.env({"SPOT_BACKTEST_PYTHON": sys.executable}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as entry:
        pid = int(until(lambda: read(local.folder / "child")))
        assert local.leftovers()
        os.killpg(entry.pid, signal.SIGKILL)
    until(lambda: not local.leftovers())
    assert not alive(pid)


def test_only_an_entrys_own_folder_is_removed_and_no_link_followed(tmp_path: Path) -> None:
    """I67: the report may lie anywhere when somebody calls the stage by hand."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "report").touch()
    (tmp_path / "spot_backtest.link").symlink_to(precious)
    for report in (precious / "report", tmp_path / "spot_backtest.link" / "report", None):
        tidy.remove_entrys_folder(report)
    assert (precious / "report").exists()
    own = tmp_path / "spot_backtest.Ab12"
    own.mkdir()
    (own / "link").symlink_to(precious)
    tidy.remove_entrys_folder(own / "report")
    assert not own.exists()
    assert (precious / "report").exists()
