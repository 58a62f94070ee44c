"""The command line as real children: what it imports, prints, refuses and leaves as its status."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.calls import SHIM, call, child, one_line, write_table
from tests.children import PATIENCE
from tests.entry import ENTRY, ROOT, base_env, spot_backtest

# Runs `shim plan` and tells on stderr what it imported, which sockets it made and what it started.
DRIVER = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
events = []
sys.addaudithook(lambda name, args: events.append(name))
from shim import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as left:
    print(json.dumps([left.code, sorted(sys.modules), sorted(set(events))]), file=sys.stderr)
"""
SLOW = ("boto3", "botocore", "dateutil", "dotenv", "rich", "shim.s3", "shim.stage", "shim.aws")
BROKEN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from shim import cli, plan
def build(*_):
    raise ZeroDivisionError("a bug\\nin two lines")
plan.build = build
cli.main(["plan", *sys.argv[1:]])
"""
VERSION = {"SPOT_CODE_VERSION": "abc"}
REFUSED: list[tuple[list[str], int, tuple[str, ...]]] = [
    (["plna"], 2, ("'plna' is not a command", "did you mean plan?")),
    (
        ["foo\nbar"],
        2,
        ("'foo\\nbar' is not a command", "known: asl, capture, follow, plan"),
    ),
    (
        ["plan", "--onyl-stages", "x"],
        2,
        ("'--onyl-stages' is not an option", "mean --only-stages?"),
    ),
    (["plan", "--freeze"], 2, ("'--freeze' is not an option", "did you mean --freeze-evaluator?")),
    (["plan", "--no-qiet"], 2, ("'--no-qiet' is not an option", "did you mean --no-quiet?")),
    (["plan", "-x"], 2, ("'-x' is not an option",)),
    (["--jsn"], 2, ("'--jsn' is not an option",)),
    (["plan", "a\nb\x1b[2J"], 2, ("unexpected extra argument (a\\nb\\x1b[2J)",)),
    (["plan", "--date"], 2, ("option '--date' requires an argument",)),
    (["plan", "--dry-run=1"], 2, ("option '--dry-run' does not take a value",)),
    (
        ["plan", "--on", "hree"],
        2,
        ("'hree' is not one of 'here', 'spot' (set by --on)", "known: here, spot"),
    ),
    (["plan", "--timeout=1h30"], 2, ("'1h30' is not a duration (set by --timeout)", "45m or 2h")),
    (
        ["plan", "--parity-tolerance=x"],
        2,
        ("'x' is not a valid float (set by --parity-tolerance)",),
    ),
    (["plan", "--skip-stages=parity,bactest"], 2, ("'bactest' is not a stage", "mean backtest?")),
    (["plan", "--pipeline=/none"], 78, ("cannot read the table /none", "--pipeline")),
    (["stage"], 2, ("'NAME' is missing",)),
    (["stage", "bactest"], 2, ("'bactest' is not a stage", "did you mean backtest?")),
    (["preflight", "--plan=/none"], 2, ("'/none'", "(set by --plan)")),
    (["capture", "--slug=s", "--log=l"], 2, ("is missing",)),
    (["capture", "--slug=../s", "--log=l", "--", "true"], 2, ("'../s' is not a slug",)),
    (["capture", "--slug=s", "--log=l", "--date=x", "--", "true"], 2, ("(set by --date)",)),
]


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `shim` is the command line."""
    function = f'shim() {{ {shlex.quote(sys.executable)} {shlex.quote(str(SHIM))} "$@"; }}'
    return subprocess.run(
        ["bash", "-c", f"{function}\n{script}"],
        env=base_env(**VERSION),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_planning_imports_nothing_slow_and_opens_no_socket() -> None:
    """Pure, and fast for it: no AWS, no relative dates, no files of variables."""
    done = child("plan", "--json", program=("-c", DRIVER), env=VERSION)
    code, modules, events = json.loads(done.err)
    assert code == 0
    assert set(SLOW).isdisjoint(modules)
    assert not [name for name in events if name.startswith(("socket.", "subprocess.", "os.exec"))]


def test_the_check_above_sees_what_is_imported_and_started() -> None:
    """A relative date imports its library; a version that is not given starts git."""
    done = child("plan", "--date=last-friday", program=("-c", DRIVER), env={"PATH": os.defpath})
    _, modules, events = json.loads(done.err)
    assert "dateutil" in modules
    assert "subprocess.Popen" in events


@pytest.mark.parametrize(("words", "code", "said"), REFUSED, ids=[" ".join(c[0]) for c in REFUSED])
def test_a_mistake_is_one_line_that_names_the_nearest(
    words: list[str], code: int, said: tuple[str, ...]
) -> None:
    """What is wrong, the value, where it was set; what to do."""
    message = one_line(call(*words), code)
    for part in said:
        assert part in message


def test_a_mistake_of_a_real_child_is_one_line_too() -> None:
    """The same through the interpreter and through the entry."""
    for done in (child("plan", "--onyl"), spot_backtest("--onyl", "x")):
        message = one_line(done, 2)
        assert message.startswith("spot_backtest: '--onyl' is not an option; did you mean --on")


def test_a_switchs_variable_that_says_nothing_is_refused() -> None:
    """DRY_RUN=maybe must not run for real."""
    message = one_line(call("plan", env={"DRY_RUN": "maybe"}), 2)
    assert message == "spot_backtest: 'maybe' is not a valid boolean (set by DRY_RUN); use 1 or 0\n"


def test_help_works_with_a_broken_table(tmp_path: Path) -> None:
    """The help says what is wrong with it; everything else is 78."""
    env = {"SPOT_PIPELINE": str(write_table(tmp_path, "stage = ["))}
    for done in (
        child("plan", "--help", env=env),
        child("stage", "-h", env=env),
        spot_backtest("--help", env=env),
    ):
        assert (done.code, done.err) == (0, "")
        assert "--only-stages" in done.out
        assert "The stages' own options are unknown" in done.out
        assert "not valid TOML" in " ".join(done.out.split())
    assert "not valid TOML" in one_line(child("plan", env=env), 78)


def test_help_shows_every_option_its_variable_and_whose_it_is() -> None:
    """A stage's own options stand under its name."""
    text = call("plan", "--help").out
    assert "Options of stage evaluator:" in text
    for variable in ("RUN_DATE", "SKIP_STAGES", "SPOT_STORE", "FREEZE_EVALUATOR"):
        assert f"[env var: {variable}]" in " ".join(text.split())
    assert "unknown" not in text


def test_help_and_version_are_0_and_no_command_is_2() -> None:
    """Help that was asked for is no mistake."""
    assert "Usage: spot_backtest" in call("--help").out
    assert re.fullmatch(r"spot_backtest, version [0-9.]+\n", call("--version").out)
    assert (call().code, call("--help").code, call("--version").code) == (2, 0, 0)


def test_our_own_bug_is_70_in_one_line() -> None:
    """The traceback is for those who ask."""
    message = one_line(child(program=("-c", BROKEN)), 70)
    assert "internal error: ZeroDivisionError: a bug\\nin two lines; SHIM_DEBUG=1" in message


@pytest.mark.parametrize(("words", "env"), [(["--debug"], {}), ([], {"SHIM_DEBUG": "1"})])
def test_debug_shows_where_a_bug_is(words: list[str], env: dict[str, str]) -> None:
    """The line is the last one still."""
    done = child(*words, program=("-c", BROKEN), env=env)
    assert done.code == 70
    assert done.err.startswith("Traceback (most recent call last)")
    assert done.err.splitlines()[-1].startswith("spot_backtest: internal error: ZeroDivisionError")


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("shim plan >&-", 0, ""),
        ("shim plan <&- >&- 2>&-", 0, ""),
        ("shim plan --date=x >&- 2>&-", 2, ""),
        ("shim plan --date=x 2>/dev/full", 2, ""),
        ("shim plan >/dev/full", 73, "spot_backtest: cannot write to stdout"),
        ("{ shim plan; echo $? >&2; } | true", 0, "141"),
    ],
)
def test_a_closed_or_full_stream_changes_no_more_than_it_must(
    line: str, code: int, error: str
) -> None:
    """A status is never 70 for what the caller did with our streams; what was lost is said."""
    done = shell(line)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == bool(error)


