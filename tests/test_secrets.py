"""I56: no log, plan, receipt or error shows a secret; their names are shown once."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from shim import launch
from shim.launch import Record
from shim.masking import masked_plan
from shim.plan import Plan
from shim.store import Store, open_store
from tests.calls import call, one_line, write_table
from tests.children import PATIENCE
from tests.entry import ROOT
from tests.lab.aws import AwsLab
from tests.launches import Spot
from tests.stages import DATE, PREFIX, Table

KEY = "poly/gon+0123"
TOKEN = "tok{en}-0123"
TABLE = """
redact = {{ allow = ["PARTITION_KEY"] }}
[[stage]]
name = "fetch"
command = ["fetch", "--password=swordfish", "-v"]
timeout = 60
[stage.options.api-token]
type = "text"
pass = "{flag}"
[stage.options.api-pin-key]
type = "int"
[stage.options.partition-key]
type = "text"
"""
OPTIONS = ("--api-token", TOKEN, "--partition-key", "customer")


@pytest.fixture
def local(tmp_path: Path) -> Table:
    """A table with a local store."""
    return Table(tmp_path, open_store(str(tmp_path / "artifacts")))


@pytest.fixture
def fetch(local: Table) -> Table:
    """A stage with a secret option, which prints its words and what else is asked for."""
    local.head = 'env_file = ".env"\nredact = { allow = ["PARTITION_KEY"] }'
    local.stage("fetch", command=["sh", "-c", 'echo "$@"; eval "$SAY"', "x"], produces=[])
    local.path.write_text(f"{local.path.read_text()}\n{TABLE.format(flag='-t').split('60')[1]}")
    return local


def table(folder: Path, flag: str = "--api-token") -> tuple[str, ...]:
    """Return the words that choose a table with a secret option."""
    return ("--pipeline", str(write_table(folder, TABLE.format(flag=flag))), "--date", DATE)


@pytest.mark.parametrize("flag", ["--api-token", "-t"])
def test_a_plan_shows_no_secret_of_a_command(tmp_path: Path, flag: str) -> None:
    """I56: as text and as JSON: an option by its name, a word of the table by its flag."""
    words = table(tmp_path, flag)
    for form in ([], ["--json"]):
        done = call("plan", *form, *words, *OPTIONS)
        assert done.code == 0
        assert "tok" not in done.out.replace("api-token", "")
        assert "swordfish" not in done.out
        assert "--password=***" in done.out
        assert "--partition-key=customer" in done.out


def test_a_plan_that_was_printed_without_its_secrets_does_not_run(tmp_path: Path) -> None:
    """I56: the stars are not taken for the value; one without secrets runs as before."""
    plan = tmp_path / "plan.json"
    plan.write_text(call("plan", "--json", *table(tmp_path), *OPTIONS).out)
    for command in (["stage", "fetch"], ["preflight"]):
        line = one_line(call(*command, "--plan", str(plan)), 2)
        assert "printed without its secrets" in line
    assert json.loads(call("plan", "--json").out)["masked"] is False


def test_the_entry_gets_the_plan_whole_and_names_what_is_masked(tmp_path: Path) -> None:
    """I56: through a pipe that nobody reads; the names are a notice, the values are not."""
    env = {"POLYGON_API_KEY": KEY, "PGPASSWORD": "pg-password", "PARTITION_KEY": "customer"}
    done = call("entry", *table(tmp_path), *OPTIONS, env=env)
    pairs = done.out.split("\0")
    plan = Plan.from_json(pairs[1])
    assert (plan.masked, f"--api-token={TOKEN}".replace("{", "{{").replace("}", "}}")) == (
        False,
        plan.stages[0].command[3],
    )
    notices = [v for n, v in zip(pairs[::2], pairs[1::2], strict=False) if n == "notice"]
    assert "masked in logs: POLYGON_API_KEY, PGPASSWORD, --password, --api-token" in notices


@pytest.mark.parametrize("flag", ["--api-token", "-t"])
def test_an_option_of_another_type_is_refused_without_its_value(tmp_path: Path, flag: str) -> None:
    """I56: by flag and by variable."""
    words = table(tmp_path, flag)
    for done in (
        call("plan", *words, "--api-pin-key", "hunter2pw"),
        call("plan", *words, env={"API_PIN_KEY": "hunter2pw"}),
    ):
        assert "'***' is not a valid integer (set by" in one_line(done, 2)


def test_an_error_shows_no_password_of_a_url(tmp_path: Path) -> None:
    """I56: a store that cannot be one is quoted without it, with --debug too."""
    words = (*table(tmp_path), "--store", "ftp://me:hunter2pw@host/x")
    assert "ftp://me:***@host/x" in one_line(call("plan", *words), 2)
    done = call("plan", "--debug", *words)
    assert "Traceback" in done.err
    assert "hunter2pw" not in done.err


def test_a_stages_log_shows_no_secret_in_any_form(fetch: Table) -> None:
    """I56: of its options, its environment, the env_file and a URL; as it is and encoded."""
    (fetch.folder / ".env").write_text("SECRET_KEY=from-a-file\n")
    url = f"postgresql://app:{quote(KEY, safe='')}@db/prices"
    encoded = base64.b64encode(f"me:{KEY}".encode()).decode()
    say = f"echo {KEY} {quote(KEY, safe='')} {encoded} $SECRET_KEY $DATABASE_URL; echo ok"

    done = fetch.run("stage", "fetch", *OPTIONS, SAY=say, DATABASE_URL=url, POLYGON_API_KEY="")

    assert done.returncode == 0
    assert done.stdout == fetch.log("fetch")
    words, line, ok = done.stdout.splitlines()
    assert (words, ok) == ("-t *** --partition-key=customer", "ok")
    assert line.startswith("*** *** bWU6")
    assert line.endswith(" *** postgresql://app:***@db/prices")
    assert done.stderr.count("masked in logs: ") == 1
    for name in ("SECRET_KEY", "DATABASE_URL", "--api-token"):
        assert name in done.stderr.partition("masked in logs: ")[2].splitlines()[0]
    assert TOKEN not in done.stderr


def test_the_names_are_printed_once_in_a_run_of_several_stages(local: Table) -> None:
    """I56: at the start, by the entry; --quiet prints none."""
    local.three()
    done = local.entry(API_TOKEN="hunter2-hunter2")
    assert done.returncode == 0
    assert done.stderr.count("masked in logs: ") == 1
    assert done.stderr.index("masked in logs: ") < done.stderr.index("attempt")
    assert "masked" not in local.entry("--quiet", API_TOKEN="hunter2-hunter2").stderr


def test_a_receipt_holds_no_secret(local: Table) -> None:
    """I56: what an error quotes is masked in it, and in the log that ends with it."""
    local.head = 'env_file = ".env"'
    (local.folder / ".env").write_text("API_TOKEN=hunter2-hunter2\n")
    local.stage("backtest", 'echo x > "$ARTIFACTS_DIR/$API_TOKEN\tx"', produces=[])
    done = local.run("stage", "backtest")
    assert done.returncode != 0
    (receipt,) = local.receipts("backtest")
    assert "***" in receipt["error"]
    for text in (json.dumps(receipt), local.log("backtest"), done.stdout, done.stderr):
        assert "hunter2-hunter2" not in text


@pytest.mark.parametrize(
    "words", [["--api-token", "hunter2pw"], ["--api-token=hunter2pw"], ["API_KEY=hunter2pw"]]
)
def test_a_captured_commands_own_secrets_are_masked(tmp_path: Path, words: list[str]) -> None:
    """I56: the command line is where they are known from."""
    shim = [sys.executable, str(ROOT / "shim"), "capture", "--slug", "s", "--log", "the.log"]
    show = "import sys; print(sys.argv[1:]); print('hunter2pw')"
    done = subprocess.run(
        [*shim, "--", sys.executable, "-c", show, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "hunter2pw" not in done.stdout + done.stderr + (tmp_path / "the.log").read_text()
    assert done.stdout.endswith("***\n")
    name = words[0].partition("=")[0]
    assert done.stderr.count("masked in logs: ") == 1
    assert f", {name}\n" in done.stderr


def test_a_launch_that_is_over_has_a_record_without_secrets(local: Table) -> None:
    """I56: while it lasts the record is what its instance is told; then it is only read."""
    local.stage("fetch", command=["fetch", "--api-token=hunter2pw"])
    plan = dataclasses.replace(local.plan(), on="here")
    record = opened(local.store, plan)
    assert "hunter2pw" in json.dumps(record.load())

    assert record.close("committed", 0)

    assert "hunter2pw" not in json.dumps(record.load())
    assert {**record.load()}["plan"] == json.loads(masked_plan(plan).to_json())


@pytest.mark.slow
def test_a_secret_option_reaches_an_instance_and_no_log_or_record(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I56: the stage there gets it; its launch's record and all that was said have it not."""
    spot = Spot(aws, tool, tmp_path / "spot")
    told = 'test $(printf %s "$2" | wc -c) = 9 && echo x > "$ARTIFACTS_DIR/a.txt"; echo "got $2"'
    spot.table.stage("backtest", command=["sh", "-c", told, "x"], produces=["a.txt"])
    text = spot.table.path.read_text()
    spot.table.path.write_text(f'{text}\n[stage.options.api-token]\ntype = "text"\npass = "-t"\n')

    done = spot.run("--api-token", "hunter2pw")

    assert done.code == 0, done.err
    assert "got ***" in done.out
    assert "masked in logs: --api-token" in done.err
    (record,) = spot.records()
    assert record["plan"]["masked"]
    for text in (done.out, done.err, spot.console(), json.dumps(record)):
        assert "hunter2pw" not in text


def opened(store: Store, plan: Plan) -> Record:
    """Return a launch record that is open."""
    name = "20260517T000000Z-beef-1"
    key = launch.key(PREFIX, name)
    values = {"state": "open", "launch": name, "plan": json.loads(plan.to_json())}
    store.put(key, json.dumps(values).encode())
    return Record(store, key)
