"""Put what is shown twice where it is shown again: `make readme`; tests compare both.

The entry's help goes into the README, bootstrap.sh into the launch template as its user data.
"""

import os
import re
import subprocess
import textwrap
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


def with_user_data(template: str, script: str) -> str:
    """Return the launch template with a script as its user data, a YAML literal."""
    block = re.compile(r"(?<=          Fn::Base64: \|\n).*?(?=\n  LauncherPolicy:)", re.DOTALL)
    return block.sub(lambda _: textwrap.indent(script, " " * 12), template)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(embedded(path.read_text(), "help", help_text()))
    script, path = (ROOT / "infrastructure" / n for n in ("bootstrap.sh", "launch_template.yaml"))
    path.write_text(with_user_data(path.read_text(), script.read_text()))