def test_a_closed_stream_does_not_give_its_number_to_a_file(tmp_path: Path) -> None:
    """A program would write into whatever was opened next, a log among it."""
    log = shlex.quote(str(tmp_path / "log"))
    script = "echo seen; readlink /proc/self/fd/0 /proc/self/fd/1"
    done = shell(f"shim capture --slug=s --log={log} -- sh -c {shlex.quote(script)} <&- >&-")
    assert done.returncode == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[:2] == ["seen", "/dev/null"]


@pytest.mark.parametrize(
    "env",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
     {"PYTHONIOENCODING": "ascii"}, {}],
)  # fmt: skip
def test_unicode_passes_through_any_locale(tmp_path: Path, env: dict[str, str]) -> None:
    """A path is printed as the bytes that it is, and an error escapes what it cannot print."""
    folder = tmp_path / "été 日本"
    path = write_table(folder, 'stage = [{name="a", command=["x"], timeout=1}]')
    done = child("plan", "--pipeline", path, env=env)
    assert (done.code, done.err) == (0, "")
    assert f"table       {path}" in done.out
    assert f"store       {folder}/artifacts" in done.out
    message = one_line(child("plan", "--date=é", env=env), 2)
    assert message.isascii()
    assert "is not a run date (set by --date)" in message


