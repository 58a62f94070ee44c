"""One stage from its receipt to its commit, through the command line, on both stores."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from shim import record
from shim.store import Store, open_store
from tests.children import PATIENCE, until
from tests.stages import DATE, PREFIX, WAIT_FOR_GO, Table, publish, sha256

ONE_ATTEMPT = re.compile(
    rf"_ssm_logs/backtest/{DATE}/[^/]+-\d{{6}}Z\.log\n"
    rf"{PREFIX}_stages/_claim\.json\n"
    rf"{PREFIX}_stages/backtest\.json\n"
    rf"{PREFIX}_stages/backtest/\d{{8}}T\d{{6}}Z-[0-9a-f]{{4}}\.json\n"
    rf"{PREFIX}a/b ü\.txt\n"
    rf"{PREFIX}extra\.bin"
)


@pytest.fixture
def table(tmp_path: Path, store: Store) -> Table:
    """A table without stages, and an empty store of each kind."""
    return Table(tmp_path, store)


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """The same with a directory, for what does not depend on the store."""
    return Table(tmp_path, open_store(str(tmp_path / "a store")))


def test_a_stage_goes_from_an_open_receipt_to_a_commit(table: Table) -> None:
    """I34: nothing is visible while it runs; afterwards exactly what it made, and where from."""
    table.stage("backtest", f'{WAIT_FOR_GO}; cd "$ARTIFACTS_DIR" && pwd && mkdir a && '
                'echo b > "a/b ü.txt" && printf "\\0\\377" > extra.bin',
                produces=["a/b ü.txt"])  # fmt: skip
    running = table.start("stage", "backtest")
    try:
        (receipt,) = until(lambda: table.receipts("backtest"))
        during = table.keys()
    finally:
        (table.folder / "go").touch()
        said, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, said

    assert receipt["state"] == "open"
    assert not any(key.endswith((".txt", ".bin", "backtest.json")) for key in during)
    assert ONE_ATTEMPT.fullmatch("\n".join(table.keys()))
    made = table.commit("backtest")
    assert made
    assert {p: (a.size, a.sha256) for p, a in made.artifacts.items()} == {
        "a/b ü.txt": (2, sha256(b"b\n")),
        "extra.bin": (2, sha256(b"\0\xff")),
    }
    (closed,) = table.receipts("backtest")
    assert (closed["state"], closed["outcome"], closed["code"]) == ("closed", "committed", 0)
    for field in ("attempt", "execution_id", "run_date", "code_version", "host", "opened"):
        assert closed[field] == receipt[field]
    assert (made.attempt, made.execution_id) == (closed["attempt"], closed["execution_id"])
    private = table.log("backtest").split()[-1]
    assert table.log("backtest") == f"begun\n{private}\n"
    assert closed["log"] == table.store.uri_of(table.keys()[0])
    assert Path(private).parent.parent == table.folder
    assert table.leftovers() == []


def test_each_stage_gets_what_it_requires_and_is_built_on_it(table: Table) -> None:
    """Three stages on one date; each commit carries the digests of those below."""
    table.three()

    for name in ("backtest", "parity", "evaluator"):
        assert table.run("stage", name).returncode == 0

    below = {name: table.commit(name) for name in ("backtest", "parity")}
    last = table.commit("evaluator")
    assert last
    assert last.built_on == {name: found.digest for name, found in below.items() if found}
    assert table.store.digest(f"{PREFIX}e.txt") == sha256(b"b\nb\n")


def test_a_dry_run_writes_nothing_under_a_production_prefix(table: Table) -> None:
    """I17, invariant 8: for every stage; what lies there stays as it is, and the rest is apart."""
    table.three()
    for name in ("backtest", "parity", "evaluator"):
        publish(table.store, name, f"{name[0]}.txt")
    before = table.contents()

    dry = table.entry("--dry-run")

    assert dry.returncode == 0, dry.stderr
    after = table.contents()
    assert {key: after[key] for key in before} == before
    more = {key.split(DATE)[0] for key in after.keys() - before.keys()}
    stages = ("backtest", "parity", "evaluator")
    assert more == {"backtest/.dry-run/", *(f"_ssm_logs/.dry-run/{name}/" for name in stages)}
    assert (table.folder / "runs").read_text().split() == list(stages)


def test_resume_repeats_what_no_longer_verifies_and_nothing_else(local: Table) -> None:
    """A kept stage is not run; one whose files or upstream changed is, and all is well after."""
    local.three()
    assert local.entry("--resume").returncode == 0
    assert local.entry("--resume").returncode == 0
    runs = local.folder / "runs"
    assert runs.read_text().split() == ["backtest", "parity", "evaluator"]

    local.store.put(f"{PREFIX}p.txt", b"changed")
    kept = local.entry("--resume")

    assert kept.returncode == 0, kept.stderr
    # The evaluator was built on the same bytes of parity that parity made again.
    assert runs.read_text().split()[3:] == ["parity"]
    assert all(local.commit(name) for name in ("backtest", "parity", "evaluator"))
    assert re.search(r"^backtest +kept ", kept.stderr + kept.stdout, re.M)


def test_a_stage_skipped_on_purpose_skips_only_itself(local: Table) -> None:
    """I15, I37: later stages run, on its proven commit."""
    local.three()
    assert local.entry().returncode == 0

    again = local.entry("--skip-stages", "parity")

    assert again.returncode == 0, again.stderr
    assert (local.folder / "runs").read_text().split()[3:] == ["backtest", "evaluator"]


def test_a_skipped_stage_without_a_commit_stops_the_run_before_any_work(local: Table) -> None:
    """I19, I37: with 69 from preflight, every reason at once, nothing written."""
    local.three()

    refused = local.entry("--only-stages", "evaluator")

    assert refused.returncode == 69
    for need in ("backtest", "parity"):
        assert f"evaluator needs {need}, and {need} has no commit" in refused.stderr
    assert local.keys() == []


def test_artifacts_that_are_trusted_are_named_in_the_commit(local: Table) -> None:
    """--trust-existing: nothing was verified, and that is said and recorded."""
    local.three()
    local.store.put(f"{PREFIX}b.txt", b"by hand\n")
    assert local.run("stage", "parity").returncode == 69

    done = local.run("stage", "parity", "--trust-existing")

    assert done.returncode == 0, done.stderr
    assert "backtest has no commit; its artifacts are trusted (--trust-existing)" in done.stderr
    made = local.commit("parity")
    assert made
    assert made.built_on == {"backtest": None}
    outcomes = {(receipt["outcome"], receipt["code"]) for receipt in local.receipts("parity")}
    assert outcomes == {("failed", 69), ("committed", 0)}


@pytest.mark.parametrize("dry", [False, True])
def test_the_command_gets_the_run_as_data(local: Table, dry: bool) -> None:
    """I01: date, stage, execution and places; DRY_RUN only in a dry run, whatever was set."""
    script = 'env > seen; : > "$ARTIFACTS_DIR/backtest.txt"'
    local.stage("backtest", script)
    words = ["stage", "backtest", "--dry-run" if dry else "--no-dry-run"]

    assert local.run(*words, EXECUTION_ID="nightly-1", DRY_RUN="0", STAGE="x").returncode == 0

    seen = dict(line.split("=", 1) for line in (local.folder / "seen").read_text().splitlines())
    assert (seen["RUN_DATE"], seen["STAGE"], seen["EXECUTION_ID"]) == (
        DATE,
        "backtest",
        "nightly-1",
    )
    prefix = f"backtest/.dry-run/{DATE}" if dry else f"backtest/{DATE}"
    assert seen["ARTIFACTS_URI"] == local.store.uri_of(prefix)
    assert Path(seen["ARTIFACTS_DIR"]).is_absolute()
    assert seen.get("DRY_RUN") == ("1" if dry else None)


def test_what_was_injected_wins_over_the_env_file(local: Table) -> None:
    """I25: the file fills gaps; it cannot move the run, whatever it says."""
    local.head = 'env_file = ".env"'
    local.stage("backtest", 'env > seen; : > "$ARTIFACTS_DIR/backtest.txt"')
    (local.folder / ".env").write_text(
        "RUN_DATE=1999-01-01\nexport GIVEN=file\nGAP='from $HOME'\nDRY_RUN=1\nSTAGE=x\n"
        "ARTIFACTS_DIR=/nowhere\nARTIFACTS_URI=s3://elsewhere\nEXECUTION_ID=x\n"
    )

    assert local.run("stage", "backtest", GIVEN="injected").returncode == 0

    seen = dict(line.split("=", 1) for line in (local.folder / "seen").read_text().splitlines())
    assert (seen["RUN_DATE"], seen["GIVEN"], seen["GAP"]) == (DATE, "injected", "from $HOME")
    assert seen["STAGE"] == "backtest"
    assert "DRY_RUN" not in seen
    assert "x" not in (seen["EXECUTION_ID"], seen["ARTIFACTS_DIR"])
    assert local.commit("backtest")


def test_secrets_are_masked_in_the_shipped_log_and_on_the_console(local: Table) -> None:
    """Those of the environment and those of the env_file."""
    local.head = 'env_file = ".env"'
    (local.folder / ".env").write_text("DB_PASSWORD=swordfish\n")
    local.stage("backtest", 'echo "$API_TOKEN and $DB_PASSWORD"; : > "$ARTIFACTS_DIR/backtest.txt"')

    done = local.run("stage", "backtest", API_TOKEN="hunter2-hunter2")

    assert done.stdout == local.log("backtest") == "*** and ***\n"


def test_output_is_shown_as_it_is_written(local: Table) -> None:
    """I20: a Python stage's print is there while it runs, although its stdout is no terminal."""
    script = "import pathlib\nprint('at once')\nwhile not pathlib.Path('go').exists(): pass"
    local.stage("backtest", command=[sys.executable, "-c", script], produces=[])
    running = local.start("stage", "backtest")
    try:
        assert running.stdout
        said = [running.stdout.readline() for _ in range(3)]
    finally:
        (local.folder / "go").touch()
        running.communicate(timeout=PATIENCE)

    assert "attempt" in said[1]  # after the names of what is masked: the lab's credentials
    assert (said[2], running.returncode) == ("at once\n", 0)


