"""One parse of flags, variables and the table: what is planned is what runs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shim import clock, fields, options, show
from shim.environment import child_environment
from shim.plan import Plan
from tests.calls import TEXT, call, one_line, planned, write_table

STAGES = ["backtest", "parity", "evaluator"]
PREFIX = re.compile(r"backtest/(\.dry-run/)?[0-9]{4}-[0-9]{2}-[0-9]{2}/")
# Each option of the plan: its variable, a value, what of the plan it sets, and to what.
SETTINGS: dict[str, tuple[str, str, str, Any]] = {
    "--date": ("RUN_DATE", "2026-05-17", "run_date", "2026-05-17"),
    "--skip-stages": ("SKIP_STAGES", "parity", "names", ["backtest", "evaluator"]),
    "--only-stages": ("ONLY_STAGES", "parity", "names", ["parity"]),
    "--store": ("SPOT_STORE", "s3://bucket/a prefix", "store", "s3://bucket/a prefix"),
    "--on": ("SPOT_ON", "here", "on", "here"),
    "--allow-dirty": ("SPOT_ALLOW_DIRTY", "1", "allow_dirty", True),
    "--timeout": ("SPOT_TIMEOUT", "1h30m", "timeouts", [5400] * 3),
    "--preflight-only": ("SPOT_PREFLIGHT_ONLY", "1", "preflight_only", True),
    "--dry-run": ("DRY_RUN", "1", "dry_run", True),
    "--resume": ("SPOT_RESUME", "1", "resume", True),
    "--trust-existing": ("SPOT_TRUST_EXISTING", "1", "trust_existing", True),
    "--quiet": ("SPOT_QUIET", "1", "quiet", True),
    "--debug": ("SPOT_DEBUG", "1", "debug", True),
    "--freeze-evaluator": ("FREEZE_EVALUATOR", "1", "evaluator", ["--freeze"]),
    "--quick-backtest": ("QUICK_BACKTEST", "1", "backtest", ["--quick"]),
    "--parity-tolerance": ("PARITY_TOLERANCE", "0.5", "parity", ["--tolerance=0.5"]),
}
SWITCHES = [flag for flag, (_, value, *_) in SETTINGS.items() if value == "1"]
TABLE = """
env_file = "settings.env"
[[stage]]
name = "a"
command = ["run", "{{{run_date}}}", "{store}", "{python}", "{artifacts_dir}"]
inputs = ["db/{run_date}.{execution_id}"]
timeout = 5
[stage.options.a-label]
pass = "--label"
type = "text"
default = "table"
[stage.options.a-fast]
pass = "--fast"
default = true
[stage.options.a-word]
pass = "word"
type = "int"
"""


def names(plan: dict[str, Any]) -> list[str]:
    """Return the stages that a plan runs, in order."""
    return [stage["name"] for stage in plan["stages"] if not stage["skipped"]]


def effect(plan: dict[str, Any], field: str) -> Any:
    """Return a field of a plan, or what was made of its stages."""
    if field in plan:
        return plan[field]
    made = {stage["name"]: stage["command"][2:] for stage in plan["stages"]}
    return {"names": names(plan), "timeouts": [s["timeout"] for s in plan["stages"]], **made}[field]


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A table with options of each type."""
    return str(write_table(tmp_path / "a table", TABLE))


def command(table: str, *words: str, env: dict[str, str] | None = None) -> list[str]:
    """Return the last arguments of stage a: its options."""
    found: list[str] = planned("--pipeline", table, *words, env=env)["stages"][0]["command"][5:]
    return found


@pytest.mark.parametrize("flag", SETTINGS)
def test_every_option_reaches_the_plan_as_a_flag_in_both_forms_and_as_a_variable(flag: str) -> None:
    """I13, I14: none is accepted without an effect, and `--flag=v` is `--flag v`."""
    variable, value, field, expected = SETTINGS[flag]
    forms = [[flag]] if flag in SWITCHES else [[flag, value], [f"{flag}={value}"]]
    for words in forms:
        assert effect(planned(*words), field) == expected
    assert effect(planned(env={variable: value}), field) == expected
    assert (
        effect(planned(env={variable: ""}), field) == effect(planned(), field) or flag == "--date"
    )


def test_no_option_is_without_a_case_above() -> None:
    """The cases are the whole of the plan's options; two have tests elsewhere (test_spot_plan)."""
    known = {param.opts[0]: param.envvar for param in options.plan_options()}
    assert known.pop("--pipeline") == "SPOT_PIPELINE"
    assert known.pop("--detach") == "SPOT_DETACH"
    declared = {"--freeze-evaluator", "--quick-backtest", "--parity-tolerance"}
    assert {flag: SETTINGS[flag][0] for flag in SETTINGS if flag not in declared} == known


