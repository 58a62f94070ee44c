"""Stage `evaluator`: grades the backtest, reports, and promotes its settings where they pass.

Writes metrics.json, report.md and equity.png always; promotion.json only when every gate is passed
and promotions are not frozen. A refusal is a result and exits 0; an input that is missing,
unreadable or of another run date exits 1.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

YEAR = 252  # trading days
MIN_TRADES, MIN_SHARPE, MAX_DRAWDOWN, MIN_MEDIAN_SHARPE = 20, 0.5, -0.40, 0.2
CONVENTIONS = (
    "Daily closes of equity.csv, after commission; risk-free rate 0; days in cash count. "
    "Sharpe = mean / standard deviation (n-1) of daily returns x sqrt(252); "
    "Sortino divides by the root mean square of min(return, 0) over all days; "
    "CAGR over calendar years of 365.25 days; "
    "drawdown from the running peak, its length to the last day below that; "
    "a win is a trade with a profit after commission; figures are fractions, money is dollars. "
    "Windows were chosen on these same prices, so every figure is in-sample and flatters: "
    "the median of the sweep stands beside it."
)
KEYS = {
    "portfolio_stats.json": ("parameters", "chosen", "data", "stats"),
    "parity_report.json": ("agrees", "differences", "figures_compared", "replay"),
}
LABELS = {
    "total_return": ("Total return", "{:.1%}"),
    "cagr": ("CAGR", "{:.1%}"),
    "volatility": ("Volatility, a year", "{:.1%}"),
    "sharpe": ("Sharpe", "{:.2f}"),
    "sortino": ("Sortino", "{:.2f}"),
    "max_drawdown": ("Maximum drawdown", "{:.1%}"),
    "drawdown_days": ("Longest drawdown, days", "{:d}"),
    "calmar": ("Calmar", "{:.2f}"),
    "trades": ("Trades", "{:d}"),
    "win_rate": ("Win rate", "{:.1%}"),
    "profit_factor": ("Profit factor", "{:.2f}"),
    "commissions": ("Commissions, $", "{:,.0f}"),
    "buy_and_hold_return": ("Buy and hold (engine)", "{:.1%}"),
    "sweep_median_sharpe": ("Median Sharpe of the sweep (engine)", "{:.2f}"),
}


@dataclass(frozen=True)
class Inputs:
    """The artifacts of the stages before."""

    stats: dict[str, Any]
    parity: dict[str, Any]
    trades: pd.DataFrame
    sweep: pd.DataFrame
    equity: pd.Series


@dataclass(frozen=True)
class Gate:
    """One condition of promotion."""

    name: str
    value: str
    passed: bool


def environment() -> tuple[str, Path]:
    """Run date and artifacts directory: all that a stage needs to be told."""
    for name in ("RUN_DATE", "ARTIFACTS_DIR"):
        if not os.environ.get(name):
            raise SystemExit(f"evaluator: {name} is not set; spot_backtest.sh sets it for a stage")
    return os.environ["RUN_DATE"], Path(os.environ["ARTIFACTS_DIR"])


def load(folder: Path, run_date: str) -> Inputs:
    """The inputs; SystemExit where one is missing, unreadable or of another run date."""
    try:
        documents = [json.loads((folder / name).read_text(encoding="utf-8")) for name in KEYS]
        for (name, keys), document in zip(KEYS.items(), documents, strict=True):
            stamped = document["run_date"]
            if stamped != run_date:
                raise SystemExit(
                    f"evaluator: {name} is of another run date ({stamped}, RUN_DATE is {run_date})"
                )
            operator.itemgetter(*keys)(document)  # KeyError here, not in the middle of a report
        stats, parity = documents
        days = pd.read_csv(folder / "equity.csv", index_col="date", parse_dates=True)
        return Inputs(
            stats=stats,
            parity=parity,
            trades=pd.read_csv(folder / "trades.csv", usecols=["PnL", "Commission"], dtype=float),
            sweep=pd.read_csv(folder / "param_sweep.csv"),
            equity=days["equity"].astype(float),
        )
    except FileNotFoundError as error:
        raise SystemExit(f"evaluator: input is missing ({error.filename})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"evaluator: input cannot be read ({error!r})") from error


def ratio(top: float, bottom: float) -> float | None:
    """A quotient that JSON can carry: None where it is undefined."""
    return top / bottom if bottom and math.isfinite(top / bottom) else None


def measure(given: Inputs) -> dict[str, Any]:
    """Every figure of CONVENTIONS."""
    equity, profit = given.equity, given.trades["PnL"]
    daily = equity.pct_change().dropna()
    years = (equity.index[-1] - equity.index[0]).days / 365.25
    growth = float(equity.iloc[-1] / equity.iloc[0])
    drawdown = equity / equity.cummax() - 1
    peaks = equity.index.to_series().where(drawdown == 0).ffill()
    cagr, worst = growth ** (1 / years) - 1, float(drawdown.min())
    downside = math.sqrt((daily.clip(upper=0) ** 2).mean())
    return {
        "total_return": growth - 1,
        "cagr": cagr,
        "volatility": float(daily.std()) * math.sqrt(YEAR),
        "sharpe": ratio(float(daily.mean()) * math.sqrt(YEAR), float(daily.std())),
        "sortino": ratio(float(daily.mean()) * math.sqrt(YEAR), downside),
        "max_drawdown": worst,
        "drawdown_days": int((equity.index.to_series() - peaks).dt.days.max()),
        "calmar": ratio(cagr, -worst),
        "trades": len(profit),
        "win_rate": ratio(int((profit > 0).sum()), len(profit)),
        "profit_factor": ratio(float(profit[profit > 0].sum()), -float(profit[profit < 0].sum())),
        "commissions": float(given.trades["Commission"].sum()),
        "buy_and_hold_return": given.stats["stats"]["Buy & Hold Return [%]"] / 100,
        "sweep_median_sharpe": float(given.sweep["sharpe"].median()),
    }


def judge(given: Inputs, found: dict[str, Any]) -> list[Gate]:
    """The gates, in the order in which the report shows them."""
    equity, replay = given.equity, given.parity["replay"]
    pairs = (
        (equity.iloc[-1], replay["Equity Final [$]"]),
        (equity.max(), replay["Equity Peak [$]"]),
        (found["max_drawdown"] * 100, replay["Max. Drawdown [%]"]),
    )
    same = all(math.isclose(ours, theirs, rel_tol=1e-9) for ours, theirs in pairs)
    differ = len(given.parity["differences"])
    sharpe, median = found["sharpe"] or 0.0, found["sweep_median_sharpe"]
    return [
        Gate("parity agrees", f"{differ} differ", given.parity["agrees"] and not differ),
        Gate("equity.csv is the replay's", "equal" if same else "differs", same),
        Gate(f"trades >= {MIN_TRADES}", str(found["trades"]), found["trades"] >= MIN_TRADES),
        Gate(f"Sharpe >= {MIN_SHARPE}", f"{sharpe:.2f}", sharpe >= MIN_SHARPE),
        Gate(f"maximum drawdown >= {MAX_DRAWDOWN:.0%}", f"{found['max_drawdown']:.1%}",
             found["max_drawdown"] >= MAX_DRAWDOWN),
        Gate(f"median Sharpe of the sweep >= {MIN_MEDIAN_SHARPE}", f"{median:.2f}",
             median >= MIN_MEDIAN_SHARPE),
    ]  # fmt: skip


def decide(gates: list[Gate], freeze: bool) -> tuple[str, str]:
    """Decision and reason: promoted, refused, or frozen."""
    failed = [f"{gate.name} ({gate.value})" for gate in gates if not gate.passed]
    if failed:
        return "refused", "failed: " + "; ".join(failed)
    if freeze:
        return "frozen", "every gate passed; promotions are frozen (--freeze)"
    return "promoted", "every gate passed"


def draw(equity: pd.Series, title: str, path: Path) -> None:
    """Equity on a log scale above, drawdown below; the same bytes for the same input."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ.setdefault("MPLCONFIGDIR", cache)  # else matplotlib writes under HOME
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        figure, (above, below) = plt.subplots(
            2, 1, sharex=True, figsize=(10, 6), height_ratios=(3, 1), layout="constrained"
        )
        above.semilogy(equity.index, equity, linewidth=1)
        above.set(title=title, ylabel="equity, $ (log)")
        drawdown = (equity / equity.cummax() - 1) * 100
        below.fill_between(equity.index, drawdown, 0, color="tab:red", alpha=0.5)
        below.set(ylabel="drawdown, %")
        for axes in (above, below):
            axes.grid(alpha=0.3)
        figure.savefig(path, dpi=100, metadata={"Software": None})  # no version in the bytes


