"""Many attempts at one stage at the same moment: the shim's command line in forked processes.

Usage: python tests/racers.py RACERS ROUNDS [ARGUMENTS OF THE SHIM]
In each round every racer starts at once, with an execution id and a date of the round's own. What
was refused ends first; then the file go-<date> lets the stage of the winner go on. Prints a line of
JSON for each round: the exit codes and what each racer said. Forked, for a start of Python costs
more than a whole attempt does, and would spread the racers out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import date, timedelta
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import boto3  # noqa: E402, F401  loaded once, before the forks

from shim import aws, capture, preflight, s3, stage  # noqa: E402, F401  likewise
from shim.cli import main  # noqa: E402

FIRST = date(2026, 1, 1)
PATIENCE = 30.0  # seconds until a round with more than one winner goes on all the same


def race(racers: int, day: str, words: list[str]) -> dict[str, object]:
    """Run one round and return its outcome."""
    gate = os.pipe()
    pids = []
    for number in range(racers):
        pid = os.fork()
        if pid == 0:
            os.close(gate[1])
            _run(number, gate[0], day, words)
        pids.append(pid)
    os.close(gate[0])
    os.close(gate[1])
    codes: dict[int, int] = {}
    deadline = time.monotonic() + PATIENCE
    while len(codes) < racers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
        if len(codes) >= racers - 1 or time.monotonic() > deadline:
            Path(f"go-{day}").touch()
        if not pid:
            time.sleep(0.005)
    said = [Path(f"said-{number}").read_text() for number in range(racers)]
    return {"date": day, "codes": [codes[pid] for pid in pids], "said": said}


def _run(number: int, gate: int, day: str, words: list[str]) -> None:
    out = os.open(f"said-{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ |= {"EXECUTION_ID": f"racer-{number}", "SPOT_CODE_VERSION": "abc"}
    os.read(gate, 1)  # ends when the last racer was forked
    try:
        main([*words, "--date", day])
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 70)


if __name__ == "__main__":
    for turn in range(int(sys.argv[2])):
        day = (FIRST + timedelta(days=turn)).isoformat()
        print(json.dumps(race(int(sys.argv[1]), day, sys.argv[3:])), flush=True)
