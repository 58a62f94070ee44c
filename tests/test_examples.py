"""The example pipeline does what it tells a user to copy: real children, the true prices, once."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("backtesting") is None,
    reason="package backtesting (dependency group example) is not installed",
)

EXAMPLES = Path(__file__).parents[1] / "examples"
RUN_DATE = "2026-05-17"
PUBLISHED = {
    "portfolio_stats.json", "trades.csv", "param_sweep.csv", "equity.csv", "equity_plot.html",
    "parity_report.json", "metrics.json", "report.md", "equity.png", "promotion.json",
}  # fmt: skip

Rows = list[dict[str, str]]


def run(
    script: str, folder: Path, *options: str, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """One stage as a child that has nothing in its environment but the contract."""
    variables = {"RUN_DATE": RUN_DATE, "ARTIFACTS_DIR": str(folder), **variables}
    return subprocess.run(
        [sys.executable, EXAMPLES / f"{script}.py", *options],
        env={name: value for name, value in variables.items() if value},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def read(path: Path) -> Any:
    """A JSON artifact."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Chain:
    """What one run of the three stages left."""

    folder: Path
    children: list[subprocess.CompletedProcess[str]]


def run_chain(folder: Path, cwd: Path, **variables: str) -> Chain:
    """All three stages, in order, in one directory and from a working directory without writes."""
    folder.mkdir(parents=True)
    cwd.mkdir(mode=0o555)
    steps = (("backtest", "--quick"), ("parity",), ("evaluator",))
    children = [run(name, folder, *more, cwd=cwd, **variables) for name, *more in steps]
    assert [child.returncode for child in children] == [0, 0, 0], children
    return Chain(folder, children)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The stages with an empty environment: no HOME, no PATH, locale C."""
    base = tmp_path_factory.mktemp("example")
    return run_chain(base / "artifacts", base / "cwd", LC_ALL="C")


@pytest.fixture
def folder(chain: Chain, tmp_path: Path) -> Path:
    """A copy of what the chain left, to be damaged."""
    return shutil.copytree(chain.folder, tmp_path / "copy")


def edit_trades(folder: Path, edit: Callable[[Rows], object]) -> None:
    """Rewrite trades.csv after `edit` changed its rows in place."""
    path = folder / "trades.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0])
    edit(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def edit_json(path: Path, key: str, value: object) -> None:
    """Set one top-level key of a JSON artifact."""
    path.write_text(json.dumps(read(path) | {key: value}), encoding="utf-8")


def assert_refused(child: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit 1 with one line on stderr that holds `words`."""
    assert child.returncode == 1
    assert len(child.stderr.splitlines()) == 1, child.stderr
    for word in words:
        assert word in child.stderr


def test_the_chain_publishes_its_artifacts_and_says_nothing_on_stderr(chain: Chain) -> None:
    """No warning, no progress bar, no file beside the artifacts."""
    assert {path.name for path in chain.folder.iterdir()} == PUBLISHED
    assert [child.stderr for child in chain.children] == ["", "", ""]
    assert all(child.stdout.isascii() and "\r" not in child.stdout for child in chain.children)


@pytest.mark.slow
def test_two_runs_of_one_date_give_the_same_bytes(chain: Chain, tmp_path: Path) -> None:
    """Also from another directory, with a HOME, which stays empty, and hashes seeded otherwise."""
    home = tmp_path / "home"
    home.mkdir()
    again = run_chain(
        tmp_path / "an ärtifact dir", tmp_path / "cwd", HOME=str(home), PYTHONHASHSEED="7"
    )
    for name in PUBLISHED:
        assert (again.folder / name).read_bytes() == (chain.folder / name).read_bytes(), name
    assert list(home.iterdir()) == list((tmp_path / "cwd").iterdir()) == []


