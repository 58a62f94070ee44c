"""A publication that fails is taken back, and what cannot be is named until the next attempt."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from shim.store import Store, open_store
from tests.children import PATIENCE, alive, until
from tests.lab import S3Lab
from tests.stages import PREFIX, Table, publish
from tests.test_kill import HOLD

# Publishes the files that are named in `names`, in the order of their names.
WRITES = 'for n in $(cat names); do echo $n > "$ARTIFACTS_DIR/$n"; done'


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """A stage that makes the files that a test names, and a directory."""
    return writing(Table(tmp_path, open_store(str(tmp_path / "a store"))))


@pytest.fixture
def remote_table(tmp_path: Path, remote: Store) -> Table:
    """The same with S3."""
    return writing(Table(tmp_path, remote))


def writing(table: Table) -> Table:
    """Add the stage."""
    table.stage("backtest", WRITES, produces=[])
    return table


def run(table: Table, names: str, code: int) -> str:
    """Run the stage and return what it said."""
    (table.folder / "names").write_text(names)
    done = table.run("stage", "backtest")
    assert done.returncode == code, done.stderr
    return done.stderr


def published(table: Table) -> list[str]:
    """Return what lies under the run prefix beside the records."""
    inside = [found.key.removeprefix(PREFIX) for found in table.store.list(PREFIX)]
    return [path for path in inside if not path.startswith("_stages/")]


def block(table: Table, name: str) -> None:
    """Let a folder lie where a file is to be put."""
    inside = Path(table.store.uri) / PREFIX / name / "in the way"
    inside.parent.mkdir(parents=True)
    inside.touch()


def test_what_a_failed_publication_put_is_taken_back(local: Table) -> None:
    """I65: the next commit has no strangers beside it; the receipt names nothing."""
    block(local, "c")

    run(local, "a b c", 73)

    assert published(local) == ["c/in the way"]
    (receipt,) = local.receipts("backtest")
    assert (receipt["outcome"], receipt["code"]) == ("failed", 73)
    assert not {"left", "publishing"} & receipt.keys()


def test_what_the_commit_before_lists_stays_if_it_is_the_same(local: Table) -> None:
    """I65: other bytes in its place go, for nobody must take them for the file that it lists."""
    run(local, "a", 0)
    block(local, "c")

    run(local, "a b c", 73)

    assert published(local) == ["a", "c/in the way"]
    assert local.commit("backtest"), "it still verifies"
    local.path.write_text(local.path.read_text().replace("echo $n", "echo other $n"))
    run(local, "a b c", 73)
    assert published(local) == ["c/in the way"]
    run(local, "d", 0)
    assert published(local) == ["c/in the way", "d"]


def test_what_cannot_be_taken_back_is_named_until_the_next_attempt(
    remote_table: Table, s3: S3Lab
) -> None:
    """I65: `left` in the receipt; the next attempt takes it back before its command runs."""
    s3.fail("PUT", f"{PREFIX}c", "403 AccessDenied", 100)
    s3.fail("DELETE", f"{PREFIX}a", "403 AccessDenied", 100)

    run(remote_table, "a b c", 77)

    (receipt,) = remote_table.receipts("backtest")
    assert receipt["left"] == ["a", "b", "c"]
    assert published(remote_table) == ["a", "b"]
    s3.heal()
    said = run(remote_table, "d", 0)
    assert "took back what an earlier attempt published and did not commit: a, b" in said
    assert published(remote_table) == ["d"]
    assert not any({"left", "publishing"} & r.keys() for r in remote_table.receipts("backtest"))


@pytest.mark.parametrize("victim", ["supervisor", "both"])
def test_the_next_attempt_takes_back_what_a_killed_one_put(local: Table, victim: str) -> None:
    """I65: between a put and the commit nobody is left who could; another's file is not touched."""
    process, receipt = held(local, "c", "a b c")
    assert receipt["publishing"].keys() == {"a", "b", "c"}
    if victim == "both":  # held first, so that it does not see the other's end
        os.kill(process.pid, signal.SIGSTOP)
    os.kill(receipt["pid"], signal.SIGKILL)
    until(lambda: not alive(receipt["pid"]))
    if victim == "both":
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert published(local) == ["a", "b"]
    local.store.put(f"{PREFIX}b", b"by hand")

    run(local, "d", 0)

    assert published(local) == ["b", "d"]
    lost, committed = sorted(local.receipts("backtest"), key=lambda r: str(r["outcome"]))[::-1]
    where = lost["artifacts_dir"] if victim == "both" else lost["kept"]
    assert (Path(where) / "a").read_text() == "a\n"
    assert not {"artifacts_dir", "publishing", "left", "kept"} & committed.keys()
    assert local.store.read(f"{PREFIX}b")[0] == b"by hand"  # type: ignore[index]  # it is there


def test_what_another_stage_has_committed_meanwhile_is_not_touched(local: Table) -> None:
    """I65: also where its bytes are those that the killed attempt put."""
    process, receipt = held(local, "c", "a b c")
    os.kill(receipt["pid"], signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    local.stage("parity", produces=["a"])
    publish(local.store, "parity", "a", body=b"a\n")

    run(local, "d", 0)

    assert published(local) == ["a", "d"]
    assert local.commit("parity")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Path.unlink, "the artifact 'b' cannot be read (No such file or directory)"),
        (lambda file: file.write_text("more than before"), "b changed while it was published"),
        (lambda file: file.write_text(""), "b changed while it was published"),
        (lambda file: (file.unlink(), file.mkdir()), "the artifact 'b' cannot be read"),
        (lambda file: (file.unlink(), file.symlink_to("/etc/hostname")), "b changed while"),
    ],
)
def test_a_file_that_changes_or_is_gone_when_it_is_published_breaks_the_contract(
    local: Table, change: Any, said: str
) -> None:
    """I65: 65 and not 73, what was put is taken back, what is left is kept."""
    broken(local, change, said)


def test_the_same_holds_in_s3(remote_table: Table) -> None:
    """I65: which asks for a file's size first."""
    broken(remote_table, Path.unlink, "the artifact 'b' cannot be read")


def broken(table: Table, change: Any, said: str) -> None:
    """Change a file after it was read and before it is put, and look at the end."""
    process, _ = held(table, "a", "a b")
    (file,) = table.folder.glob("spot_backtest-backtest-*/artifacts/b")
    change(file)

    (table.folder / "go-on").touch()
    out, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 65, out
    assert said in out
    assert published(table) == []
    (receipt,) = table.receipts("backtest")
    assert (receipt["state"], receipt["code"]) == ("closed", 65)
    assert (Path(receipt["kept"]) / "a").read_text() == "a\n"
    assert "backtest" in receipt["log"]


def held(table: Table, before: str, names: str) -> tuple[Any, dict[str, Any]]:
    """Start the stage; return it and its receipt when it is about to put a file."""
    (table.folder / "names").write_text(names)
    patch = HOLD.format(uri=table.store.uri, before=f"{PREFIX}{before}", after="\0")
    process = table.start("stage", "backtest", patch=patch)
    until((table.folder / "held").exists)
    (receipt,) = table.receipts("backtest")
    return process, receipt
