"""What a stage owes: an exit status that is passed on, and every artifact new and its own."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from shim.store import Store, open_store
from tests.children import PATIENCE, until
from tests.stages import PREFIX, ROOT, Table, publish

# As a program that talks to the store itself, with whatever client: prints nothing, needs no shim.
WRITER = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); from shim.store import open_store\n"
    "for name, text in zip(sys.argv[2::2], sys.argv[3::2]):\n"
    "    open_store(os.environ['ARTIFACTS_URI']).put(name, text.encode())"
)


@pytest.fixture
def table(tmp_path: Path, store: Store) -> Table:
    """A table without stages, and an empty store of each kind."""
    return Table(tmp_path, store)


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """The same with a directory, for what does not depend on the store."""
    return Table(tmp_path, open_store(str(tmp_path / "a store")))


def refused(table: Table, stage: str = "backtest") -> str:
    """Run a stage that breaks its contract; return what it said. Nothing of it is published."""
    before = {k: v for k, v in table.contents().items() if "/_stages/" not in k and k[0] == "b"}

    done = table.run("stage", stage)

    assert done.returncode == 65, done.stderr
    after = {k: v for k, v in table.contents().items() if "/_stages/" not in k and k[0] == "b"}
    assert after == before
    (receipt,) = [one for one in table.receipts(stage) if one["attempt"] in done.stderr]
    assert (receipt["state"], receipt["outcome"], receipt["code"]) == ("closed", "failed", 65)
    assert receipt["error"] in done.stderr
    assert receipt["error"] in table.log(stage)
    assert table.leftovers() == []
    return done.stderr


def test_a_stage_that_did_nothing_is_told_what_is_missing(table: Table) -> None:
    """I21: it exited 0; every missing file is named, in the log and the receipt too."""
    table.stage("backtest", "true", produces=["report.md", "metrics.json"])

    assert "backtest exited 0 without report.md, metrics.json" in refused(table)
    assert table.commit("backtest") is None


def test_an_artifact_of_an_earlier_run_does_not_count(table: Table) -> None:
    """I22: the file is there, from before; the commit that it belongs to stays as it was."""
    table.stage("backtest", "true")
    earlier = publish(table.store, "backtest", "backtest.txt")

    assert "exited 0 without backtest.txt" in refused(table)
    assert table.commit("backtest") == earlier


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("mkdir _stages && touch _stages/backtest.json", "lies under _stages/"),
        ("touch .shim-x", "'.shim-x' holds a name that starts with .shim-"),
        ("touch 'a\nb'", "holds a character that a key cannot"),
        ("touch $(printf 'a\\377b')", "holds a character that a key cannot"),
        ("echo changed > other.txt", "backtest changed other.txt, which belongs to other"),
        ('rm -r "$ARTIFACTS_DIR"', "backtest left no ARTIFACTS_DIR"),
        ('rm -r "$(dirname "$ARTIFACTS_DIR")"', "backtest left no ARTIFACTS_DIR"),
    ],
)
def test_what_cannot_be_published_breaks_the_contract(local: Table, script: str, said: str) -> None:
    """Before anything is published, although what it produces is there."""
    local.stage("other")
    script = f'echo words; cd "$ARTIFACTS_DIR"; echo x > backtest.txt; {script}'
    local.stage("backtest", script)
    assert said in refused(local)
    assert local.log("backtest").startswith("words\n"), "also where its folder was deleted"


@pytest.mark.parametrize("how", ["required", "committed"])
def test_a_file_of_another_stage_cannot_be_changed(table: Table, how: str) -> None:
    """Neither one that was brought in, nor one that only its commit knows."""
    name = "b.txt" if how == "required" else "extra.txt"
    table.stage("backtest", produces=["b.txt"])
    table.stage("parity", f'cd "$ARTIFACTS_DIR"; echo x > parity.txt; echo x > {name}',
                needs=["backtest"], requires=["b.txt"])  # fmt: skip
    publish(table.store, "backtest", "b.txt", "extra.txt")

    assert f"parity changed {name}, which belongs to backtest" in refused(table, "parity")
    assert table.commit("backtest")


def test_a_repeated_stage_replaces_its_commit_and_all_that_it_listed(table: Table) -> None:
    """I22: a file that only the earlier one made is removed, and that is said."""
    table.stage("backtest", 'for n in $(cat names); do echo $n > "$ARTIFACTS_DIR/$n"; done',
                produces=["a"])  # fmt: skip
    for names in ("a b c", "a c"):
        (table.folder / "names").write_text(names)
        done = table.run("stage", "backtest")
        assert done.returncode == 0, done.stderr

    found = table.commit("backtest")
    assert found
    assert sorted(found.artifacts) == ["a", "c"]
    assert f"{PREFIX}b" not in table.contents()
    assert "removed b" in done.stderr
    assert len(table.receipts("backtest")) == 2


@pytest.mark.parametrize(
    ("script", "code", "outcome"),
    [
        ("exit 1", 1, "failed"),
        ("exit 194", 194, "failed"),
        ("kill -TERM $$", 143, "died of SIGTERM"),
        ("kill -KILL $$", 137, "died of SIGKILL"),
        ("sleep 60", 124, "timed out"),
        (["./not-there"], 127, "not found"),
        (["./pipeline.toml"], 126, "cannot run"),
    ],
)
def test_the_exit_code_is_the_stages_and_nothing_is_published(
    local: Table, script: str | list[str], code: int, outcome: str
) -> None:
    """I16, invariant 6: what needs it does not run, whatever it had written."""
    writes = 'echo half > "$ARTIFACTS_DIR/backtest.txt"; '
    command = ["sh", "-c", writes + script] if isinstance(script, str) else script
    timeout = "1s" if "sleep" in script else "1m"
    local.stage("backtest", command=command, timeout=timeout)
    local.stage("parity", "touch ran", needs=["backtest"], produces=[])

    done, next_stage = local.run("stage", "backtest"), local.run("stage", "parity")

    assert (done.returncode, next_stage.returncode) == (code, 69), done.stderr
    assert f"{outcome}, exit code {code}" in done.stderr
    (receipt,) = local.receipts("backtest")
    assert (receipt["state"], receipt["code"], receipt["outcome"]) == ("closed", code, outcome)
    assert not [key for key in local.keys() if key.endswith((".txt", "backtest.json"))]  # noqa: SIM118  a list
    assert not (local.folder / "ran").exists()


def test_a_failed_stage_ends_the_run(local: Table) -> None:
    """I03, I16: the entry leaves with its code, and says what was not run."""
    local.three()
    local.path.write_text(local.path.read_text().replace("echo parity >> runs", "exit 7"))

    done = local.entry()

    assert done.returncode == 7
    assert (local.folder / "runs").read_text().split() == ["backtest"]
    assert local.commit("backtest")
    assert [line.split()[:2] for line in (done.stderr + done.stdout).splitlines()[-2:]] == [
        ["parity", "failed"],
        ["evaluator", "not"],
    ]


def direct(table: Table, *names_and_texts: str) -> None:
    """Add a stage that writes to the store itself."""
    command = ["{python}", "-c", WRITER.replace("{", "{{"), str(ROOT), *names_and_texts]
    table.stage("backtest", command=command, io="direct", produces=["d.txt"])


def test_a_direct_stage_is_committed_by_what_it_wrote_to_the_store(table: Table) -> None:
    """Replacing what was there, too, also when its bytes are the same as before."""
    direct(table, "d.txt", "text")
    before = publish(table.store, "backtest", "d.txt")
    # S3 tells whole seconds: a rewrite is later than this.
    until(lambda: (table.store.now() - written(table, "d.txt")).total_seconds() >= 1)

    done = table.run("stage", "backtest")

    assert done.returncode == 0, done.stderr
    found = table.commit("backtest")
    assert found
    assert found.digest == before.digest
    assert found.attempt != before.attempt


def written(table: Table, path: str) -> datetime:
    """Return when an artifact was written."""
    found = table.store.head(PREFIX + path)
    assert found
    return found.modified


def test_a_direct_stage_cannot_pass_off_an_old_object(table: Table) -> None:
    """I22: it is there and it is not from this attempt; the commit stays."""
    direct(table, "other.txt", "x")
    publish(table.store, "backtest", "d.txt")

    done = table.run("stage", "backtest")

    assert done.returncode == 65
    assert "d.txt is older than this attempt" in done.stderr
    assert table.commit("backtest")


def test_a_direct_stage_that_wrote_nothing_is_told(table: Table) -> None:
    """I21: with the address at which it should be."""
    direct(table)

    assert f"exited 0 without {table.store.uri_of(PREFIX + 'd.txt')}" in refused(table)


def test_a_daemon_that_keeps_the_output_open_does_not_hold_the_stage(local: Table) -> None:
    """I35: the stage is over when its command is; its commit is made."""
    script = 'sleep 300 & echo $! > daemon; echo x > "$ARTIFACTS_DIR/backtest.txt"'
    local.stage("backtest", script)

    assert local.run("stage", "backtest").returncode == 0
    assert local.commit("backtest")


def test_a_file_that_is_written_while_it_is_published_breaks_the_contract(local: Table) -> None:
    """A process that is not the stage's, which would end with it, changes what the commit lists."""
    script = (
        'cd "$ARTIFACTS_DIR"; dd if=/dev/zero of=backtest.txt bs=1M count=64 2>/dev/null; '
        "echo $PWD/backtest.txt > $OLDPWD/where; until [ -s more ]; do sleep 0.01; done; rm more"
    )
    local.stage("backtest", script)
    elsewhere = (
        'until [ -s where ]; do sleep 0.01; done; file=$(cat where); echo > "${file%/*}/more"; '
        'while [ -e "$file" ] && echo more >> "$file"; do :; done'
    )
    with subprocess.Popen(
        ["sh", "-c", elsewhere], cwd=local.folder, stderr=subprocess.DEVNULL
    ) as writer:
        try:
            done = local.run("stage", "backtest")
        finally:
            writer.kill()

    assert done.returncode == 65, done.stderr
    assert "changed while it was published" in done.stderr
    assert local.commit("backtest") is None


def test_a_report_that_cannot_be_written_changes_nothing(local: Table) -> None:
    """Invariant 6: the closing table is a courtesy."""
    local.stage("backtest", "exit 3")

    assert local.run("stage", "backtest", "--report", "/nonexistent/report").returncode == 3


def test_without_a_folder_for_temporary_files_the_message_says_so(local: Table) -> None:
    """With 73, and what to set."""
    local.stage("backtest")
    patch = "import tempfile; tempfile.tempdir = '/nonexistent'"
    failed = local.start("stage", "backtest", patch=patch)
    said, _ = failed.communicate(timeout=PATIENCE)

    assert failed.returncode == 73
    assert "point TMPDIR elsewhere" in said
