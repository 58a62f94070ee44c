"""A log that is larger than its disk: the command goes on, and the end of the log is kept."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.guest import _Guest
from shim.logfile import TAIL, LogFile
from shim.ship import Shipper
from shim.store import Store, open_store
from tests.children import read, until
from tests.lab import S3Lab
from tests.lab.files import files_of_at_most
from tests.stages import Table
from tests.test_ship import KEY, content, grow

GAP = re.compile(rb"\n\[spot_backtest: (\d+) bytes lost here\]\n")
MIB = 1 << 20
TALK = """
import sys
for n in range(30):
    sys.stdout.write("".join("%07d\\n" % (n * 131072 + k) for k in range(131072)))
print("THE END")
"""


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of so many MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={request.param}m", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def talking(table: Table, code: int) -> None:
    """Add a stage that says 30 MiB as fast as it can and then writes an artifact of 2 MiB."""
    (table.folder / "talk.py").write_text(TALK)
    after = 'head -c 2097152 /dev/zero > "$ARTIFACTS_DIR/backtest.txt"'
    table.stage("backtest", f"python3 talk.py && {after} && echo LAST && exit {code}")


def survive(table: Table, disk: Path, code: int) -> None:
    """Run such a stage with its files on that disk; look at its status, log and leftovers."""
    talking(table, code)
    done = table.run("stage", "backtest", "--quiet", TMPDIR=str(disk))
    assert done.returncode == code, done.stderr
    assert bool(table.commit("backtest")) == (code == 0)
    log = table.log("backtest").encode()
    (receipt,) = table.receipts("backtest")
    gaps = [int(found) for found in GAP.findall(log)]
    assert log.endswith(b"THE END\nLAST\n")
    assert len(GAP.sub(b"", log)) + sum(gaps) == receipt["log_bytes"]
    assert sum(gaps) <= receipt["log_lost"] <= sum(gaps) + TAIL
    kept = [f"spot_backtest-failed-{os.geteuid()}"] if code else []
    assert [path.name for path in disk.iterdir()] == kept


@pytest.mark.parametrize("disk", [12], indirect=True, ids=["12 MiB"])
def test_a_log_that_is_larger_than_its_disk_fails_no_stage_and_its_end_is_in_the_store(
    tmp_path: Path, disk: Path
) -> None:
    """I68: the artifact finds room, a line marks what is lost, nothing else is."""
    survive(Table(tmp_path, open_store(str(tmp_path / "store"))), disk, 0)


@pytest.mark.slow
@pytest.mark.parametrize("disk", [12], indirect=True, ids=["12 MiB"])
@pytest.mark.parametrize("code", [0, 3])
def test_the_same_holds_in_each_store_and_for_a_stage_that_fails(
    tmp_path: Path, store: Store, disk: Path, code: int
) -> None:
    """I68: in S3 the first 5 MiB of an object are never copied, only sent again."""
    survive(Table(tmp_path, store), disk, code)


@pytest.mark.parametrize("disk", [40], indirect=True, ids=["40 MiB"])
def test_a_store_on_the_same_disk_leaves_room_to_the_stage_as_well(
    tmp_path: Path, disk: Path
) -> None:
    """I68: 30 MiB of log and its object fit there once only; the end of it is in the store."""
    table = Table(tmp_path, open_store(str(disk / "store")))
    talking(table, 0)
    done = table.run("stage", "backtest", "--quiet", TMPDIR=str(disk))
    assert done.returncode == 0, done.stderr
    assert table.log("backtest").endswith("THE END\nLAST\n")
    assert [path.name for path in disk.iterdir()] == ["store"]


@pytest.mark.parametrize("disk", [12], indirect=True, ids=["12 MiB"])
def test_what_is_shipped_is_freed_and_never_asked_for_again(
    tmp_path: Path, store: Store, disk: Path
) -> None:
    """I68: the file keeps its size and gives back its blocks; what follows is shipped as ever."""
    log = disk / "the.log"
    log.touch()
    shipper = Shipper(store, KEY, log, 60)
    shipper.start()
    whole = grow(log, os.urandom(7 * MIB))
    shipper.make_room()
    until(lambda: shipper.freed)
    assert log.stat().st_size == len(whole)
    assert log.stat().st_blocks * 512 < MIB
    whole += grow(log, os.urandom(7 * MIB))
    assert shipper.finish()
    assert content(store) == whole


@pytest.mark.parametrize("disk", [64], indirect=True, ids=["64 MiB"])
def test_a_log_on_a_disk_with_room_keeps_every_byte(
    tmp_path: Path, disk: Path, store: Store
) -> None:
    """I68: nothing is freed that need not be: --log is the user's file."""
    log = disk / "the.log"
    log.touch()
    shipper = Shipper(store, KEY, log, 0.02)
    shipper.start()
    whole = grow(log, os.urandom(7 * MIB))
    assert shipper.finish()
    assert (read(log), shipper.freed) == (whole, 0)


