"""What a failed attempt made is kept and named: here until the next one fails, up to a size."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shim.errors import PipelineError
from shim.pipeline import parse
from shim.store import open_store
from tests.children import PATIENCE, alive, until
from tests.stages import PREFIX, WAIT_FOR_GO, Table, publish

ABSENT = object()
NO_SIZES: list[object] = [True, -1, 1.5, "", "all", "10 PB", "i", "B", ["1"], {}]
WRITES = 'cd "$ARTIFACTS_DIR"; mkdir sub; echo half > half.txt; echo more > sub/more.txt'


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """A table without stages, and a directory."""
    return Table(tmp_path, open_store(str(tmp_path / "a store")))


def only(table: Table, stage: str = "backtest") -> Path:
    """Return the one folder that is kept, which the receipt of its attempt names."""
    (kept,) = table.kept(stage)
    (receipt,) = [one for one in table.receipts(stage) if one["attempt"] == kept.name]
    assert receipt["kept"] == str(kept)
    assert table.leftovers() == []
    return kept


def names(folder: Path) -> list[str]:
    """Return the files below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


@pytest.mark.parametrize(
    ("ends", "code"),
    [("exit 3", 3), ("true", 65), ("kill -KILL $$", 137), ("sleep 60", 124)],
)
def test_what_a_failed_attempt_made_is_kept_and_named(local: Table, ends: str, code: int) -> None:
    """Invariant 11, I43: after a failure, a broken contract, a signal and a timeout, quiet or not;
    for this user alone.
    """
    local.stage("backtest", f"{WRITES}; {ends}", timeout="2s")

    done = local.run("stage", "backtest", "--quiet")

    assert done.returncode == code, done.stderr
    kept = only(local)
    assert f"backtest: its files are kept in {kept}\n" in done.stderr
    assert names(kept) == ["half.txt", "sub/more.txt"]
    assert (kept / "half.txt").read_text() == "half\n"
    for folder in (kept, kept.parent, kept.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("victim", ["front", "supervisor", "told"])
def test_what_a_stopped_attempt_made_is_kept_and_named(local: Table, victim: str) -> None:
    """Invariant 11, I43: also when the supervisor was killed, and the front is what is left."""
    local.stage("backtest", f"{WRITES}; cd $OLDPWD; {WAIT_FOR_GO}")
    process = local.start("stage", "backtest")
    try:
        assert process.stdout
        until(lambda: "begun" in str(process.stdout and process.stdout.readline()))
        (receipt,) = local.receipts("backtest")
        if victim == "told":
            process.terminate()
        else:
            os.kill(process.pid if victim == "front" else receipt["pid"], signal.SIGKILL)
        said, _ = process.communicate(timeout=PATIENCE)
        until(lambda: not alive(receipt["pid"]))
    finally:
        (local.folder / "go").touch()
    until(lambda: local.receipts("backtest")[0]["state"] == "closed")

    kept = only(local)
    assert f"its files are kept in {kept}" in said
    assert names(kept) == ["half.txt", "sub/more.txt"]


def test_a_failed_publication_keeps_what_was_made(local: Table) -> None:
    """I44, I65: the store is in the way with a folder, and exit 73 costs no work."""
    local.stage("backtest")
    blocked = Path(local.store.uri) / PREFIX / "backtest.txt" / "in the way"
    blocked.parent.mkdir(parents=True)
    blocked.touch()

    done = local.run("stage", "backtest")

    assert done.returncode == 73, done.stderr
    assert names(only(local)) == ["backtest.txt"]


def test_what_was_only_brought_in_is_not_kept(local: Table) -> None:
    """Invariant 11: it is in the store; a file that the stage has changed is the stage's work."""
    local.stage("backtest", produces=["b.txt"])
    publish(local.store, "backtest", "b.txt", "sub/c.txt")
    local.stage("parity", "exit 3", needs=["backtest"], requires=["b.txt"])
    local.stage("evaluator", 'echo mine > "$ARTIFACTS_DIR/b.txt"',
                needs=["backtest"], requires=["b.txt"], produces=[])  # fmt: skip

    untouched, changed = local.run("stage", "parity"), local.run("stage", "evaluator")

    assert (untouched.returncode, changed.returncode) == (3, 65)
    assert local.kept("parity") == []
    assert "kept" not in local.receipts("parity")[0]
    assert "are kept" not in untouched.stderr
    assert (only(local, "evaluator") / "b.txt").read_text() == "mine\n"


def test_the_newest_of_each_stage_is_kept(local: Table) -> None:
    """Invariant 11: of each stage of one store, whatever the date; a commit removes nothing."""
    local.stage("backtest", f"{WRITES}; cp half.txt $RUN_DATE; exit $CODE", produces=[])
    local.stage("parity", f"{WRITES}; exit 3")

    for stage, date, code in (
        ("parity", "2026-05-17", 3),
        ("backtest", "2026-05-17", 3),
        ("backtest", "2026-05-18", 3),
        ("backtest", "2026-05-18", 0),
    ):
        done = local.run("stage", stage, "--date", date, CODE=str(code))
        assert done.returncode == code, done.stderr

    (kept,) = local.kept("backtest")
    assert "2026-05-18" in names(kept)
    assert len(local.kept("parity")) == 1
    other = Table(local.folder, open_store(str(local.folder / "another")))
    other.stage("backtest", f"{WRITES}; exit 3")
    assert other.run("stage", "backtest").returncode == 3
    assert len(local.kept("backtest")) == 2


@pytest.mark.parametrize(
    ("head", "key", "kept"),
    [
        ("", {"keep_failed": False}, False),
        ('keep_failed = "0"', {}, False),
        ("keep_failed = 10", {}, False),
        ('keep_failed = "0"', {"keep_failed": "1kB"}, True),
    ],
)
def test_the_table_says_how_much_is_kept(
    local: Table, head: str, key: dict[str, object], kept: bool
) -> None:
    """Invariants 11 and 13: nothing, or up to a size; more is removed and that is said."""
    local.head = head
    local.stage("backtest", f"{WRITES}; echo 12345 > six; exit 3", **key)

    done = local.run("stage", "backtest", "--quiet")

    assert done.returncode == 3
    assert bool(local.kept("backtest")) == kept
    assert ("kept" in local.receipts("backtest")[0]) == kept
    too_much = "backtest: its files (16 bytes) are removed, for keep_failed is 10 bytes; raise it"
    assert (too_much in done.stderr) == ("10" in head)
    assert local.leftovers() == []


@pytest.mark.parametrize(
    ("given", "size"),
    [
        *((0, 0), ("0", 0), (False, 0), (512, 512), ("10GB", 10**10), ("1.5 MB", 1_500_000)),
        *(("2GiB", 2 << 30), ("7b", 7), ("3k", 3000), (ABSENT, 10**10)),
        *((wrong, None) for wrong in NO_SIZES),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(given: object, size: int | None) -> None:
    """Invariant 10: keep_failed of a stage, else of the table, else 10 GB; anything else is 78."""
    row = {"name": "backtest", "command": ["x"], "timeout": 1}
    key = {} if given is ABSENT else {"keep_failed": given}
    for table in ({**key, "stage": [row]}, {"keep_failed": 5, "stage": [{**row, **key}]}):
        if size is None:
            with pytest.raises(
                PipelineError, match=r"^/t: keep_failed.* is .*; give it a size, as"
            ):
                parse(table, Path("/t"))
        else:
            inherited = 5 if given is ABSENT and "keep_failed" in table else size
            assert parse(table, Path("/t")).stages[0].keep_failed == inherited


@pytest.mark.parametrize("how", ["link", "open to all", "a file"])
def test_a_place_that_is_not_ours_is_not_used(local: Table, how: str) -> None:
    """I69: its name is known beforehand; then the files stay where they are, and that is named."""
    place = local.folder / f"spot_backtest-failed-{os.geteuid()}"
    (local.folder / "elsewhere").mkdir()
    if how == "link":
        place.symlink_to(local.folder / "elsewhere")
    elif how == "open to all":
        place.mkdir()
        place.chmod(0o777)
    else:
        place.touch()
    local.stage("backtest", f"{WRITES}; exit 3")

    done = local.run("stage", "backtest")

    assert done.returncode == 3
    where = Path(local.receipts("backtest")[0]["kept"])
    assert f"its files stay in {where}" in done.stderr
    assert names(where) == ["half.txt", "sub/more.txt"]
    assert list((local.folder / "elsewhere").iterdir()) == []


def test_what_is_removed_is_never_reached_over_a_link(local: Table) -> None:
    """I69: neither what links in a kept folder lead to, nor over a folder that became a link."""
    home = local.folder / "home"
    home.mkdir()
    (home / "b.txt").write_text("somebody's\n")
    local.stage("backtest", produces=["sub/b.txt"])
    publish(local.store, "backtest", "sub/b.txt")
    (home / "sub").mkdir()
    (home / "sub" / "b.txt").write_text("somebody's\n")
    script = 'cd "$ARTIFACTS_DIR"; rm -r sub; ln -s "$HOME/sub" sub; mkdir -m 0 shut; exit 3'
    local.stage("parity", script, needs=["backtest"], requires=["sub/b.txt"])

    for _ in range(2):
        assert local.run("stage", "parity", HOME=str(home)).returncode == 3

    assert (home / "sub" / "b.txt").read_text() == "somebody's\n"
    assert names(home) == ["b.txt", "sub/b.txt"]
    assert len(local.kept("parity")) == 1


def test_nothing_is_kept_of_what_did_not_begin(local: Table) -> None:
    """Invariant 11: a stage that is kept or refused, or one that made nothing, leaves nothing."""
    local.stage("backtest")
    local.stage("parity", "exit 3", needs=["backtest"])

    assert local.run("stage", "parity").returncode == 69
    assert local.run("stage", "backtest").returncode == 0
    assert local.run("stage", "backtest", "--resume").returncode == 0
    assert local.run("stage", "parity").returncode == 3

    assert not list(local.folder.glob("spot_backtest*"))