def test_a_name_that_is_not_utf_8_is_shown_escaped_and_stays_itself() -> None:
    """I72: a terminal could obey a raw byte; the plan has what the environment had."""
    done = child("plan", env={"SPOT_CODE_VERSION": "\udcff"})
    assert done.code == 0
    assert r"code        \udcff" in done.out
    done = child("plan", "--json", env={"SPOT_CODE_VERSION": "\udcff"})
    assert json.loads(done.out)["code_version"] == "\udcff"


def test_an_empty_environment_is_enough(tmp_path: Path) -> None:
    """I23: SSM sets no HOME, and its working directory is not ours."""
    tmp_path.chmod(0o500)
    done = child("plan", "--json", cwd=tmp_path)
    plan = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert plan["store"] == str(ROOT / "artifacts")
    assert plan["code_version"]


def test_the_module_is_started_by_name_and_by_path(tmp_path: Path) -> None:
    """By path neither PYTHONPATH nor the working directory shadows one of its modules."""
    assert child("--version", program=("-m", "shim"), cwd=ROOT).out.startswith("spot_backtest")
    (tmp_path / "shim.py").write_text("raise SystemExit(9)")
    assert child("--version", cwd=tmp_path).code == 0


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_clocks_date_is_in_utc_in_every_zone(zone: str) -> None:
    """I01: half the world has another date."""
    before = datetime.now(UTC).date().isoformat()
    plan = json.loads(child("plan", "--json", env={"TZ": zone, **VERSION}).out)
    assert plan["run_date"] in (before, datetime.now(UTC).date().isoformat())
    assert plan["run_date_source"] == "clock"


def test_the_entry_gets_names_and_values_that_nothing_can_break() -> None:
    """NUL ends each, and the stages it runs are those that `plan` shows."""
    env = {"SPOT_STORE": "/a 'b' $(c)", "SKIP_STAGES": "parity"}
    fields = call("entry", env=env).out.split("\0")
    assert fields.pop() == ""
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    assert [value for name, value in pairs if name == "stage"] == ["backtest", "evaluator"]
    assert [value for name, value in pairs if name == "row"] == ["backtest", "parity", "evaluator"]
    assert json.loads(dict(pairs)["plan"])["store"] == "/a 'b' $(c)"
    assert ("notice", "parity is skipped: named by SKIP_STAGES") in pairs


@pytest.mark.parametrize("code", [137, 194])
def test_ssm_does_not_get_a_code_that_it_misreads(code: int, tmp_path: Path) -> None:
    """I32: it leaves as 1 with the true code printed; outside of SSM it is unchanged."""
    words = ["capture", "--slug=s", f"--log={tmp_path}/log", "--", "sh", "-c", f"exit {code}"]
    assert child(*words).code == code
    done = child(*words, env={"SSM_COMMAND_ID": "x"})
    assert done.code == 1
    assert f"spot_backtest: the exit code is {code}" in done.err


def test_every_command_that_the_entrys_header_names_exists() -> None:
    """Help is read from the header, so it must not drift."""
    header = ENTRY.read_text().partition("set -euo")[0]
    named = re.search(r"ARGS\.\.\.\]\s+(.*);\s+COMMAND --help", header.replace("#", " "))
    assert named
    names = re.split(r",\s+", named[1])
    assert len(names) > 5
    for name in names:
        assert call(name, "--help").code == 0