@pytest.mark.parametrize("size", [0, 10, 6 * MIB])
def test_the_rest_of_a_log_follows_it_in_the_store(
    tmp_path: Path, store: Store, size: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """I68: bytes for which the disk has no room at all, after none, few and many that it has."""
    log = tmp_path / "the.log"
    log.touch()
    shipper = Shipper(store, KEY, log, 0.02)
    shipper.start()
    whole = grow(log, os.urandom(size))
    assert shipper.finish(rest=b"THE END\n")
    assert content(store) == whole + b"THE END\n"
    assert read(log) == whole
    assert capfd.readouterr().err == ""


def test_the_rest_of_a_log_that_is_gone_follows_what_was_shipped(
    tmp_path: Path, store: Store
) -> None:
    """I68, I64: somebody removed the file, or it never came to be."""
    log = tmp_path / "the.log"
    shipper = Shipper(store, KEY, log, 0.02)
    shipper.start()
    grow(log, b"first ")
    until(lambda: shipper.shipped)
    log.unlink()
    assert shipper.finish(rest=b"last")
    assert content(store) == b"first last"


def test_a_log_that_cannot_even_be_opened_keeps_its_end(tmp_path: Path) -> None:
    """I68: no inode, no folder: the end is still there, to be shipped."""
    (tmp_path / "file").touch()
    log = LogFile(tmp_path / "file" / "the.log")
    log.write(b"x" * TAIL)
    log.write(b"THE END\n")
    assert log.lost == TAIL + 8
    assert (
        log.finish() == b"\n[spot_backtest: 8 bytes lost here]\n" + b"x" * (TAIL - 8) + b"THE END\n"
    )


def test_a_large_log_that_was_freed_is_copied_within_s3(
    s3: S3Lab, s3_uri: str, tmp_path: Path
) -> None:
    """I68: the rest of a large one is one small part, not the whole again."""
    store, log = open_store(s3_uri), tmp_path / "the.log"
    grow(log, bytes(8 * MIB))
    shipper = Shipper(store, KEY, log, 0.02)
    shipper.start()
    until(lambda: shipper.shipped)
    assert shipper.finish(rest=b"THE END\n")
    assert s3.uploaded(store.uri_of(KEY)) < 9 * MIB


def test_the_guest_adds_to_a_log_in_the_store_what_it_lacks(tmp_path: Path, store: Store) -> None:
    """I68: never the whole again, of which the beginning may have been freed here."""
    log = tmp_path / "the.log"
    whole = os.urandom(6 * MIB)
    store.put(KEY, whole)
    grow(log, bytes(len(whole)) + b"more" * 1000)
    guest = object.__new__(_Guest)
    guest.key, guest.log = KEY, log
    guest._ship(store)
    assert content(store) == whole + b"more" * 1000


def test_a_rest_that_no_file_can_hold_is_given_up_and_not_waited_for(
    remote: Store, tmp_path: Path
) -> None:
    """I68: where every write is refused, also to a file in memory."""
    log = tmp_path / "the.log"
    log.write_bytes(b"all of it\n")
    shipper = Shipper(remote, KEY, log, 60)
    shipper.start()
    until(lambda: shipper.shipped)
    with files_of_at_most(0):
        assert shipper.finish(last=2, rest=b"THE END\n")
    assert content(remote) == b"all of it\n"