def test_the_backtest_names_its_prices_and_picks_by_its_stated_rule(chain: Chain) -> None:
    """The published pair is the one that leads the published sweep."""
    stats = read(chain.folder / "portfolio_stats.json")
    with (chain.folder / "param_sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["trades"]) >= 10]
    lead = max(rows, key=lambda row: float(row["sharpe"]))
    assert stats["parameters"] == {"fast": int(lead["fast"]), "slow": int(lead["slow"])}
    assert stats["stats"]["Sharpe Ratio"] == float(lead["sharpe"])
    assert stats["data"]["file"] == "backtesting/test/GOOG.csv"
    assert (stats["data"]["first"], stats["data"]["last"]) == ("2004-08-19", "2013-03-01")
    assert stats["run_date"] == RUN_DATE


def test_the_plot_loads_nothing_from_elsewhere(chain: Chain) -> None:
    """The page is whole: a private network can open it, and no site hears of it."""
    page = (chain.folder / "equity_plot.html").read_text(encoding="utf-8")
    assert not re.search(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=", page)
    assert "kernc.github.io/backtesting.py/plx" not in page
    assert '"version":"' in page


def test_parity_finds_no_difference_on_the_true_data(chain: Chain) -> None:
    """Every field of every trade and the equity agree to rounding."""
    report = read(chain.folder / "parity_report.json")
    stats = read(chain.folder / "portfolio_stats.json")["stats"]
    assert (report["agrees"], report["differences"]) == (True, [])
    assert report["figures_compared"] == 1 + 9 * stats["# Trades"] + 6
    assert report["largest_difference"] < 1e-12


@pytest.mark.parametrize(
    ("field", "edit"),
    [
        ("ExitPrice", lambda rows: rows[3].update(ExitPrice=str(float(rows[3]["ExitPrice"]) + 1))),
        ("Size", lambda rows: rows[3].update(Size=str(int(rows[3]["Size"]) + 1))),
        ("PnL", lambda rows: rows[3].update(PnL="")),
        ("ExitTime", lambda rows: rows[3].update(ExitTime="2005-01-01")),
        ("trade", lambda rows: rows.pop(3)),
        ("trade", lambda rows: rows.append(rows[3])),
    ],
    ids=["price", "size", "empty", "date", "missing", "twice"],
)
def test_parity_reports_a_doctored_trade(
    folder: Path, field: str, edit: Callable[[Rows], object]
) -> None:
    """The check can fail: one wrong cell or row is one difference, and exit 0."""
    edit_trades(folder, edit)
    child = run("parity", folder)
    report = read(folder / "parity_report.json")
    assert (child.returncode, child.stderr, report["agrees"]) == (0, "", False)
    assert [one["field"] for one in report["differences"]] == [field]


def test_parity_reports_a_doctored_equity_unless_the_tolerance_allows_it(folder: Path) -> None:
    """A final equity one per cent off differs at 1e-9 and agrees at 0.05."""
    path = folder / "portfolio_stats.json"
    stats = read(path)["stats"]
    edit_json(path, "stats", stats | {"Equity Final [$]": stats["Equity Final [$]"] * 1.01})
    run("parity", folder)
    differences = read(folder / "parity_report.json")["differences"]
    assert [one["field"] for one in differences] == ["Equity Final [$]"]
    run("parity", folder, "--tolerance", "0.05")
    assert read(folder / "parity_report.json")["agrees"] is True


@pytest.mark.parametrize(
    ("script", "name"),
    [("parity", "portfolio_stats.json"), ("parity", "trades.csv"),
     ("evaluator", "parity_report.json"), ("evaluator", "equity.csv")],
)  # fmt: skip
def test_a_missing_input_is_an_error(folder: Path, script: str, name: str) -> None:
    """Exit 1 and the file's name, and nothing written."""
    (folder / name).unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert_refused(run(script, folder), "missing", name)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_unreadable_input_is_an_error(folder: Path) -> None:
    """Half a JSON file is not a divergence."""
    (folder / "portfolio_stats.json").write_text('{"run_date": ', encoding="utf-8")
    assert_refused(run("parity", folder), "parity: input cannot be read")
    assert_refused(run("evaluator", folder), "evaluator: input cannot be read")


@pytest.mark.parametrize("name", ["portfolio_stats.json", "parity_report.json"])
def test_an_artifact_of_another_run_date_is_refused(folder: Path, name: str) -> None:
    """Both dates are in the message."""
    edit_json(folder / name, "run_date", "2026-05-16")
    for script in ("parity", "evaluator") if name == "portfolio_stats.json" else ("evaluator",):
        assert_refused(run(script, folder), f"{script}: {name}", "2026-05-16", RUN_DATE)


@pytest.mark.parametrize("script", ["backtest", "parity", "evaluator"])
@pytest.mark.parametrize("unset", ["RUN_DATE", "ARTIFACTS_DIR"])
def test_a_stage_refuses_to_run_outside_its_contract(
    tmp_path: Path, script: str, unset: str
) -> None:
    """One line names the variable; no clock and no current directory stand in for it."""
    assert_refused(run(script, tmp_path, cwd=tmp_path, **{unset: ""}), f"{script}: {unset} is not")
    assert list(tmp_path.iterdir()) == []


def test_settings_that_pass_every_gate_are_promoted(chain: Chain) -> None:
    """promotion.json carries the settings, the run date and the reason."""
    promotion = read(chain.folder / "promotion.json")
    metrics = read(chain.folder / "metrics.json")
    assert (promotion["run_date"], promotion["reason"]) == (RUN_DATE, "every gate passed")
    assert promotion["parameters"] == read(chain.folder / "portfolio_stats.json")["parameters"]
    assert all(gate["passed"] for gate in metrics["gates"])
    assert "**Promoted**" in (chain.folder / "report.md").read_text(encoding="utf-8")


def test_the_metrics_follow_from_the_equity_and_agree_with_the_engine(chain: Chain) -> None:
    """Where the conventions are the engine's, so are the figures."""
    metrics = read(chain.folder / "metrics.json")["metrics"]
    stats = read(chain.folder / "portfolio_stats.json")["stats"]
    percent = {"total_return": "Return [%]", "cagr": "CAGR [%]", "win_rate": "Win Rate [%]",
               "max_drawdown": "Max. Drawdown [%]"}  # fmt: skip
    for ours, theirs in percent.items():
        assert metrics[ours] * 100 == pytest.approx(stats[theirs], rel=1e-9), ours
    assert metrics["trades"] == stats["# Trades"]
    assert metrics["commissions"] == pytest.approx(stats["Commissions [$]"])


def test_freeze_grades_and_promotes_nothing(folder: Path) -> None:
    """The promotion of an earlier run in the same directory goes too."""
    child = run("evaluator", folder, "--freeze")
    metrics = read(folder / "metrics.json")
    assert (child.returncode, metrics["decision"]) == (0, "frozen")
    assert not (folder / "promotion.json").exists()
    assert "**Frozen**" in (folder / "report.md").read_text(encoding="utf-8")


def test_a_divergence_is_not_promoted(folder: Path) -> None:
    """The report names the failed gate and shows the difference; exit 0."""
    edit_trades(folder, lambda rows: rows.pop(3))
    run("parity", folder)
    child = run("evaluator", folder)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert (child.returncode, read(folder / "metrics.json")["decision"]) == (0, "refused")
    assert "parity agrees (1 differ)" in text
    assert "| trade | absent | there |" in text
    assert not (folder / "promotion.json").exists()


def test_a_backtest_below_a_threshold_is_not_promoted(folder: Path) -> None:
    """Too few trades, and an equity curve that is not the one that was replayed."""
    edit_trades(folder, lambda rows: [rows.pop() for _ in rows[5:]])
    path = folder / "equity.csv"
    path.write_text(path.read_text(encoding="utf-8") + "2013-03-04,1.0\n", encoding="utf-8")
    child = run("evaluator", folder)
    metrics = read(folder / "metrics.json")
    failed = {gate["name"] for gate in metrics["gates"] if not gate["passed"]}
    assert (child.returncode, metrics["decision"]) == (0, "refused")
    assert failed >= {"trades >= 20", "equity.csv is the replay's", "maximum drawdown >= -40%"}
    assert not (folder / "promotion.json").exists()


@pytest.mark.parametrize("script", ["backtest", "parity", "evaluator"])
def test_a_script_imports_neither_the_shim_nor_a_clock(script: str) -> None:
    """A user can copy it; parity and evaluator do without the engine too."""
    text = (EXAMPLES / f"{script}.py").read_text(encoding="utf-8")
    names = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
    assert not names & {"shim", "time", "datetime"}
    assert ("backtesting" in names) == (script == "backtest")