@pytest.mark.parametrize("flag", SWITCHES)
def test_a_switch_can_be_turned_off_against_its_variable(flag: str) -> None:
    """A flag wins over a variable in both directions."""
    variable, _, field, expected = SETTINGS[flag]
    off = f"--no-{flag.removeprefix('--')}"
    assert effect(planned(off, env={variable: "1"}), field) != expected
    assert effect(planned(env={variable: "0"}), field) != expected


def test_a_flag_wins_over_a_variable_and_the_last_of_two_flags_wins() -> None:
    """For the table's own path as for the rest."""
    env = {"SPOT_STORE": "s3://variable", "SPOT_PIPELINE": "/none.toml"}
    found = planned(
        "--store=s3://one", "--store", "s3://two", f"--pipeline={options.TABLE}", env=env
    )
    assert (found["store"], found["pipeline"]) == ("s3://two", str(options.TABLE))
    for first in (["--pipeline", "/none"], ["--pipeline=/none"]):
        assert planned(*first, f"--pipeline={options.TABLE}")["pipeline"] == str(options.TABLE)


@pytest.mark.parametrize(
    "text", ["parity, evaluator", "parity,evaluator", " parity ,\tevaluator, ,"]
)
def test_spaces_around_names_are_nothing(text: str) -> None:
    """I12: names are trimmed once, for the check and for the match."""
    for words, env in (([f"--skip-stages={text}"], {}), ([], {"SKIP_STAGES": text})):
        assert names(planned(*words, env=env)) == ["backtest"]
    for words, env in (([f"--only-stages={text}"], {}), ([], {"ONLY_STAGES": text})):
        assert names(planned(*words, env=env)) == ["parity", "evaluator"]


@pytest.mark.parametrize("name", STAGES)
def test_skipping_a_stage_skips_that_stage_only(name: str) -> None:
    """I15: those after it are planned, and the plan says why it is not."""
    plan = planned("--skip-stages", name)
    assert names(plan) == [stage for stage in STAGES if stage != name]
    reasons = {stage["name"]: stage["skipped"] for stage in plan["stages"]}
    assert reasons == {**dict.fromkeys(STAGES, ""), name: "named by --skip-stages"}


@pytest.mark.parametrize(
    ("words", "env", "sources"),
    [
        (["--only-stages=evaluator,backtest", "--skip-stages=backtest"], {},
         "named by --only-stages and by --skip-stages"),
        (["--only-stages=backtest"], {"SKIP_STAGES": "backtest"},
         "named by --only-stages and by SKIP_STAGES"),
    ],
)  # fmt: skip
def test_a_stage_that_both_lists_name_is_refused(
    words: list[str], env: dict[str, str], sources: str
) -> None:
    """I62: one of the two is a mistake, and a run of no stage would look like a success."""
    line = one_line(call("plan", *words, env=env), 2)
    assert "backtest is to run and is to be skipped" in line
    assert sources in line


def test_the_order_of_the_table_is_kept() -> None:
    """Whatever the order of the names."""
    assert names(planned("--only-stages=evaluator,backtest")) == ["backtest", "evaluator"]


def test_an_unknown_stage_is_refused_with_the_nearest_and_who_named_it() -> None:
    """Exit 2; a list of none is refused where it says what to run."""
    message = one_line(call("plan", "--skip-stages=parity,evaluater"), 2)
    assert "'evaluater' is not a stage (set by --skip-stages); did you mean evaluator?" in message
    message = one_line(call("plan", env={"ONLY_STAGES": "Backtest"}), 2)
    assert "(set by ONLY_STAGES); did you mean backtest?" in message
    assert "names no stage" in one_line(call("plan", "--only-stages= , "), 2)


def test_a_dry_run_is_planned_outside_of_production() -> None:
    """I17: artifacts, records and logs of every stage, by one prefix."""
    plan = planned("--dry-run", "--date=2026-05-17")
    assert plan["run_prefix"] == "backtest/.dry-run/2026-05-17/"
    assert plan["logs_prefix"] == "_ssm_logs/.dry-run/"
    assert planned("--date=2026-05-17")["run_prefix"] == "backtest/2026-05-17/"


def test_a_date_that_is_carried_outlives_midnight() -> None:
    """I01: three calls with one RUN_DATE have one prefix; without it the clock splits them."""
    late = datetime(2026, 5, 17, 23, 59, 58, tzinfo=UTC)
    carried, split = set(), set()
    date = ""
    for hours in range(3):
        with patch.object(clock, "utc_now", lambda now=late + timedelta(hours=hours): now):
            plan = planned(env={"RUN_DATE": date})
            date = date or plan["run_date"]
            carried.add(plan["run_prefix"])
            split.add(planned()["run_prefix"])
    assert carried == {"backtest/2026-05-17/"}
    assert split == {"backtest/2026-05-17/", "backtest/2026-05-18/"}


