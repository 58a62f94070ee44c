"""Many files in one folder: what each of them costs does not depend on how many there are."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shim import artifacts, commit
from shim.commit import Commit
from shim.store import Store, open_store
from tests.stages import DATE, PREFIX, Table


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count each call to the system, and each entry of a folder that is read."""
    calls: Counter[str] = Counter()
    scandir = os.scandir

    class Read:
        """A folder that is read, entry by entry."""

        def __init__(self, path: Any = ".") -> None:
            self._entries = scandir(path)

        def __enter__(self) -> Read:
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Read:
            return self

        def __next__(self) -> Any:
            calls["entries"] += 1
            return next(self._entries)

        close = __exit__

    def seen(_: object, event: str, called: Any) -> None:
        if event == "c_call" and getattr(called, "__module__", "") in ("posix", "fcntl"):
            calls[called.__name__] += 1

    with monkeypatch.context() as patched:
        patched.setattr("os.scandir", Read)
        sys.setprofile(seen)
        try:
            yield calls
        finally:
            sys.setprofile(None)


def published(table: Table, store: Store, count: int) -> Commit:
    """Publish so many files of a stage, commit them and verify that."""
    plan = table.plan()
    stage = plan.stage("many")
    folder = table.folder / f"made-{count}"
    (folder / "deep").mkdir(parents=True)
    for number in range(count):
        (folder / "deep" / f"{number}.txt").write_text(f"{number}")
    before = artifacts.snapshot(store, plan)
    found = artifacts.collect(stage, folder, {}, artifacts.owners_of(store, plan, stage))
    made = artifacts.publish(
        store, plan, found, before, lambda: None, lambda _: lambda _count: None
    )
    artifacts.retire(store, plan, commit.read(store, PREFIX, "many"), made, lambda: None)
    written = Commit("many", DATE, "x", "1", "c", "then", made, {})
    written = commit.write(store, PREFIX, written, None)
    assert commit.problems(store, PREFIX, written, DATE) == []
    return written


def cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[float, float]:
    """Return the calls, and the entries of folders that are read, for each file."""
    store = open_store(str(tmp_path / f"store-{count}"))
    table = Table(tmp_path, store)
    table.stage("many", produces=["deep/0.txt"])
    # The disk is not what is counted: ten thousand files take a minute to be on it for sure.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    with counted(monkeypatch) as calls:
        published(table, store, count)
    entries = calls.pop("entries")
    return sum(calls.values()) / count, entries / count


@pytest.mark.parametrize(
    ("few", "many"), [(60, 480), pytest.param(2_000, 10_000, marks=pytest.mark.slow)]
)
def test_a_file_costs_the_same_among_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, many: int
) -> None:
    """I66: from its publication to the commit and what verifies it; a folder is not read anew."""
    calls, entries = cost(tmp_path, monkeypatch, few)
    of_many, entries_of_many = cost(tmp_path, monkeypatch, many)

    assert of_many <= calls * 1.02
    assert of_many < 60
    assert entries_of_many <= max(entries, 4) + 1  # a folder is swept as often as its size doubles
