"""Writers that meet, writers that are killed, and bodies that are larger than memory should be."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from shim.store import ABSENT, Conflict, Store, open_store
from tests.children import PATIENCE
from tests.lab.files import MIB, file


def race(uri: str, rounds: int, gate: Barrier, wins: multiprocessing.Queue[int]) -> None:
    """Put each round's key if it is absent, at the same moment as the others."""
    store = open_store(uri)
    for number in range(rounds):
        gate.wait(30)
        with suppress(Conflict):
            store.put(f"round/{number}", str(os.getpid()).encode(), ABSENT)
            wins.put(number)


def test_one_of_many_processes_wins(store: Store) -> None:
    """Each round, whoever is first; the others are told."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(4)
    wins: multiprocessing.Queue[int] = context.Queue()
    racers = [context.Process(target=race, args=(store.uri, 5, gate, wins)) for _ in range(4)]

    for racer in racers:
        racer.start()
    won = sorted(wins.get(timeout=PATIENCE) for _ in range(5))
    for racer in racers:
        racer.join(30)
        racer.close()

    assert won == list(range(5))
    assert wins.empty()


def test_no_update_is_lost(store: Store) -> None:
    """A counter that many raise under the etag they read has their sum."""
    store.put("counter", b"0")

    def raise_it(_: int) -> None:
        mine = open_store(store.uri)
        for _ in range(5):
            while found := mine.read("counter"):
                with suppress(Conflict):
                    mine.put("counter", b"%d" % (int(found[0]) + 1), found[1].etag)
                    break

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(raise_it, range(4)))

    found = store.read("counter")
    assert found is not None
    assert found[0] == b"20"


KILLED = """
import os, pathlib, signal, sys
from shim.store import open_store
open_store(sys.argv[1]).put(
    "big", pathlib.Path(sys.argv[2]), None, lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_put_that_is_killed_leaves_what_was_there(
    store: Store, tmp_path: Path, before: bytes | None
) -> None:
    """A part of an object is never visible."""
    source = file(tmp_path / "source", 9 * MIB)
    if before:
        store.put("big", before)

    killed = subprocess.run([sys.executable, "-c", KILLED, store.uri, source], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert [entry.key for entry in store.list("")] == (["big"] if before else [])
    assert (store.read("big") or [None])[0] == before
    assert store.put("big", source).size == 9 * MIB


MEASURED = """
import pathlib, resource, sys
from shim.store import open_store
store, source = open_store(sys.argv[1]), pathlib.Path(sys.argv[2])
store.put("whole", source)
etag = store.extend("grown", source, 0, 1 << 20, None)
store.extend("grown", source, 1 << 20, source.stat().st_size, etag)
assert store.get("whole", source.with_name("copy")) == store.digest("grown")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_object(store: Store, tmp_path: Path) -> None:
    """200 MB are put, grown, fetched and digested with 40 MB more than 1 MB needs, at most."""

    def peak(size: int) -> int:
        source = file(tmp_path / f"source-{size}", size)
        command = [sys.executable, "-c", MEASURED, f"{store.uri}/{size}", str(source)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    small, large = peak(MIB), peak(200 * MIB)

    assert large - small < 40 * 1024  # in KiB: getrusage(2)
