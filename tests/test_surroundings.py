"""Where the entry must work: an empty environment, no home, odd paths, other locales."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.entry import ROOT, spot_backtest

TABLE = """
[[stage]]
name = "backtest"
command = ["sh", "-c", 'env >"$ARTIFACTS_DIR/env.txt"; printf "caf\\303\\251\\n"']
produces = ["env.txt"]
timeout = 60
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what the entry needs, in a folder with spaces and unicode in its name."""
    folder = tmp_path / "a clone — été's ✓"
    for part in ("shim", "infrastructure"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "spot_backtest.sh", folder)
    (folder / "infrastructure/pipeline.toml").write_text('root = ".."\n' + TABLE)
    return folder


def test_an_empty_environment_and_an_odd_path_are_enough(clone: Path) -> None:
    """I23: env -i, no HOME, a working directory that nobody can write, locale C, an odd path."""
    done = subprocess.run(
        [str(clone / "spot_backtest.sh"), "--date", "2026-05-17"],
        env={"PATH": os.defpath, "LC_ALL": "C", "SPOT_BACKTEST_PYTHON": sys.executable},
        cwd="/proc",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "café\n".encode() in done.stdout
    artifact = clone / "artifacts/backtest/2026-05-17/env.txt"
    assert "\nHOME=" not in artifact.read_text()
    assert b"Traceback" not in done.stderr


def test_the_entry_works_through_a_link_and_from_any_directory(clone: Path, tmp_path: Path) -> None:
    """A link on PATH finds the project; a relative store begins where the caller stands."""
    (tmp_path / "link").symlink_to(clone / "spot_backtest.sh")
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [str(tmp_path / "link"), "--date", "2026-05-17", "--store", "x y/store"],
        env={"PATH": os.defpath, "SPOT_BACKTEST_PYTHON": sys.executable},
        cwd=here,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (here / "x y/store/backtest/2026-05-17/env.txt").exists()


def test_nothing_is_written_beside_the_store(tmp_path: Path) -> None:
    """A run leaves its store and nothing else: not in the working directory, not in TMPDIR."""
    table, temporary, here = (tmp_path / name for name in ("table", "tmp", "here"))
    for folder in (table, temporary, here):
        folder.mkdir()
    (table / "pipeline.toml").write_text(TABLE)
    done = spot_backtest(
        "--pipeline", table / "pipeline.toml", "--store", tmp_path / "store",
        env={"TMPDIR": str(temporary), "HOME": str(tmp_path / "home")}, cwd=here,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "store", "table", "tmp"]
    assert [*here.iterdir(), *temporary.iterdir()] == []
    assert [p.name for p in table.iterdir()] == ["pipeline.toml"]


def test_files_in_the_store_are_the_users_alone_where_the_umask_says_so(tmp_path: Path) -> None:
    """I69: artifacts, records and logs have mode 0600 under a umask of 077."""
    (tmp_path / "pipeline.toml").write_text(TABLE)
    store = tmp_path / "store"
    before = os.umask(0o077)
    try:
        done = spot_backtest("--pipeline", tmp_path / "pipeline.toml", "--store", store)
    finally:
        os.umask(before)
    assert done.code == 0, done.err
    assert {oct(p.stat().st_mode & 0o777) for p in store.rglob("*") if p.is_file()} == {"0o600"}
