"""The entry's bash and the shim's Python take nothing from the environment that is not theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shim.store import open_store
from tests.entry import ENTRY, ROOT, base_env, spot_backtest
from tests.lab.patches import patches
from tests.stages import DATE, PREFIX, Table

LATE = "2020-01-01"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table of one stage, a bash script that publishes its environment."""
    made = Table(tmp_path, open_store(str(tmp_path / "store")))
    made.stage("backtest", command=["bash", "-c", 'env -0 >"$ARTIFACTS_DIR/env"'], produces=["env"])
    return made


def run(table: Table, *command: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run what starts the entry, with the run date in a variable."""
    return subprocess.run(
        [*command, "--pipeline", str(table.path), "--store", table.store.uri],
        cwd=table.folder,
        env={**base_env(TMPDIR=str(table.folder)), "RUN_DATE": DATE, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def published(table: Table) -> dict[str, str]:
    """Return what the stage has got."""
    body = table.store.read(f"{PREFIX}env")
    assert body
    pairs = [pair.partition("=") for pair in body[0].decode().split("\0")]
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("entry", [ENTRY, ROOT / "infrastructure/spot_backtest.sh"], ids=str)
@pytest.mark.parametrize("how", ["export", "readonly", "declare -rx", "exec() { exit 9; }; export"])
def test_a_file_that_bash_reads_first_moves_no_date(table: Table, how: str, entry: Path) -> None:
    """I70: BASH_ENV that sets RUN_DATE, in the entry and in a stage that is a bash script."""
    start_up = table.folder / "start up"
    start_up.write_text(f"{how} RUN_DATE={LATE}\nexport SKIP_STAGES=backtest\n")
    done = run(table, "bash", str(entry), BASH_ENV=str(start_up), ENV=str(start_up))
    assert done.returncode == 0, done.stderr
    assert table.commit("backtest")
    got = published(table)
    assert got["RUN_DATE"] == DATE
    assert {"BASH_ENV", "ENV", "SKIP_STAGES"}.isdisjoint(got)
    line = (
        b"backtest: the command does not get BASH_ENV and ENV: the file could change the run date"
    )
    assert done.stderr.count(line) == 1


def test_the_tables_own_file_cannot_name_one_either(table: Table) -> None:
    """I70: env_file may set BASH_ENV; what it names would run before the stage's first line."""
    (table.folder / "late").write_text(f"RUN_DATE={LATE}\n")
    (table.folder / "settings").write_text(f"BASH_ENV={table.folder}/late\nOTHER=1\n")
    table.head = 'env_file = "settings"'
    table.stage("parity")
    assert run(table, str(ENTRY)).returncode == 0
    assert (published(table)["RUN_DATE"], published(table)["OTHER"]) == (DATE, "1")


def test_capture_gives_its_command_no_such_file(tmp_path: Path) -> None:
    """I70: its run date is the one that the command sees."""
    (tmp_path / "late").write_text(f"RUN_DATE={LATE}\n")
    words = ["capture", "--slug=s", f"--log={tmp_path}/log", "--date", DATE, "--"]
    env = {"BASH_ENV": str(tmp_path / "late")}
    done = spot_backtest(*words, "bash", "-c", "echo $RUN_DATE", env=env)
    assert (done.code, done.out) == (0, f"{DATE}\n")


@pytest.mark.parametrize(
    "env",
    [
        {"SHELLOPTS": "errexit:nounset:noglob:noclobber:posix"},
        {"BASHOPTS": "failglob:nocasematch:extdebug"},
        {"POSIXLY_CORRECT": "y"},
        {"FUNCNEST": "1", "BASH_COMPAT": "3.2", "EXECIGNORE": "*python*", "GLOBIGNORE": "*"},
        {"IFS": "/", "CDPATH": "/tmp", "PS4": "$(touch pwned)", "root": "/x", "stage": "s"},
        {f"BASH_FUNC_{name}%%": "() { exit 9; }" for name in ("printf", "exec", "read", "trap")},
        {f"BASH_FUNC_{name}%%": "() { exit 9; }" for name in ("unset", "readlink", "env", "set")},
    ],
    ids=lambda env: next(iter(env)),
)
def test_nothing_that_bash_inherits_changes_a_run(table: Table, env: dict[str, str]) -> None:
    """I41: options, functions and variables of bash; the stage gets its variables."""
    done = run(table, "bash", str(ENTRY), **env, OTHER="a\nb")
    assert done.returncode == 0, done.stderr
    got = published(table)  # by a bash, which has changed some of them by itself
    for name in {"OTHER", *env} - {"SHELLOPTS", "BASHOPTS", "IFS", "PS4"}:
        assert name.startswith("BASH_FUNC_") or got[name] == {**env, "OTHER": "a\nb"}[name]
    assert not (table.folder / "pwned").exists()


def test_a_limit_for_every_read_does_not_end_a_run(table: Table, tmp_path: Path) -> None:
    """I41: TMOUT ends a `read` of bash, and with it a plan that takes longer."""
    slow = patches(tmp_path / "slow", {"shim.show": "import time; time.sleep(1.3)"})
    done = run(table, str(ENTRY), TMOUT="1", **slow)
    assert done.returncode == 0, done.stderr
    assert table.commit("backtest")
    assert published(table)["TMOUT"] == "1"


@pytest.mark.parametrize("entry", [ENTRY, ROOT / "infrastructure/spot_backtest.sh"], ids=str)
@pytest.mark.parametrize("shell", ["sh", "dash"])
def test_any_sh_may_be_asked_to_run_the_entry(table: Table, shell: str, entry: Path) -> None:
    """I71: `sh spot_backtest.sh` goes on in bash, with the same arguments."""
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    done = run(table, shell, str(entry))
    assert done.returncode == 0, done.stderr
    assert table.commit("backtest")


def shadows(folder: Path) -> dict[str, str]:
    """Return variables of Python that break an interpreter that listens to them."""
    for name in ("click", "boto3", "json", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit(9)")
    return {
        "PYTHONPATH": ":",
        "PYTHONINSPECT": "1",
        "PYTHONSTARTUP": "/nowhere",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "ascii",
        "PYTHONNOUSERSITE": "1",
    }


def test_no_variable_of_python_reaches_the_shim_and_all_reach_the_stage(table: Table) -> None:
    """I70: PYTHONPATH=: with a click.py in the working directory; PYTHONINSPECT; PYTHONHOME."""
    env = {**shadows(table.folder), "PYTHONHOME": "/nowhere"}
    done = run(table, str(ENTRY), **env)
    assert done.returncode == 0, done.stderr
    assert env.items() <= published(table).items()


@pytest.mark.parametrize("program", [["-m", "shim"], [str(ROOT / "shim")]], ids=str)
def test_the_shim_isolates_itself_when_it_is_started_by_hand(
    tmp_path: Path, program: list[str]
) -> None:
    """I70: as far as it can: before its first line Python has read its variables."""
    env = {**shadows(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    (tmp_path / "sitecustomize.py").unlink()
    (tmp_path / "json.py").unlink()
    words = ["capture", "--slug=s", f"--log={tmp_path}/log", "--", "sh", "-c", "echo $PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, *program, *words],
        env={"PATH": os.defpath, **env},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{env['PYTHONPATH']}\n"), done.stderr


def test_a_deleted_working_directory_is_said_in_plain_words(table: Table, tmp_path: Path) -> None:
    """I71: it is no bug of ours."""
    here = tmp_path / "here"
    here.mkdir()
    gone = ("sh", "-c", f'cd "{here}" && rmdir "{here}" && exec "$@"', "sh")
    done = spot_backtest(*table.words("plan"), prefix=gone)
    assert done.code == 69
    assert "there is no working directory any more" in done.err
    assert "change to one" in done.err
    assert "internal error" not in done.err