def table(head: str, rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table; `head` is its first line."""
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, rule, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def report(given: Inputs, result: dict[str, Any], gates: list[Gate]) -> str:
    """The run on one page, in Markdown."""
    stats, found = given.stats, result["metrics"]
    windows, data = stats["parameters"], stats["data"]
    figures = [
        (label, "undefined" if found[name] is None else form.format(found[name]))
        for name, (label, form) in LABELS.items()
    ]
    verdicts = [(gate.name, gate.value, "passed" if gate.passed else "FAILED") for gate in gates]
    top = given.sweep.sort_values("sharpe", ascending=False).head(5)
    pairs = [
        (row.fast, row.slow, f"{row.sharpe:.2f}", f"{row.return_pct:.0f} %", row.trades)
        for row in top.itertuples()
    ]
    differences = [
        (one["where"], one["field"], one["reported"], one["replayed"])
        for one in given.parity["differences"]
    ]
    parts = [
        f"# Backtest of {result['run_date']}",
        f"**{result['decision'].capitalize()}**: {result['reason']}.",
        f"GOOG, {data['first']} to {data['last']}, {data['bars']} days ({data['file']}). Moving"
        f" averages of {windows['fast']} and {windows['slow']} days: the {stats['chosen']['rule']},"
        f" of {stats['chosen']['pairs']} pairs.",
        "![Equity and drawdown](equity.png)",
        table("| figure | value |", figures),
        "## Gates",
        table("| gate | value | result |", verdicts),
        "## Parity",
        f"{given.parity['figures_compared']} figures compared, {len(differences)} differ.",
        *(
            [table("| where | field | reported | replayed |", differences[:20])]
            if differences
            else []
        ),
        "## Best of the sweep",
        table("| fast | slow | Sharpe (engine) | return | trades |", pairs),
        "## Conventions",
        CONVENTIONS,
    ]
    return "\n\n".join(parts) + "\n"


def write(path: Path, text: str) -> None:
    """The same bytes on every machine."""
    path.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    """Read, grade, report, and promote or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--freeze", action="store_true", help="grade, but promote nothing")
    freeze = parser.parse_args().freeze
    run_date, folder = environment()
    given = load(folder, run_date)
    found = measure(given)
    gates = judge(given, found)
    decision, reason = decide(gates, freeze)
    result = {
        "run_date": run_date,
        "decision": decision,
        "reason": reason,
        "parameters": given.stats["parameters"],
        "metrics": found,
        "gates": [vars(gate) for gate in gates],
        "conventions": CONVENTIONS,
    }
    write(folder / "metrics.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    write(folder / "report.md", report(given, result, gates))
    draw(given.equity, f"GOOG, run date {run_date}", folder / "equity.png")
    promotion = folder / "promotion.json"
    if decision == "promoted":
        kept = {key: result[key] for key in ("run_date", "parameters", "reason")}
        write(promotion, json.dumps(kept, indent=2) + "\n")
    else:
        promotion.unlink(missing_ok=True)  # one of an earlier run by hand in the same directory
    for gate in gates:
        verdict = "passed" if gate.passed else "FAILED"
        print(f"evaluator: {verdict}: {gate.name} ({gate.value})", flush=True)
    print(f"evaluator: {run_date}: {decision}: {reason}", flush=True)


if __name__ == "__main__":
    main()
