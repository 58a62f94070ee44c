"""What is read as a whole is a file: a pipe, a device or a folder there is refused at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shim import regular
from shim.environment import child_environment
from shim.errors import PipelineError
from shim.store import open_store
from tests.stages import ROOT, Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table of one stage."""
    made = Table(tmp_path, open_store(str(tmp_path / "store")))
    made.stage("backtest")
    return made


def put(path: Path, kind: str) -> None:
    """Put something that is no file in a place."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


def run(table: Table, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the shim; what waits for a pipe's writer fails here."""
    command = [sys.executable, str(ROOT / "shim"), *words]
    return subprocess.run(
        command,
        cwd=table.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
@pytest.mark.parametrize(("place", "code"), [("table", 78), ("env_file", 78), ("plan", 2)])
def test_what_is_no_file_is_refused_and_not_waited_for(
    table: Table, place: str, code: int, kind: str
) -> None:
    """I70: a FIFO hung for ever, and a device filled the memory."""
    words = table.words("preflight")
    if place == "table":
        put(table.path, kind)
    elif place == "env_file":
        table.head = 'env_file = "settings"'
        table.stage("parity")
        put(table.folder / "settings", kind)
    else:
        put(table.folder / "plan.json", kind)
        words = ["preflight", "--plan", str(table.folder / "plan.json")]
    done = run(table, *words)
    assert done.returncode == code, done.stderr
    assert f"is a {kind}" in done.stderr
    assert "internal error" not in done.stderr


def test_a_file_is_read_whole_also_through_a_link(tmp_path: Path) -> None:
    """And what is missing is an error of the system, as it was."""
    (tmp_path / "file").write_bytes(b"a\0b")
    (tmp_path / "link").symlink_to("file")
    assert regular.read(tmp_path / "link") == b"a\0b"
    with pytest.raises(FileNotFoundError):
        regular.read(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["A=a\0b\n", "A\0=b\n", "'A=B'=c\n"])
def test_a_variable_that_cannot_be_is_a_mistake_in_the_table(table: Table, text: str) -> None:
    """I70: NUL in env_file was a bug of ours, exit code 70."""
    table.head = 'env_file = "settings"'
    table.stage("parity")
    (table.folder / "settings").write_text(text)
    with pytest.raises(PipelineError, match="what no variable can have"):
        child_environment(table.plan(), table.plan().stage("backtest"), "", "")
