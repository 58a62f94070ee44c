"""Stage `backtest`: a moving-average crossover on ten years of daily GOOG prices.

Buys at the next open when the fast average of closes crosses above the slow one, sells at the next
open when it falls back, and picks the pair of windows from a sweep. Same prices, same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

os.environ["TQDM_DISABLE"] = (
    "1"  # the engine draws a bar where tqdm is installed; a log is no place
)
import backtesting
import pandas as pd
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.resources import INLINE

PRICES = "backtesting/test/GOOG.csv"
CASH = 100_000
COMMISSION = 0.001  # of the value, on each fill
FRACTION = 0.95  # of the cash, spent on each entry
MIN_TRADES = 10
RULE = f"highest Sharpe Ratio of the pairs with {MIN_TRADES} trades or more, then shortest windows"
TRADE_COLUMNS = ["EntryBar", "ExitBar", "EntryTime", "ExitTime", "Size", "EntryPrice", "ExitPrice",
                 "Commission", "PnL", "ReturnPct"]  # fmt: skip
SWEEP_COLUMNS = {
    "Sharpe Ratio": "sharpe",
    "Return [%]": "return_pct",
    "CAGR [%]": "cagr_pct",
    "Max. Drawdown [%]": "max_drawdown_pct",
    "# Trades": "trades",
    "Win Rate [%]": "win_rate_pct",
}
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Crossover(backtesting.Strategy):
    """Long from a crossing up to the next crossing down, else in cash."""

    fast = 20
    slow = 50

    def init(self) -> None:
        """Declare both averages, known from bar `window - 1` on."""
        close = pd.Series(self.data.Close)
        # Attributes of their own: the engine hides the future of those, not of a list's items.
        self.short_average = self.I(close.rolling(self.fast).mean, name=f"SMA {self.fast}")
        self.long_average = self.I(close.rolling(self.slow).mean, name=f"SMA {self.slow}")
        self.liquidate = len(self.data) - 2  # the last close whose order still finds an open

    def next(self) -> None:
        """Decide at the close; the engine fills at the next open."""
        fast, slow = self.short_average, self.long_average
        bar = len(self.data) - 1
        if self.position and (fast[-1] <= slow[-1] or bar == self.liquidate):
            self.position.close()
        elif bar < self.liquidate and fast[-1] > slow[-1] and fast[-2] <= slow[-2]:
            self.buy(size=FRACTION)


def environment() -> tuple[str, Path]:
    """Run date and artifacts directory: all that a stage needs to be told."""
    for name in ("RUN_DATE", "ARTIFACTS_DIR"):
        if not os.environ.get(name):
            raise SystemExit(f"backtest: {name} is not set; spot_backtest.sh sets it for a stage")
    folder = Path(os.environ["ARTIFACTS_DIR"])
    if not folder.is_dir():
        raise SystemExit(f"backtest: ARTIFACTS_DIR is not a directory ({folder})")
    return os.environ["RUN_DATE"], folder


def sweep(engine: backtesting.Backtest, quick: bool) -> pd.DataFrame:
    """One row per pair of windows, in bars; a line of progress per fast window."""
    fasts, slows = range(5, 51, 15 if quick else 5), range(20, 201, 30 if quick else 10)
    rows = []
    for fast in fasts:
        for slow in slows:
            if fast < slow:
                stats = engine.run(fast=fast, slow=slow)
                figures = {name: stats[key] for key, name in SWEEP_COLUMNS.items()}
                rows.append({"fast": fast, "slow": slow, **figures})
        print(f"backtest: fast window {fast}: {len(rows)} pairs done", flush=True)
    return pd.DataFrame(rows)


def best(table: pd.DataFrame) -> tuple[int, int]:
    """The pair that RULE picks."""
    enough = table[table["trades"] >= MIN_TRADES].dropna(subset="sharpe")
    if enough.empty:
        raise SystemExit(f"backtest: no pair of windows made {MIN_TRADES} trades")
    row = enough.sort_values(["sharpe", "fast", "slow"], ascending=[False, True, True]).iloc[0]
    return int(row["fast"]), int(row["slow"])


def plain(value: Any) -> Any:
    """A figure of the engine as JSON has it: timestamps and durations as text, no NaN."""
    if isinstance(value, (pd.Timestamp, pd.Timedelta)):
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def save_plot(engine: backtesting.Backtest, stats: pd.Series, path: Path, title: str) -> None:
    """The engine's own interactive plot, as one page that loads nothing and is the same each time.

    Drawn into a fresh document because the engine's asks a web site for an invisible frame.
    """
    figure = engine.plot(results=stats, filename=str(path), open_browser=False)
    figure.document.clear()
    document = Document()
    document.add_root(figure)
    page = file_html(document, INLINE, title=title)
    names: dict[str, str] = {}  # bokeh names the parts of a page at random: number them instead
    page = UUID.sub(lambda found: names.setdefault(found[0], f"part-{len(names)}"), page)
    path.write_text(page, encoding="utf-8", newline="\n")


def main() -> None:
    """Sweep, pick, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="sweep a coarser grid of windows")
    quick = parser.parse_args().quick
    run_date, folder = environment()

    source = Path(backtesting.__file__).parent.parent / PRICES
    prices = pd.read_csv(source, index_col=0, parse_dates=True)
    first, last = str(prices.index[0].date()), str(prices.index[-1].date())
    print(f"backtest: {run_date}: {len(prices)} days of GOOG, {first} to {last}", flush=True)

    engine = backtesting.Backtest(prices, Crossover, cash=CASH, commission=COMMISSION)
    table = sweep(engine, quick)
    fast, slow = best(table)
    stats = engine.run(fast=fast, slow=slow)
    report = {
        "run_date": run_date,
        "parameters": {"fast": fast, "slow": slow},
        "chosen": {"rule": RULE, "pairs": len(table), "quick": quick},
        "account": {"cash": CASH, "commission": COMMISSION, "fraction": FRACTION},
        "data": {
            "file": PRICES,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "bars": len(prices),
            "first": first,
            "last": last,
        },
        "engine": {"name": "backtesting", "version": backtesting.__version__},
        "stats": {key: plain(value) for key, value in stats.items() if not key.startswith("_")},
    }
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    (folder / "portfolio_stats.json").write_text(text, encoding="utf-8", newline="\n")
    equity = stats["_equity_curve"]["Equity"].rename("equity").rename_axis("date")
    equity.to_csv(folder / "equity.csv", lineterminator="\n")
    stats["_trades"][TRADE_COLUMNS].to_csv(folder / "trades.csv", index=False, lineterminator="\n")
    table.to_csv(folder / "param_sweep.csv", index=False, lineterminator="\n")
    save_plot(engine, stats, folder / "equity_plot.html", f"GOOG, SMA {fast}/{slow}, {run_date}")
    print(
        f"backtest: {len(table)} pairs, best {fast}/{slow}: {stats['# Trades']} trades,"
        f" return {stats['Return [%]']:.1f} %, Sharpe {stats['Sharpe Ratio']:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