def test_a_file_of_variables_does_not_change_the_date(table: str) -> None:
    """I25: what was injected wins over the table's env_file, for the plan and for the command."""
    text = "RUN_DATE=1999-01-01\nSTAGE=x\nCOLOUR=blue\nHOME=/file\n"
    (Path(table).parent / "settings.env").write_text(text)
    with patch.dict("os.environ", {"HOME": "/injected"}):
        found = planned("--pipeline", table, env={"RUN_DATE": "2026-05-17"})
        plan = Plan.from_json(json.dumps(found))
        env = child_environment(plan, plan.stages[0], "/private", "/kept")
    assert (plan.run_date, plan.run_date_source) == ("2026-05-17", "RUN_DATE")
    assert (env["RUN_DATE"], env["STAGE"]) == ("2026-05-17", "a")
    assert (env["COLOUR"], env["HOME"]) == ("blue", "/injected")


def test_a_stages_option_is_a_flag_then_a_variable_then_the_tables(table: str) -> None:
    """An option without a value anywhere is not passed at all."""
    assert command(table) == ["--label=table", "--fast"]
    assert command(table, env={"A_LABEL": "variable"})[0] == "--label=variable"
    assert command(table, "--a-label=flag", env={"A_LABEL": "variable"})[0] == "--label=flag"
    assert command(table, env={"A_FAST": "0"}) == ["--label=table"]
    assert command(table, "--no-a-fast", env={"A_FAST": "1"}) == ["--label=table"]
    assert command(table, "--a-word", "007")[2:] == ["word", "7"]
    assert "'x' is not a valid integer (set by A_WORD)" in one_line(
        call("plan", "--pipeline", table, env={"A_WORD": "x"}), 2
    )


@given(text=TEXT.filter(bool), folder=TEXT)
@example(text="{run_date}{{{artifacts_dir}}} '\"$(x) `y`\\", folder="{python} }{")
def test_any_value_reaches_the_command_as_it_was_given(text: str, folder: str) -> None:
    """Braces, quotes and spaces in a value are no fields, no quotes and no separators."""
    parts = ["{{{store}}}", "{artifacts_dir}{store}{{", f"--x={fields.escape(text)}", "{python}"]
    here = {"artifacts_dir": folder, "python": text}
    bound = [fields.bind(part, {"store": text}) for part in parts]
    filled = [fields.fill(part, here) for part in bound]
    assert filled == [f"{{{text}}}", f"{folder}{text}{{", f"--x={text}", text]


@pytest.mark.parametrize(
    "text", ["a b", "{python}", "{", "}}", "'\";$(x)", "é\n\t", "-x", "=", "--"]
)
def test_a_value_with_braces_quotes_or_spaces_survives_the_plan(table: str, text: str) -> None:
    """From the flag and from the variable, through JSON, to the argument."""
    for words, env in ((["--a-label", text], {}), ([], {"A_LABEL": text})):
        plan = Plan.from_json(json.dumps(planned("--pipeline", table, *words, env=env)))
        filled = [
            fields.fill(p, {"python": "P", "artifacts_dir": "D"}) for p in plan.stages[0].command
        ]
        assert filled[5] == f"--label={text}"
        assert filled[1:5] == [f"{{{plan.run_date}}}", plan.store, "P", "D"]


LISTS = st.lists(st.sampled_from([*STAGES, " parity ", "", "x", "../x"]), max_size=4).map(",".join)
DATES = st.dates().map(str) | st.sampled_from(["today", "2026-5-7", "../x", "2026-02-30"])


@given(
    words=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("--skip-stages", "--only-stages"), LISTS | TEXT)
        | {"--date": DATES | TEXT},
    ),
    env=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("SKIP_STAGES", "ONLY_STAGES"), LISTS | TEXT)
        | {"RUN_DATE": DATES | TEXT, "EXECUTION_ID": TEXT, "DRY_RUN": st.sampled_from("01")},
    ),
)  # fmt: skip
@settings(deadline=None, max_examples=250)
def test_any_text_is_planned_safely_or_refused_in_one_line(
    words: dict[str, str], env: dict[str, str]
) -> None:
    """No traceback, no path outside of the run prefix, no stage that the plan does not show."""
    done = call("entry", *(f"{flag}={value}" for flag, value in words.items()), env=env)
    if done.code:
        one_line(done, 2)
        return
    pairs = list(zip(*[iter(done.out.split("\0")[:-1])] * 2, strict=True))
    plan = Plan.from_json(dict(pairs)["plan"])
    assert PREFIX.fullmatch(plan.run_prefix)
    assert plan.run_prefix.endswith(f"/{plan.run_date}/")
    runs = [value for name, value in pairs if name == "stage"]
    assert runs == [stage.name for stage in plan.planned]
    assert runs == [name for name in STAGES if name in runs]
    shown = show.described(plan).partition("\nstages\n")[2].splitlines()
    assert [line.split()[0] for line in shown if " skipped: " not in line] == runs
