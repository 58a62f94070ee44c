"""Times each job beside the plain way to do it and prints medians and their ratio: `make bench`.

Whole processes, taken in turn so that a busy machine slows both; the ratio is what to quote.
"""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIM = shlex.join([sys.executable, str(ROOT / "shim")])
BYTES = "head -c 1073741824 /dev/zero"
LINES = "seq 5000000"
EMPTY = f"{sys.executable} -c pass"
# A table whose definition has more than 300 states.
TABLE = '[state_machine]\npoll = "5m"\ntries = 2\nbefore = ["cd /x"]\n' + "".join(
    f'[[stage]]\nname = "stage-{number}"\ncommand = ["x"]\ntimeout = "1h"\n' for number in range(25)
)

# (what, how often, ours, the plain way)
JOBS = (
    ("plan / an empty Python", 20, f"{SHIM} plan --json", EMPTY),
    (
        "asl build, 300 states / the same",
        5,
        f"{SHIM} asl build --pipeline {{table}} --check",
        EMPTY,
    ),
    ("asl render, 300 states / the same", 5, f"{SHIM} asl render {{definition}}", EMPTY),
    ("asl lint, 300 states / the same", 5, f"{SHIM} asl lint {{definition}}", EMPTY),
    (
        "capture 1 GiB / tee",
        5,
        f"{SHIM} capture --slug bench --log {{dir}}/a.log -- {BYTES}",
        f"{BYTES} | tee {{dir}}/b.log",
    ),
    (
        "capture 5,000,000 lines / tee",
        5,
        f"{SHIM} capture --slug bench --log {{dir}}/a.log -- {LINES}",
        f"{LINES} | tee {{dir}}/b.log",
    ),
    (
        "capture and ship 1 GiB / tee and cp",
        3,
        f"{SHIM} capture --slug bench --log {{dir}}/a.log --store {{dir}}/store -- {BYTES}",
        f"{BYTES} | tee {{dir}}/b.log; cp {{dir}}/b.log {{dir}}/c.log",
    ),
)


def seconds(command: str, table: Path) -> float:
    """Return how long a command of this file took; its output goes nowhere."""
    command = command.replace("{table}", str(table))
    command = command.replace("{definition}", str(table.with_name("step_function.json")))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            ["bash", "-c", command.replace("{dir}", folder)], stdout=subprocess.DEVNULL, check=True
        )
        return time.perf_counter() - start


def main(folder: str) -> None:
    """Run every job and print one line for each, then what environment.py says."""
    table = Path(folder) / "pipeline.toml"
    table.write_text(TABLE)
    seconds(f"{SHIM} asl build --pipeline {{table}}", table)
    print(f"{'job':<38} {'ours':>9} {'plain':>9} {'ratio':>6}")
    for what, rounds, ours, plain in JOBS:
        pairs = [(seconds(ours, table), seconds(plain, table)) for _ in range(rounds)]
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{what:<38} {a:>7.3f} s {b:>7.3f} s {a / b:>6.2f}", flush=True)
    print(flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.environment"], cwd=ROOT, check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(made)
