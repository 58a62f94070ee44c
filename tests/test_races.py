"""Attempts that start at the same moment: one commits, and each of the others says so."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import subprocess
import sys
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from shim import commit
from shim.errors import BusyError
from shim.store import Store, open_store
from tests.stages import PREFIX, ROOT, Table, publish, read_all, sha256

# The winner's own name is what it publishes, once all others are refused.
SCRIPT = (
    "while ! [ -e go-$RUN_DATE ]; do sleep 0.02; done; "
    'echo $EXECUTION_ID > "$ARTIFACTS_DIR/one.txt"; echo $EXECUTION_ID > "$ARTIFACTS_DIR/two.txt"'
)


@pytest.fixture
def table(tmp_path: Path, store: Store) -> Table:
    """A stage whose artifacts tell who made them."""
    made = Table(tmp_path, store)
    made.stage("backtest", SCRIPT, produces=["one.txt", "two.txt"])
    return made


def race(table: Table, racers: int, rounds: int) -> None:
    """Let attempts race and check what each round left."""
    words = ["stage", "backtest", "--pipeline", str(table.path), "--store", table.store.uri]
    command = [sys.executable, str(ROOT / "tests/racers.py"), str(racers), str(rounds), *words]

    done = subprocess.run(
        command, cwd=table.folder, stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )

    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == rounds
    for outcome in outcomes:
        check(table.store, racers, outcome)


def check(store: Store, racers: int, outcome: dict[str, Any]) -> None:
    """One winner, told losers, one receipt, one commit that verifies, all of it the winner's."""
    codes, date = outcome["codes"], outcome["date"]
    assert sorted(codes) == [0] + [75] * (racers - 1), outcome
    winner = f"racer-{codes.index(0)}"
    for code, said in zip(codes, outcome["said"], strict=True):
        assert code == 0 or f"is run by execution {winner} on" in said
    prefix = f"backtest/{date}/"
    found = commit.read(store, prefix, "backtest")
    assert found is not None
    assert commit.problems(store, prefix, found, date) == []
    assert found.execution_id == winner
    assert {one.sha256 for one in found.artifacts.values()} == {sha256(f"{winner}\n".encode())}
    (receipt,) = read_all(store, f"{prefix}_stages/backtest/")
    assert (receipt["execution_id"], receipt["outcome"]) == (winner, "committed")


def test_of_six_attempts_at_once_one_commits(table: Table) -> None:
    """I31, a quick look: five rounds."""
    race(table, 6, 5)


@pytest.mark.slow
def test_of_sixteen_attempts_at_once_one_commits(table: Table) -> None:
    """I31: fifty rounds on each store, each with one winner and fifteen losers that say so."""
    race(table, 16, 50)


def write_at_once(uri: str, rounds: int, number: int, gate: Barrier, won: Any) -> None:
    """Commit over the same commit at the same moment as the others."""
    store = open_store(uri)
    for turn in range(rounds):
        before = commit.read(store, PREFIX, "backtest")
        assert before
        mine = dataclasses.replace(before, attempt=f"{turn}-{number}")
        gate.wait(60)
        with suppress(BusyError):
            commit.write(store, PREFIX, mine, before.etag)
            won.put(mine.attempt)
        gate.wait(60)


def test_of_commits_over_the_same_commit_one_is_written(store: Store) -> None:
    """I31, invariant 3: even of attempts that no claim keeps apart, in each of five rounds."""
    publish(store, "backtest", "one.txt")
    context = multiprocessing.get_context("spawn")
    gate, won = context.Barrier(4), context.Queue()
    racers = [
        context.Process(target=write_at_once, args=(store.uri, 5, number, gate, won))
        for number in range(4)
    ]

    for racer in racers:
        racer.start()
    winners = [won.get(timeout=60) for _ in range(5)]
    for racer in racers:
        racer.join(60)
        racer.close()

    assert sorted(name.split("-")[0] for name in winners) == ["0", "1", "2", "3", "4"]
    assert won.empty()
    last = commit.read(store, PREFIX, "backtest")
    assert last is not None
    assert last.attempt in winners
    assert last.attempt.startswith("4-")
