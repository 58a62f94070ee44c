"""A Saturday night as a person starts it: what it says, what the store holds, that nothing is left.

The store is read here as plain files, without the tool.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.children import until
from tests.entry import ROOT
from tests.lab.fast_clock import FastClock
from tests.lab.host import Host
from tests.lab.launchers import stage_of
from tests.lab.night import MIDNIGHT, START
from tests.machines import OURS, WEEKLY, text_of

STAGES = ("backtest", "parity", "evaluator")
DATE, NEXT = "2026-05-16", "2026-05-17"
FOLDER = re.compile(r"(\S+/saturday-[^/\s]+)/")


@contextmanager
def night(*words: str, change: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start a night, after a change of it in Python, and end it with the test."""
    program = ["-c", f"{change}; from tests.saturday import main; sys.exit(main())"]
    with subprocess.Popen(
        [sys.executable, *(program if change else ["-m", "tests.saturday"]), *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as started:
        try:
            yield started
        finally:
            started.terminate()


def ended(started: subprocess.Popen[str], before: str = "") -> tuple[int, str]:
    """Return the exit code and what was printed."""
    text, _ = started.communicate(timeout=280)
    return started.returncode, before + text


def nothing_left(text: str) -> bool:
    """Return whether the night's folder is gone, and every process that knows it."""
    found = FOLDER.search(text)
    assert found, text
    knowing = []
    for entry in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline", "maps"):
            try:
                if found[1].encode() in (entry / name).read_bytes():
                    knowing.append(entry.name)
            except OSError:  # it has ended
                continue
    return not knowing and not Path(found[1]).exists()


def documents(store: Path, pattern: str) -> dict[str, dict[str, Any]]:
    """Return JSON files of the store by their names."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(store.glob(pattern))}


@pytest.mark.slow
def test_a_saturday_has_one_date_three_commits_and_no_instance(tmp_path: Path) -> None:
    """I01: midnight passes while the backtest runs on an instance; the store says all of it."""
    store = tmp_path / "store"
    with night("--keep", str(store)) as started:
        code, text = ended(started)
    assert code == 0, text
    last = f"one date ({DATE}), three commits, zero instances (three were launched); "
    assert text.splitlines()[-1].startswith(last)
    assert nothing_left(text)
    told = ["state Backtest:", "is launched:", "backtest starts on", "midnight UTC:",
            "backtest has committed", "state Parity:", "parity has committed", "state Evaluator:",
            "evaluator has committed", "the execution ends: SUCCEEDED", "spot_backtest.sh status",
            "backtest   committed ", "first lines of report.md\n", last]  # fmt: skip
    places = [text.index(each) for each in told]
    assert places == sorted(places)
    prefix = store / "backtest" / DATE
    commits = documents(prefix, "_stages/*.json")
    del commits["_claim"]
    assert set(commits) == set(STAGES)
    assert [path.name for path in (store / "backtest").iterdir()] == [DATE]
    assert {path.name for path in (store / "_ssm_logs").glob("*/*")} == {DATE}
    for stage, commit in commits.items():
        assert (commit["run_date"], commit["execution_id"]) == (DATE, "saturday")
        for name, artifact in commit["artifacts"].items():
            digest = hashlib.sha256((prefix / name).read_bytes()).hexdigest()
            assert digest == artifact["sha256"], name
        (receipt,) = documents(prefix, f"_stages/{stage}/*.json").values()
        assert (receipt["outcome"], receipt["attempt"]) == ("committed", commit["attempt"])
        if stage == "backtest":
            assert receipt["opened"][:10] == DATE
        assert commit["committed"][:10] == NEXT
    launches = documents(prefix, "_stages/_launches/*.json")
    assert [launch["stages"] for launch in launches.values()] == [[stage] for stage in STAGES]
    assert {launch["outcome"] for launch in launches.values()} == {"committed"}
    assert len({launch["instance"] for launch in launches.values()}) == 3
    report = (prefix / "report.md").read_text()
    assert report.startswith(f"# Backtest of {DATE}\n")


@pytest.mark.slow
def test_the_weekly_eight_have_one_date_on_two_days(tmp_path: Path) -> None:
    """I01: each launcher's own clock is asked; two of them run side by side."""
    store = tmp_path / "store"
    with night("weekly", "--keep", str(store)) as started:
        code, text = ended(started)
    assert code == 0, text
    last = f"one date ({DATE}), eight stages on two days, two side by side "
    assert text.splitlines()[-1].startswith(f"{last}(backtester and drift-detection); ")
    assert nothing_left(text)
    logs = [path.relative_to(store).parts for path in store.glob("_ssm_logs/*/*/*.log")]
    assert len({slug for _, slug, *_ in logs}) == 8
    assert {date for _, _, date, _ in logs} == {DATE}


@pytest.mark.slow
def test_an_interrupted_night_leaves_nothing(tmp_path: Path) -> None:
    """While an instance runs: instances, the host's processes and Step Functions end with it."""
    with night() as started:
        assert started.stdout
        text = ""
        for line in started.stdout:
            text += line
            if "backtest starts on" in line:
                break
        else:
            raise AssertionError(text)
        started.send_signal(signal.SIGINT)
        code, text = ended(started, text)
    assert (code, text.splitlines()[-1]) == (130, "stopped; all that was started has ended"), text
    assert nothing_left(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"$RUN_DATE"', '"$(date -u +%F)"', "they were told {"),
        ("sleep 1", "exit 9", "morning-enrich: SSM command "),
    ],
)
def test_a_night_that_proves_nothing_says_so(old: str, new: str, why: str) -> None:
    """I01 itself, each stage with its own clock's date; and a stage that fails."""
    change = f"import sys, tests.lab.launchers as l; l.STUB = l.STUB.replace({old!r}, {new!r})"
    with night("weekly", change=change) as started:
        code, text = ended(started)
    assert code == 1
    assert f"\nnot proven: {why}" in text
    assert nothing_left(text)


def test_the_clock_is_one_for_all_who_read_it(tmp_path: Path) -> None:
    """Its owner, any Python, and `date` on a host; it stands, runs, and comes to a moment."""
    clock = FastClock(tmp_path / "clock", START, 0.0)
    host = Host(tmp_path / "host", clock)

    def date() -> str:
        command = [str(host.folder / "bin" / "date"), "-u", "+%FT%TZ"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    said = f"print({clock.expression}.isoformat())"
    other = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert clock.now() == START == datetime.fromisoformat(other.stdout.strip())
    assert date() == "2026-05-16T22:45:00Z"
    assert clock.reach(MIDNIGHT, 0.1) == pytest.approx(45_000, rel=0.01)
    until(lambda: clock.now() >= MIDNIGHT)
    clock.run(0.0)
    assert date()[:10] == NEXT


def test_only_the_host_s_paths_are_moved(tmp_path: Path) -> None:
    """Of the checked-in definitions, to a folder; what is no path of the host stays."""
    host = Host(tmp_path / "host", FastClock(tmp_path / "clock", START, 0.0))
    for path in (OURS, WEEKLY):
        text = text_of(path)
        moved = host.rooted(text)
        assert moved != text
        assert moved.replace(f"{host.folder}/", "/") == text
        assert not re.search(r"(?<![\w./-])/(opt|var|home|etc)/", moved)
    assert host.rooted("a/opt/b s3://x/etc/y ./var/log/z") == "a/opt/b s3://x/etc/y ./var/log/z"


def test_a_launcher_knows_its_stage() -> None:
    """By its name, or where three share one by what it skips."""
    assert stage_of("spot_rag-ingestion.sh", "") == "rag-ingestion"
    assert stage_of("spot_backtest.sh", "--skip-stages=parity,evaluator") == "backtester"
    assert stage_of("spot_backtest.sh", "--skip-stages=backtester,parity") == "evaluator"
