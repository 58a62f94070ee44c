"""Git repositories for tests: any folder made one, and a committed copy of the tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.entry import ROOT

TOOL = (
    ".gitignore",
    "spot_backtest.sh",
    "infrastructure",
    "shim",
    "requirements",
    "examples",
    "pyproject.toml",
)
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=no")


def commit_all(folder: Path) -> None:
    """Make a repository of a folder, or what changed in it its next commit."""
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True)
    staged = subprocess.run([*GIT, "diff", "--cached", "--quiet"], cwd=folder, check=False)
    if staged.returncode:
        commit = [*GIT, "commit", "-q", "-m", "x"]
        subprocess.run(commit, cwd=folder, check=True, capture_output=True)


def copy_of_the_tool(folder: Path) -> Path:
    """Return a repository with what a run needs of the tool, committed as it is now."""
    folder.mkdir(parents=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *TOOL]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    commit_all(folder)
    return folder
