"""What a stage made on an instance that fails it: beside the receipt, for the disk dies with it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from shim.store import Store, open_store
from tests.children import PATIENCE, alive, until
from tests.lab import S3Lab
from tests.stages import PREFIX, WAIT_FOR_GO, Table

ON_INSTANCE = {"SPOT_LAUNCH": "a-launch"}
WRITES = 'cd "$ARTIFACTS_DIR"; mkdir sub; echo half > half.txt; echo "$MORE" > sub/more.txt'


@pytest.fixture
def table(tmp_path: Path, store: Store) -> Table:
    """A table without stages, and an empty store of each kind."""
    return Table(tmp_path, store)


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """The same with a directory."""
    return Table(tmp_path, open_store(str(tmp_path / "a store")))


def there(table: Table) -> dict[str, str]:
    """Return what is kept in the store, by its path after the stage's folder."""
    folder = f"{PREFIX}_stages/backtest/"
    keys = [found.key for found in table.store.list(folder) if ".failed/" in found.key]
    found = {key.removeprefix(folder): table.store.read(key) for key in keys}
    return {path: body[0].decode() for path, body in found.items() if body}


def test_from_an_instance_it_goes_into_the_store(table: Table) -> None:
    """I43: the newest attempt's alone; status and the next commit do not mind it."""
    table.stage("backtest", f"{WRITES}; cp half.txt backtest.txt; exit $CODE")

    for more in ("1", "22"):
        done = table.run("stage", "backtest", MORE=more, CODE="3", **ON_INSTANCE)
        assert done.returncode == 3, done.stderr

    # Both may be of one second, and then their ids tell no order.
    (newest,) = [one for one in table.receipts("backtest") if one["attempt"] in done.stderr]
    mine = f"{newest['attempt']}.failed/"
    assert there(table) == {
        f"{mine}backtest.txt": "half\n",
        f"{mine}half.txt": "half\n",
        f"{mine}sub/more.txt": "22\n",
    }
    assert newest["kept"] == table.store.uri_of(f"{PREFIX}_stages/backtest/{mine}")
    assert f"backtest: its files are kept in {newest['kept']}\n" in done.stderr
    assert not list(table.folder.glob("spot_backtest*"))
    said = table.run("status", "--json")
    (row, *_) = [r for r in json.loads(said.stdout)["stages"] if r["stage"] == "backtest"]
    assert (row["state"], row["last"]["attempt"]) == ("failed", newest["attempt"])
    assert table.run("stage", "backtest", MORE="3", CODE="0", **ON_INSTANCE).returncode == 0
    found = table.commit("backtest")
    assert found
    assert [path for path in found.artifacts if "failed" in path] == []


def test_the_smallest_are_kept_and_the_others_are_named(local: Table) -> None:
    """Invariants 11 and 13: as many as keep_failed has room for; a link is none of them."""
    script = f"{WRITES}; ln -s half.txt link; touch .shim-odd; echo long enough > long; exit 3"
    local.stage("backtest", script, keep_failed=10)

    done = local.run("stage", "backtest", MORE="1", **ON_INSTANCE)

    assert done.returncode == 3
    assert sorted(there(local).values()) == ["1\n", "half\n"]
    (rest,) = [line for line in done.stderr.splitlines() if "not kept there" in line]
    assert "(keep_failed is 10 bytes)" in rest
    for name in ("'link'", "'.shim-odd'", "'long'"):
        assert name in rest


def test_a_front_that_is_left_alone_does_so_too(local: Table) -> None:
    """Invariant 11: its supervisor was killed."""
    local.stage("backtest", f"{WRITES}; cd $OLDPWD; {WAIT_FOR_GO}")
    process = local.start("stage", "backtest", MORE="1", **ON_INSTANCE)
    try:
        assert process.stdout
        until(lambda: "begun" in str(process.stdout and process.stdout.readline()))
        (receipt,) = local.receipts("backtest")
        os.kill(receipt["pid"], signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        until(lambda: not alive(receipt["pid"]))
    finally:
        (local.folder / "go").touch()

    (closed,) = local.receipts("backtest")
    assert (closed["outcome"], sorted(there(local).values())) == ("lost", ["1\n", "half\n"])
    assert closed["kept"].endswith(f"{closed['attempt']}.failed/")


def test_an_instance_that_is_taken_back_has_no_time_for_it(local: Table) -> None:
    """Invariant 13: that is said; CHECKPOINT_DIR is for it."""
    notice = local.folder / "notice"
    local.stage("backtest", f"{WRITES}; touch '{notice}'; exit 3")

    done = local.run("stage", "backtest", MORE="1", SPOT_RECLAIM=str(notice), **ON_INSTANCE)

    assert done.returncode == 3
    assert there(local) == {}
    assert "its 2 files (7 bytes) go with the instance" in done.stderr


def test_a_store_that_refuses_them_decides_nothing(
    tmp_path: Path, remote: Store, s3: S3Lab
) -> None:
    """Invariants 6 and 11: the code is the stage's, the reason is said, the files stay here."""
    table = Table(tmp_path, remote)
    table.stage("backtest", f"{WRITES}; exit 3")
    s3.fail("PUT", ".failed/", "403 AccessDenied", 100)

    done = table.run("stage", "backtest", MORE="1", **ON_INSTANCE)

    assert done.returncode == 3
    assert "not kept there (" in done.stderr
    (kept,) = table.kept("backtest")
    assert table.receipts("backtest")[0]["kept"] == str(kept)
