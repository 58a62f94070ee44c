"""ARTIFACTS_DIR as a stage may leave it: links, what is no file, and the folder itself replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim.store import open_store
from tests.stages import PREFIX, Table, publish, sha256


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """A table without stages, and a directory."""
    return Table(tmp_path, open_store(str(tmp_path / "a store")))


def failed(table: Table, script: str, stage: str = "backtest", **keys: object) -> str:
    """Run a stage whose contract is broken; return its receipt's error, which it has said."""
    table.stage(stage, f'cd "$ARTIFACTS_DIR"; echo x > {stage}.txt; {script}', **keys)

    done = table.run("stage", stage)

    assert done.returncode == 65, done.stderr
    (receipt,) = table.receipts(stage)
    assert (receipt["state"], receipt["outcome"], receipt["code"]) == ("closed", "failed", 65)
    assert receipt["error"] in done.stderr
    assert table.commit(stage) is None
    assert f"{PREFIX}{stage}.txt" not in table.contents()
    return str(receipt["error"])


LINKS = {
    "last": "ln -s model last",
    "absolute": 'ln -s "$PWD/model" absolute',
    "chain": "ln -s model one; ln -s one two; ln -s two chain",
    "a/b/deep": "mkdir -p a/b; ln -s ../../model a/b/deep",
    "again": "ln -s ../artifacts/model again",
    "hard": "ln model hard",
}
WRONG = {
    "ln -s /etc/hostname link": "'link' is a link to '/etc/hostname', outside of ARTIFACTS_DIR",
    "ln -s ../../pipeline.toml dots": "pipeline.toml', outside of ARTIFACTS_DIR",
    "ln -s / up; ln -s up/etc/hostname over": "'over' is a link to '/etc/hostname', outside",
    "ln -s no none": "'none' is a link that leads nowhere (No such file or directory)",
    "ln -s one two; ln -s two one": "'two' is a link that leads nowhere (Too many levels",
    "mkdir d; ln -s d folder": "'folder' is a link to a folder",
    "mkfifo pipe": "'pipe' is a named pipe",
    "ln -s pipe thing": "'thing' is a link to no plain file",
}


def test_a_link_to_a_file_inside_is_published_as_that_file(local: Table) -> None:
    """I43: relative, absolute, over other links, out and in again, and a hard link."""
    script = "; ".join(['cd "$ARTIFACTS_DIR"', "echo the model > model", *LINKS.values()])
    local.stage("backtest", script, produces=[*LINKS])

    done = local.run("stage", "backtest")

    assert done.returncode == 0, done.stderr
    made = local.commit("backtest")
    assert made
    assert made.artifacts.keys() == {*LINKS, "model", "one", "two"}
    for path in LINKS:
        assert made.artifacts[path].sha256 == sha256(b"the model\n")
        assert local.store.digest(PREFIX + path) == sha256(b"the model\n")


def test_what_cannot_be_published_is_named_and_all_is_kept(local: Table) -> None:
    """I43: links that lead out, nowhere, in a circle or to what is no file, and a pipe."""
    error = failed(local, "; ".join(WRONG))

    for said in WRONG.values():
        assert said in error
    (kept,) = local.kept("backtest")
    assert (kept / "backtest.txt").read_text() == "x\n"
    assert local.receipts("backtest")[0]["kept"] == str(kept)


def test_all_that_cannot_be_published_is_named_at_once(local: Table) -> None:
    """I43: links, pipes, names and lacking files in one message, and no more of them than it has
    room for.
    """
    script = "ln -s / out; mkfifo pipe; touch .shim-x; mkdir d; ln -s no d/where"

    error = failed(local, script, produces=["backtest.txt", "report.md"])

    for name in ("'out'", "'pipe'", "'.shim-x'", "'d/where'", "exited 0 without report.md"):
        assert name in error
    many = failed(local, "for i in $(seq 30); do ln -s / link-$i; done", stage="other")
    assert many.count("link-") == 10
    assert "20 more" in many


@pytest.mark.parametrize(
    "script",
    [
        'mv "$ARTIFACTS_DIR" "$HOME/out"; ln -s "$HOME/out" "$ARTIFACTS_DIR"',
        'rm -r "$ARTIFACTS_DIR"; ln -s "$HOME" "$ARTIFACTS_DIR"',
        'rm -r "$ARTIFACTS_DIR"; echo x > "$ARTIFACTS_DIR"',
        'd=$(dirname "$ARTIFACTS_DIR"); mv "$d" "$HOME/out"; ln -s "$HOME/out" "$d"',
    ],
)
def test_a_folder_that_is_replaced_is_refused_and_never_followed(local: Table, script: str) -> None:
    """I69: ARTIFACTS_DIR, or the folder around it, is a link now, or a file."""
    home = local.folder / "home"
    home.mkdir()
    (home / "backtest.txt").write_text("somebody's\n")
    local.stage("backtest", f'cd "$ARTIFACTS_DIR"; echo x > backtest.txt; {script}')

    done = local.run("stage", "backtest", HOME=str(home))

    assert done.returncode == 65, done.stderr
    assert "in the place of ARTIFACTS_DIR" in done.stderr
    assert local.receipts("backtest")[0]["code"] == 65
    assert local.commit("backtest") is None
    assert not [key for key in local.contents() if key.endswith(".txt")]
    assert (home / "backtest.txt").read_text() == "somebody's\n"
    if (home / "out").exists():
        assert [path.read_text() for path in (home / "out").rglob("backtest.txt")] == ["x\n"]


def test_a_folder_that_is_made_anew_is_the_stages(local: Table) -> None:
    """I69: a stage that empties its folder first has done nothing wrong."""
    local.stage("backtest", 'rm -r "$ARTIFACTS_DIR"; mkdir "$ARTIFACTS_DIR"; '
                'echo x > "$ARTIFACTS_DIR/backtest.txt"')  # fmt: skip

    assert local.run("stage", "backtest").returncode == 0
    assert local.commit("backtest")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("rm b.txt; mkdir b.txt; echo y > b.txt/b", "'b.txt/b' lies under b.txt, which is a file"),
        ("rm b.txt; mkdir b.txt", "parity removed b.txt, which belongs to backtest"),
        ("rm b.txt", "parity removed b.txt, which belongs to backtest"),
        ("rm b.txt; ln -s /etc/hostname b.txt", "'b.txt' is a link to '/etc/hostname'"),
        ("echo y > b.txt", "parity changed b.txt, which belongs to backtest"),
        ("mkdir more.txt; echo y > more.txt/b", "lies under more.txt, which is a file of backtest"),
        ("echo y > deep", "'deep' is in the way of deep/er, which belongs to backtest"),
    ],
)
def test_what_a_stage_does_to_a_file_of_another_breaks_its_contract(
    local: Table, script: str, said: str
) -> None:
    """I65: with 65, and nothing of it is published."""
    local.stage("backtest", produces=["b.txt"])
    publish(local.store, "backtest", "b.txt", "more.txt", "deep/er")

    assert said in failed(local, script, "parity", needs=["backtest"], requires=["b.txt"])
    assert local.commit("backtest")
