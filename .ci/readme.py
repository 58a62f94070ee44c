"""Put the entry's help into the README, between its marks: `make readme`; a test compares them."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def help_text() -> str:
    """Return what `./spot_backtest.sh --help` prints at 100 columns."""
    env = {"PATH": os.environ["PATH"], "COLUMNS": "100"}
    if python := os.environ.get("SPOT_BACKTEST_PYTHON"):
        env["SPOT_BACKTEST_PYTHON"] = python
    command = [str(ROOT / "spot_backtest.sh"), "--help"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def embedded(readme: str, name: str, text: str) -> str:
    """Return the README with a text between the marks of that name."""
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return marks.sub(lambda m: f"{m[1]}```text\n{text.rstrip()}\n```\n{m[2]}", readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(embedded(path.read_text(), "help", help_text()))
