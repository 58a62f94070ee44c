"""`shim capture`: a command's log in a file, on the console and in the store, and its status."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shim.store import Store, open_store
from tests.children import PATIENCE, ROOT, alive, finished, read, until, wrapped
from tests.lab import S3Lab

DAY = "2026-05-17"
FOLDER = f"_ssm_logs/evaluator/{DAY}/"
SHIM = [sys.executable, str(ROOT / "shim")]
TWO_WORDS = "echo out; echo err >&2; printf end; exit 3"
NAPPING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("bye") or 3))
print("up", flush=True)
time.sleep(60)
"""


def options(store: str | None, **more: Any) -> dict[str, Any]:
    """Return what capture() is called with."""
    patterns = ["*_TOKEN", "*_PASSWORD"]
    base = {"slug": "evaluator", "store_uri": store, "run_date": DAY, "patterns": patterns}
    return base | {"ship_every": 0.05, "ship_last": 5.0} | more


def capture(
    folder: Path, arguments: Sequence[str], **how: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line."""
    words = [*SHIM, "capture", "--slug", "evaluator", "--log", "the.log", *arguments]
    return subprocess.run(
        words, cwd=folder, capture_output=True, timeout=PATIENCE, check=False, **how
    )


def logs(store: Store) -> list[bytes]:
    """Return the logs of the day in a store."""
    return [found[0] for o in store.list(FOLDER) if (found := store.read(o.key))]


def test_a_command_has_its_output_in_three_places_and_its_status_returned(
    tmp_path: Path, store_uri: str
) -> None:
    """In the file, on stdout and in the store under the run date, byte for byte; I01, I03."""
    ran = capture(tmp_path, ["--store", store_uri, "--date", DAY, "--", "sh", "-c", TWO_WORDS])
    store = open_store(store_uri)
    keys = [found.key for found in store.list("")]
    assert ran.returncode == 3
    assert ran.stdout == read(tmp_path / "the.log") == b"out\nerr\nend"
    assert logs(store) == [b"out\nerr\nend"]
    assert len(keys) == 1
    assert keys[0].startswith(FOLDER)
    assert keys[0].endswith("Z.log")
    said = ran.stderr.decode().splitlines()
    assert said[-1] == f"spot_backtest: evaluator: the log is {store.uri_of(keys[0])}"
    assert said[:-1] == ["spot_backtest: masked in logs: AWS_SECRET_ACCESS_KEY"]  # the lab's own


def test_the_status_survives_a_pipe_into_tee_and_a_shell_without_pipefail(tmp_path: Path) -> None:
    """I03: capture stands where `cmd | tee` stood, and the failure stays one."""
    script = f"{' '.join(SHIM)} capture --slug s --log the.log -- sh -c 'echo out; exit 7'"
    ran = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (7, b"out\n")
    assert read(tmp_path / "the.log") == b"out\n"


def test_the_command_gets_the_run_date(tmp_path: Path) -> None:
    """I01: it need not ask a clock."""
    ran = capture(tmp_path, ["--date", DAY, "--", "sh", "-c", "echo $RUN_DATE"])
    assert ran.stdout == f"{DAY}\n".encode()


@pytest.mark.parametrize(("words", "env"), [(["--dry-run"], {}), ([], {"DRY_RUN": "1"})])
def test_a_dry_run_ships_outside_of_production(
    tmp_path: Path, words: list[str], env: dict[str, str]
) -> None:
    """I17: the log of a dry run does not lie among the others."""
    capture(tmp_path, ["--date", DAY, "--store", "artifacts", *words, "--", "echo", "x"], env=env)
    folders = [p.relative_to(tmp_path).parts[:3] for p in (tmp_path / "artifacts").rglob("*.log")]
    assert folders == [("artifacts", "_ssm_logs", ".dry-run")]


def test_the_command_reads_the_callers_stdin(tmp_path: Path) -> None:
    """As without the wrapper, unless it is a terminal."""
    assert capture(tmp_path, ["--", "cat"], input=b"through").stdout == b"through"


def test_an_empty_environment_is_enough(tmp_path: Path) -> None:
    """I23: no HOME, no PATH, no locale."""
    ran = capture(tmp_path, ["--store", "artifacts", "--", "sh", "-c", "echo é; exit 4"], env={})
    assert (ran.returncode, ran.stdout) == (4, "é\n".encode())
    assert ran.stderr.count(b"\n") == 1


def test_a_store_that_cannot_be_one_is_refused_before_the_command_starts(tmp_path: Path) -> None:
    """A mistake in the call, exit 2."""
    ran = capture(tmp_path, ["--store", "ftp://host/x", "--", "touch", "started"])
    assert ran.returncode == 2
    assert not (tmp_path / "started").exists()


def test_the_log_is_in_the_store_while_the_command_runs(tmp_path: Path, store_uri: str) -> None:
    """I04, I20: the instance may end at any moment."""
    store = open_store(store_uri)
    with wrapped(tmp_path, ["sh", "-c", "echo up; sleep 60"], **options(store_uri)) as ran:
        until(lambda: logs(store) == [b"up\n"])
        os.kill(ran.front.pid, signal.SIGTERM)
        assert ran.wait() == 143


def test_sigkill_to_the_whole_group_ends_the_command_and_ships_the_log(
    tmp_path: Path, store_uri: str
) -> None:
    """I05: as SSM ends a command on a timeout and on a cancel."""
    store = open_store(store_uri)
    with wrapped(tmp_path, [sys.executable, "-c", NAPPING], **options(store_uri)) as ran:
        until(lambda: read(ran.log) == b"up\n")
        command, supervisor = ran.command, ran.supervisor
        os.killpg(ran.front.pid, signal.SIGKILL)
        until(lambda: not alive(supervisor))
    assert not alive(command)
    assert logs(store) == [b"up\nbye\n"]


def test_a_supervisor_that_is_killed_leaves_a_log_that_the_front_ships(tmp_path: Path) -> None:
    """Invariant 5; nobody knows how far it came, so all of it goes under the next name."""
    store = open_store(str(tmp_path / "store"))
    go = tmp_path / "go"
    script = f"until [ -e {go} ]; do sleep 0.02; done; echo up; sleep 60; :"
    how = options(store.uri, ship_every=60)
    with wrapped(tmp_path, ["sh", "-c", script], **how) as ran:
        until(lambda: logs(store) == [b""])
        command = ran.command
        go.touch()
        until(lambda: read(ran.log))
        os.kill(ran.supervisor, signal.SIGKILL)
        assert ran.wait() == 137
        assert not alive(command)
    assert sorted(logs(store)) == [b"", b"up\n"]


def test_a_timeout_is_124_and_the_last_words_are_shipped(tmp_path: Path) -> None:
    """The log that explains a timeout is the one that matters."""
    store = open_store(str(tmp_path / "store"))
    command = [sys.executable, "-c", NAPPING]
    status, _, errors, _ = finished(tmp_path, command, **options(store.uri, timeout=0.7))
    assert status == 124
    assert logs(store) == [b"up\nbye\n"]
    assert b"evaluator: timed out" in errors


def test_secrets_are_masked_in_the_log_on_the_console_and_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is printed in two halves; the beginning of one at the end is none."""
    monkeypatch.setenv("API_TOKEN", "s3cr3t-value")
    store = open_store(str(tmp_path / "store"))
    script = "echo a $API_TOKEN; printf s3cr; sleep 0.2; printf '3t-value. s3c'"
    _, console, errors, log = finished(tmp_path, ["sh", "-c", script], **options(store.uri))
    assert console == log == b"a ***\n***. s3c"
    assert logs(store) == [console]
    assert b"s3c" not in errors


def test_a_log_that_cannot_be_opened_is_kept_elsewhere_and_the_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of its folder; the status stays."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    status, console, errors, _ = finished(
        tmp_path, ["sh", "-c", TWO_WORDS], **options(None), log=tmp_path / "file" / "the.log"
    )
    kept = Path(errors.decode().split("; it is kept in ")[1].strip())
    assert status == 3
    assert read(kept) == console == b"out\nerr\nend"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_store_that_is_away_changes_neither_bytes_nor_status(tmp_path: Path) -> None:
    """I04: the log stays where stderr says."""
    (tmp_path / "file").touch()
    store = str(tmp_path / "file" / "store")
    how = options(store, ship_last=0.2)
    status, console, errors, log = finished(tmp_path, ["sh", "-c", TWO_WORDS], **how)
    assert (status, console, log) == (3, b"out\nerr\nend", b"out\nerr\nend")
    assert f"it is kept in {tmp_path / 'the.log'}".encode() in errors


def test_a_store_that_fails_halfway_and_recovers_has_the_whole_log(
    tmp_path: Path, s3: S3Lab, s3_uri: str
) -> None:
    """What it missed in between is caught up."""
    store = open_store(s3_uri)
    go = tmp_path / "go"
    script = f"echo one; until [ -e {go} ]; do sleep 0.02; done; echo two; exit 3"
    with wrapped(tmp_path, ["sh", "-c", script], **options(s3_uri)) as ran:
        until(lambda: logs(store) == [b"one\n"])
        s3.fail("PUT", "_ssm_logs", 501, times=2)
        go.touch()
        _, errors = ran.front.communicate(timeout=PATIENCE)
        assert ran.front.returncode == 3
    assert logs(store) == [b"one\ntwo\n"]
    assert errors.count(b"not shipped at the moment") == 1
    assert errors.count(b"shipped again") == 1
