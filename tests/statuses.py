"""A stage that ends with a code, while what is printed finds its stream full, closed or unread."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shim.store import open_store
from tests.entry import ENTRY, base_env
from tests.stages import DATE, Table

SEED = int(os.environ.get("STATUSES_SEED", "41"))
MEANT = (0, 1, 2, 65, 69, 70, 73, 75, 77, 78, 124, 126, 127, 137, 143, 194)
OTHERS = random.Random(SEED).sample(sorted(set(range(256)) - set(MEANT)), 5)
STREAMS = ("stdout", "stderr")
STATES = ("open", "full", "closed", "reader gone")
WAYS = ("entry", "capture", "under SSM")
SCRIPT = (
    'echo one; echo two >&2; echo three; echo x >"$ARTIFACTS_DIR/out.txt"; read -r n <code; exit $n'
)


@dataclass(frozen=True)
class Case:
    """One run: the stage's code, which stream is in which state, and how it is called."""

    code: int
    stream: str
    state: str
    way: str

    def __str__(self) -> str:
        return f"{self.code}, {self.stream} {self.state}, {self.way}"


def every() -> list[Case]:
    """Return all of them: 21 codes, 2 streams, 4 states, 3 ways."""
    found = itertools.product((*MEANT, *OTHERS), STREAMS, STATES, WAYS)
    return [Case(*values) for values in found]


def pairwise() -> list[Case]:
    """Return 24 in which each of six codes, and each value of the rest, meets each other one."""
    return [
        Case(code, STREAMS[(i + j) % 2], state, WAYS[(i + j) % 3])
        for i, code in enumerate((0, 3, 75, 137, 143, 194))
        for j, state in enumerate(STATES)
    ]


def check(case: Case, folder: Path) -> None:
    """Run the case: what leaves and what the records say is the stage's."""
    table = Table(folder, open_store(str(folder / "store")))
    table.stage("backtest", SCRIPT, produces=["out.txt"])
    (folder / "code").write_text(f"{case.code}\n")
    lines = random.Random(f"{SEED} {case}").randrange(3)

    code = _run(case, table, lines)

    ssm = case.way == "under SSM"
    assert code == (1 if ssm and case.code in (137, 194) else case.code), (SEED, lines)
    if case.way == "capture":
        assert (folder / "the.log").read_bytes() == b"one\ntwo\nthree\n"
        return
    (receipt,) = table.receipts("backtest")
    outcome = "failed" if case.code else "committed"
    assert (receipt["state"], receipt["code"], receipt["outcome"]) == ("closed", case.code, outcome)
    assert bool(table.commit("backtest")) == (case.code == 0)
    assert table.log("backtest").startswith("one\ntwo\nthree\n")


def _run(case: Case, table: Table, lines: int) -> int:
    command = [str(ENTRY), *table.words()]
    if case.way == "capture":
        options = ["--slug=s", "--log=the.log", f"--date={DATE}", "--store", table.store.uri]
        command = [str(ENTRY), "capture", *options, "--", "sh", "-c", SCRIPT]
    env = base_env(TMPDIR=str(table.folder), ARTIFACTS_DIR=str(table.folder))
    if case.way == "under SSM":
        env["SSM_COMMAND_ID"] = "11111111-2222"
    number = {"stdout": 1, "stderr": 2}[case.stream]
    with ExitStack() as stack:
        streams = dict.fromkeys(STREAMS, subprocess.DEVNULL)
        streams[case.stream] = _stream(case.state, lines, stack)
        return subprocess.run(
            command,
            cwd=table.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            timeout=60,
            check=False,
            preexec_fn=partial(os.close, number) if case.state == "closed" else None,
        ).returncode


def _stream(state: str, lines: int, stack: ExitStack) -> int:
    """Return a descriptor in a state; a reader reads so many lines and leaves."""
    if state != "reader gone":
        found = os.open("/dev/full" if state == "full" else os.devnull, os.O_WRONLY)
        stack.callback(os.close, found)
        return found
    source, sink = os.pipe()

    def read() -> None:
        with open(source, "rb", buffering=0) as stream:
            for _ in range(lines):
                stream.readline()

    threading.Thread(target=read).start()
    stack.callback(os.close, sink)
    return sink
