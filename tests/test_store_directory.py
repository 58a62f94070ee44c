"""What only a directory does: permissions, links, leftovers, and disks that refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shim.errors import AccessError, PreflightError, RecordError
from shim.store import Store, open_store
from tests.lab.files import MIB, file, files_of_at_most, sha256


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory for a store, not made yet."""
    return tmp_path / "not/yet there"


@pytest.fixture
def directory(root: Path) -> Store:
    """A store in it."""
    return open_store(str(root))


def test_a_full_disk_leaves_nothing_behind(directory: Store, root: Path, tmp_path: Path) -> None:
    """73; what was there stays, and no temporary file does."""
    directory.put("big", b"before")
    source = file(tmp_path / "source", 3 * MIB)

    with files_of_at_most(MIB), pytest.raises(RecordError) as error:
        directory.put("big", source)

    assert str(root) in error.value.message
    assert directory.digest("big") == sha256(b"before")
    assert {path.name for path in root.rglob("*")} == {"big", ".shim-lock"}


def test_what_a_killed_writer_left_is_hidden_and_one_day_removed(
    directory: Store, root: Path
) -> None:
    """Not sooner: its writer may be alive and slow."""
    directory.put("a/b", b"x")
    fresh, old = (root / "a" / f".shim-tmp-{name}" for name in ("fresh", "old"))
    for path in (fresh, old):
        path.touch()
    yesterday = directory.now().timestamp() - 25 * 3600
    os.utime(old, (yesterday, yesterday))

    listed = [entry.key for entry in directory.list("")]
    directory.put("a/c", b"x")

    assert listed == ["a/b"]
    assert fresh.exists()
    assert not old.exists()


def test_links_are_read_but_neither_listed_nor_written_through(
    directory: Store, root: Path, tmp_path: Path
) -> None:
    """An input may lie elsewhere; what lies elsewhere is no object of the store."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "trades.db").write_bytes(b"input")
    directory.put("inputs/a", b"x")
    (root / "inputs/trades.db").symlink_to(outside / "trades.db")
    (root / "linked").symlink_to(outside)
    (root / "round").symlink_to(root)

    assert directory.digest("inputs/trades.db") == sha256(b"input")
    assert [entry.key for entry in directory.list("")] == ["inputs/a"]
    assert directory.folders("") == ["inputs"]

    directory.put("inputs/trades.db", b"ours")
    directory.delete("inputs/trades.db")

    assert (outside / "trades.db").read_bytes() == b"input"


def test_a_pipe_is_no_object(directory: Store, root: Path) -> None:
    """It is not opened either, which would wait for a writer."""
    directory.put("a", b"x")
    os.mkfifo(root / "pipe")

    assert directory.head("pipe") is None
    assert directory.read("pipe") is None
    assert [entry.key for entry in directory.list("")] == ["a"]


def test_a_name_that_is_no_text_is_not_listed(directory: Store, root: Path) -> None:
    """A key is text; such a file came from elsewhere."""
    directory.put("a", b"x")
    (root / os.fsdecode(b"\xff")).touch()

    assert [entry.key for entry in directory.list("")] == ["a"]


def test_an_object_in_the_way_of_a_folder_is_named(directory: Store, root: Path) -> None:
    """73: on a disk a name cannot be both."""
    directory.put("a", b"x")
    directory.put("b/c", b"x")

    for key in ("a/b", "b"):
        with pytest.raises(RecordError, match=f"{root / key[0]} .*rename"):
            directory.put(key, b"x")

    assert {path.name for path in root.rglob("*")} == {"a", "b", "c", ".shim-lock"}


def test_a_root_that_cannot_be_made_is_69(tmp_path: Path) -> None:
    """With its path and the flag that names another."""
    (tmp_path / "file").touch()

    with pytest.raises(PreflightError, match=r"file/store cannot be created .*--store"):
        open_store(str(tmp_path / "file/store")).put("a", b"x")


@pytest.mark.parametrize("act", ["put", "now"])
def test_a_place_that_may_not_be_written_is_77(act: str) -> None:
    """Nobody makes files in /sys, root included; asking the time there does without."""
    store = open_store("/sys/shim-store") if act == "put" else open_store("/sys")

    with pytest.raises(AccessError, match="/sys"):
        store.put("a", b"x") if act == "put" else store.now()


def test_the_clock_is_that_of_the_file_system(directory: Store, root: Path) -> None:
    """Before the root is there, too; the probe leaves nothing."""
    before = directory.now()
    written = directory.put("a", b"x").modified
    after = directory.now()

    assert before <= written
    assert (after - before).total_seconds() < 60
    assert {path.name for path in root.iterdir()} == {"a", ".shim-lock"}
