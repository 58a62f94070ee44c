"""Nothing that is printed changes a status: every code, stream, state and way of calling."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from shim.store import open_store
from tests.entry import ENTRY, base_env, spot_backtest
from tests.stages import Table
from tests.statuses import Case, check, every, pairwise


@pytest.mark.parametrize("case", pairwise(), ids=str)
def test_a_status_is_the_stages_whatever_becomes_of_what_is_printed(
    case: Case, tmp_path: Path
) -> None:
    """I41: stdout or stderr full, closed, or with a reader that left; each pair of values once."""
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", every(), ids=str)
def test_every_status_in_every_state(case: Case, tmp_path: Path) -> None:
    """I41: all 504 of them; STATUSES_SEED chooses the codes that have no meaning."""
    check(case, tmp_path)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table of one stage, whose commit is there."""
    made = Table(tmp_path, open_store(str(tmp_path / "store")))
    made.stage("backtest")
    return made


def test_a_run_with_all_three_descriptors_closed_runs(table: Table) -> None:
    """I41: it commits, and no file gets the number of a closed one, and with it what is printed."""
    done = spot_backtest(*table.words(), prefix=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert table.commit("backtest")
    assert {receipt["code"] for receipt in table.receipts("backtest")} == {0}
    assert table.log("backtest") == ""


def test_a_stage_has_the_default_action_for_a_pipe_without_a_reader(table: Table) -> None:
    """I41: the entry ignores SIGPIPE, and what it starts must not: `yes | head` would not end."""
    table.stage("piped", "yes | head -n 1; grep SigIgn /proc/self/status")
    done = table.entry("--only-stages=piped")
    ignored = int(done.stdout.partition("SigIgn:\t")[2].partition("\n")[0], 16)
    assert not ignored & 0x7FFFFFFF  # make's children ignore 32, which is the C library's own


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status"], 69),
        (["preflight"], 0),
        (["stage", "backtest"], 0),
        (["plan"], 73),
        (["--help"], 73),
        (["plan", "--help"], 73),
    ],
    ids=str,
)
def test_only_a_command_that_is_there_to_print_fails_when_it_cannot(
    table: Table, words: list[str], code: int
) -> None:
    """I41: status, preflight and stage have a status of their own; plan and a help do not."""
    named = words if "--help" in words else table.words(*words)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [str(ENTRY), *named], env=base_env(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == code
    assert b"internal error" not in done.stderr
