"""Modes and links of a directory store: what the umask says, and nothing through a link."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from shim.errors import RecordError
from shim.store import Store, open_store
from tests.stages import DATE, PREFIX, Table

UMASKS = [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0, 0o644, 0o755), (0o027, 0o640, 0o750)]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Have a umask, which what is started has too (umask(2))."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(root: Path) -> tuple[set[str], set[str]]:
    """Return the modes of the files and of the folders in a store, the root among them."""
    files: set[str] = set()
    folders = {oct(stat.S_IMODE(root.stat().st_mode))}
    for path in root.rglob("*"):
        if path.name != ".shim-lock":
            (folders if path.is_dir() else files).add(oct(stat.S_IMODE(path.stat().st_mode)))
    return files, folders


@pytest.mark.parametrize(("mask", "file", "folder"), UMASKS)
def test_files_and_folders_are_as_the_umask_says_and_never_wider(
    tmp_path: Path, mask: int, file: int, folder: int
) -> None:
    """I69: those above the store that were not there too; in a store nobody else may write."""
    source = tmp_path / "source"
    source.write_bytes(b"log")
    root = tmp_path / "not/yet there"
    with umask(mask):
        store = open_store(str(root))
        store.put("a/b/c", b"x")
        store.put("a/b/c", source)
        store.extend("log/log", source, 0, 2, None)

    assert modes(root) == ({oct(file)}, {oct(folder)})
    assert stat.S_IMODE(root.parent.stat().st_mode) == folder


@pytest.mark.parametrize(("mask", "file", "folder"), UMASKS[:3])
def test_all_that_a_stage_leaves_is_as_the_umask_says(
    tmp_path: Path, mask: int, file: int, folder: int
) -> None:
    """I69: artifacts, records and logs alike."""
    table = Table(tmp_path, open_store(str(tmp_path / "store")))
    table.stage("a")
    with umask(mask):
        done = table.run("stage", "a")

    assert done.returncode == 0, done.stderr
    assert modes(tmp_path / "store") == ({oct(file)}, {oct(folder)})


@pytest.mark.parametrize(("root", "lock"), [(0o755, 0o600), (0o775, 0o660), (0o1777, 0o666)])
def test_the_lock_is_for_all_who_may_write(tmp_path: Path, root: int, lock: int) -> None:
    """I69: whoever made the folder wide said who that is; the umask of the first does not."""
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(root)
    with umask(0o077):
        open_store(str(folder)).put("a", b"x")

    assert stat.S_IMODE((folder / ".shim-lock").stat().st_mode) == lock


def writes(store: Store, key: str, source: Path) -> dict[str, Callable[[], Any]]:
    """Return every way to change a key."""
    return {
        "put": lambda: store.put(key, b"ours"),
        "extend": lambda: store.extend(key, source, 0, 1, None),
        "delete": lambda: store.delete(key),
    }


@pytest.mark.parametrize("act", ["put", "extend", "delete"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, act: str, depth: int) -> None:
    """I69: 73, with the link and where it leads; what it leads to stays as it was."""
    root = tmp_path / "store"
    store = open_store(str(root))
    store.put("backtest/2026-05-16/a/b.txt", b"theirs")
    link = root / ("backtest" if depth == 1 else f"backtest/{DATE}")
    target = root / "elsewhere" if depth == 1 else root / "backtest/2026-05-16"
    if depth == 1:
        link.rename(target)
        (target / "2026-05-16").rename(target / DATE)
    link.symlink_to(target)
    (tmp_path / "source").write_bytes(b"x")
    before = sorted(str(path) for path in tmp_path.rglob("*"))

    with pytest.raises(RecordError) as error:
        writes(store, f"{PREFIX}a/b.txt", tmp_path / "source")[act]()

    assert f"{link} is a symbolic link to '{target}'" in error.value.message
    assert (link / ("a" if depth == 2 else f"{DATE}/a") / "b.txt").read_bytes() == b"theirs"
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_stage_whose_date_is_a_link_to_another_does_not_begin(tmp_path: Path) -> None:
    """I69: its claim would be the other date's."""
    root = tmp_path / "store"
    table = Table(tmp_path, open_store(str(root)))
    table.stage("a", "touch ran")
    table.store.put("backtest/2026-05-16/a.txt", b"theirs")
    (root / f"backtest/{DATE}").symlink_to("2026-05-16")

    done = table.run("stage", "a")

    assert done.returncode == 73, done.stderr
    assert f"backtest/{DATE} is a symbolic link to '2026-05-16'" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert [path.name for path in (root / "backtest/2026-05-16").iterdir()] == ["a.txt"]


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    """I69: whoever named it chose that."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to("disk")

    store = open_store(str(tmp_path / "store"))
    store.put("a/b", b"x")
    store.delete("a/b")
    store.put("a/c", b"x")

    assert (tmp_path / "disk/a/c").read_bytes() == b"x"
    assert not (tmp_path / "disk/a/b").exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """I69: nor is a file made where it leads."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/.shim-lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RecordError, match=r"\.shim-lock"):
        open_store(str(tmp_path / "store")).put("a", b"x")

    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_becomes_a_link_meanwhile_is_never_written_through(tmp_path: Path) -> None:
    """I69: between any check and any write; another thread changes it all the time."""
    outside, root = tmp_path / "outside", tmp_path / "store"
    outside.mkdir()
    store = open_store(str(root))
    store.put("date/a", b"x")
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            with suppress(OSError):  # a put has made the folder meanwhile
                (root / "date").rename(root / "aside")
                (root / "date").symlink_to(outside)
                (root / "date").unlink()
                (root / "aside").rename(root / "date")
            for folder in (root / "aside", root / "date"):
                shutil.rmtree(folder, ignore_errors=True)
            (root / "date").mkdir(exist_ok=True)

    swapper = threading.Thread(target=swap, daemon=True)
    swapper.start()
    refused = 0
    for number in range(200):
        try:
            store.put(f"date/{number}", b"x")
        except RecordError as error:
            refused += "symbolic link" in str(error)
    ended.set()
    swapper.join()

    assert list(outside.iterdir()) == []
    assert refused
