"""A .venv that is damaged where no shell sees it: the shim finds out, the entry makes it anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from shim.installation import lacking
from tests.entry import ROOT
from tests.lab.patches import interpreter

TABLE = """
root = ".."
[[stage]]
name = "backtest"
command = ["sh", "-c", 'echo x >"$ARTIFACTS_DIR/x.txt"']
produces = ["x.txt"]
timeout = 60
"""
# An installer without a network: the tests' own packages.
UV = '#!/bin/sh\nprintf "%s\\n" "{packages}" >"$(echo .venv/lib/python3*/site-packages)/all.pth"\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the tool, with a complete .venv that cannot import anything."""
    folder = tmp_path / "clone"
    for part in ("shim", "infrastructure", "requirements"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "spot_backtest.sh", folder)
    (folder / "infrastructure/pipeline.toml").write_text(TABLE)
    interpreter(folder / ".venv", {})
    (link,) = (folder / ".venv").rglob("the_tests.pth")
    link.unlink()
    shutil.copy(folder / "requirements/run.txt", folder / ".venv")
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin/uv"
    uv.write_text(UV.format(packages=sysconfig.get_path("purelib")))
    uv.chmod(0o755)
    return folder


def run(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the copy's entry, with the stub of uv and the Python of the tests on PATH."""
    python = Path(sys._base_executable).parent  # type: ignore[attr-defined]
    return subprocess.run(
        [str(clone / "spot_backtest.sh"), *words],
        env={"PATH": f"{clone.parent}/bin:{python}:{os.defpath}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_run_makes_a_damaged_environment_anew_and_goes_on(clone: Path) -> None:
    """I71: a half-deleted .venv was a traceback."""
    done = run(clone, "--date", "2026-05-17")
    assert done.returncode == 0, done.stderr
    assert "is damaged (No module named 'click')" in done.stderr
    assert "making .venv from requirements/run.txt (uv)" in done.stderr
    assert "Traceback" not in done.stderr
    assert (clone / "artifacts/backtest/2026-05-17/x.txt").exists()


def test_a_command_says_it_and_the_next_one_makes_it_anew(clone: Path) -> None:
    """I71: in two lines at most, with what to do."""
    done = run(clone, "plan")
    assert (done.returncode, done.stdout) == (69, "")
    assert "run the same command again, which makes it anew" in done.stderr
    assert "Traceback" not in done.stderr
    again = run(clone, "plan")
    assert again.returncode == 0, again.stderr


def test_an_interpreter_that_is_not_ours_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install where, and no mark in it; a module of ours that is missing is our bug."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert lacking(ImportError("No module named 'click'", name="click")).code == 69
    assert lacking(ImportError("no x", name="shim.x")).code == 70
    assert list(tmp_path.iterdir()) == []
    assert not (ROOT / ".venv/unfinished").exists()