def test_a_second_attempt_is_refused_while_the_first_one_runs(table: Table) -> None:
    """I31, I75: with 75, told who runs it, shown as busy; the first goes on to its commit."""
    table.stage("backtest", f'{WAIT_FOR_GO}; echo x > "$ARTIFACTS_DIR/backtest.txt"')
    running = table.start("stage", "backtest", EXECUTION_ID="first")
    try:
        until(lambda: table.receipts("backtest"))
        report = table.folder / "report"
        words = ("stage", "backtest", "--report", str(report))
        second = table.run(*words, EXECUTION_ID="second")
    finally:
        (table.folder / "go").touch()
        said, _ = running.communicate(timeout=PATIENCE)

    assert second.returncode == 75
    assert f"backtest at {DATE} is run by execution first on {os.uname().nodename}" in second.stderr
    assert re.fullmatch(r"busy\n\d+\n-\n", report.read_text())
    assert len(table.receipts("backtest")) == 1
    assert running.returncode == 0, said
    assert table.commit("backtest")


def test_a_superseded_attempt_ends_its_command_and_publishes_nothing(table: Table) -> None:
    """Invariant 3: its heartbeat finds that another attempt has closed it; it leaves with 75."""
    script = f'trap "echo told; exit 0" TERM; echo x > "$ARTIFACTS_DIR/a"; {WAIT_FOR_GO}'
    table.stage("backtest", script, produces=["a"])
    patch = "from shim import record; record.HEARTBEAT = 0.1"
    running = table.start("stage", "backtest", patch=patch)
    try:
        (receipt,) = until(lambda: table.receipts("backtest"))
        assert running.stdout
        until(lambda: "begun" in str(running.stdout and running.stdout.readline()))
        until(lambda: record.close_left(table.store, PREFIX, receipt, "t"))
        said, _ = running.communicate(timeout=PATIENCE)
    finally:
        (table.folder / "go").touch()
        running.wait(30)

    assert running.returncode == 75, said
    assert "closed as lost by another attempt" in said
    assert table.commit("backtest") is None
    assert f"{PREFIX}a" not in table.keys()  # noqa: SIM118  a list
    assert table.receipts("backtest")[0]["outcome"] == "lost"
