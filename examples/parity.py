"""Stage `parity`: replays the backtest without its engine and lists every figure that differs.

Signals, fills, sizes, commission and equity are worked out again from the prices and the parameters
alone. A divergence is a finding and exits 0; an input that is missing or unreadable exits 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import os
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TRADE_FIELDS = ["EntryBar", "ExitBar", "ExitTime", "Size", "EntryPrice", "ExitPrice", "Commission",
                "PnL", "ReturnPct"]  # fmt: skip


def environment() -> tuple[str, Path]:
    """Run date and artifacts directory: all that a stage needs to be told."""
    for name in ("RUN_DATE", "ARTIFACTS_DIR"):
        if not os.environ.get(name):
            raise SystemExit(f"parity: {name} is not set; spot_backtest.sh sets it for a stage")
    return os.environ["RUN_DATE"], Path(os.environ["ARTIFACTS_DIR"])


@dataclass(frozen=True)
class Setup:
    """What portfolio_stats.json says of the run: windows in bars, cash in dollars, shares of 1."""

    fast: int
    slow: int
    cash: float
    commission: float
    fraction: float
    prices: str
    sha256: str
    stats: dict[str, Any]

    def __post_init__(self) -> None:
        """Raises ValueError where the windows cannot cross."""
        if not 0 < self.fast < self.slow:
            raise ValueError(f"fast {self.fast}, slow {self.slow}")


def load(folder: Path, run_date: str) -> tuple[Setup, pd.DataFrame]:
    """The two artifacts; SystemExit where one is missing, unreadable or of another run date."""
    try:
        text = (folder / "portfolio_stats.json").read_text(encoding="utf-8")
        said = json.loads(text)
        stamped = said["run_date"]
        setup = Setup(
            **said["parameters"],
            **said["account"],
            prices=said["data"]["file"],
            sha256=said["data"]["sha256"],
            stats=said["stats"],
        )
        kinds = dict.fromkeys(TRADE_FIELDS, float) | {"EntryTime": str, "ExitTime": str}
        trades = pd.read_csv(folder / "trades.csv", usecols=list(kinds), dtype=kinds)
    except FileNotFoundError as error:
        raise SystemExit(f"parity: input is missing ({error.filename})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"parity: input cannot be read ({error!r})") from error
    if stamped != run_date:
        raise SystemExit(
            f"parity: portfolio_stats.json is of another run date"
            f" ({stamped}, RUN_DATE is {run_date})"
        )
    return setup, trades


def price_file(name: str) -> Path:
    """The data file that the backtest names, in the installed package, which is not imported."""
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"parity: package {package}, which holds the prices, is not installed")
    path = Path(spec.origin).parent / rest
    if not path.is_file():
        raise SystemExit(f"parity: prices are missing ({path})")
    return path


def replay_trades(prices: pd.DataFrame, setup: Setup) -> pd.DataFrame:
    """The trades that the rules make, by entry date; bars count from 0, money in dollars."""
    fast, slow, last = setup.fast, setup.slow, len(prices) - 1
    # Prices are whole cents: sums of integers compare two averages without rounding.
    total = (prices["Close"] * 100).round().astype("int64").cumsum()
    sums = {n: total - total.shift(n, fill_value=0) for n in (fast, slow)}
    above = (sums[fast] * slow > sums[slow] * fast).to_numpy()
    turns = np.flatnonzero(above[slow:] != above[slow - 1 : -1]) + slow
    entries = turns[above[turns] & (turns < last - 1)]
    exits = np.append(turns[~above[turns] & (turns < last - 1)], last - 1)
    exits = exits[np.searchsorted(exits, entries, side="right")]

    opens, days = prices["Open"].to_numpy(), prices.index.strftime("%Y-%m-%d")
    cash, rate, rows = setup.cash, setup.commission, []
    for entry, leave in zip(entries + 1, exits + 1, strict=True):
        bought, sold = float(opens[entry]), float(opens[leave])
        size = int(cash * setup.fraction // (bought * (1 + rate)))
        fees = size * (bought + sold) * rate
        profit = size * (sold - bought) - fees
        cash += profit
        rows.append([days[entry], entry, leave, days[leave], size, bought, sold, fees, profit,
                     profit / (size * bought)])  # fmt: skip
    return pd.DataFrame(rows, columns=["EntryTime", *TRADE_FIELDS]).set_index("EntryTime")


def replay_equity(prices: pd.DataFrame, trades: pd.DataFrame, setup: Setup) -> pd.Series:
    """Cash plus shares at the close, in dollars, per day."""
    flow, held = np.zeros(len(prices)), np.zeros(len(prices))
    entered, left, size = (trades[name].to_numpy() for name in ("EntryBar", "ExitBar", "Size"))
    flow[entered] -= size * trades["EntryPrice"].to_numpy() * (1 + setup.commission)
    flow[left] += size * trades["ExitPrice"].to_numpy() * (1 - setup.commission)
    held[entered] += size
    held[left] -= size
    return setup.cash + flow.cumsum() + held.cumsum() * prices["Close"]


def figures(equity: pd.Series, trades: pd.DataFrame) -> dict[str, float]:
    """What the replay says of the whole run, under the names of portfolio_stats.json."""
    return {
        "# Trades": len(trades),
        "Commissions [$]": float(trades["Commission"].sum()),
        "Equity Final [$]": float(equity.iloc[-1]),
        "Equity Peak [$]": float(equity.max()),
        "Return [%]": float(equity.iloc[-1] / equity.iloc[0] - 1) * 100,
        "Max. Drawdown [%]": float((equity / equity.cummax() - 1).min()) * 100,
    }


class Comparison:
    """Lists what differs by more than `tolerance`, relative to the larger of 1 and the replay."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.compared = 0
        self.largest = 0.0
        self.differences: list[dict[str, Any]] = []

    def differs(self, where: str, field: str, reported: Any, replayed: Any) -> None:
        """Put one difference on the list; NaN becomes text, which JSON can carry."""
        pair = [value.item() if hasattr(value, "item") else value for value in (reported, replayed)]
        pair = [str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in pair]
        found = {"where": where, "field": field, "reported": pair[0], "replayed": pair[1]}
        self.differences.append(found)
        print(
            f"parity: differs: {where} {field}: reported {pair[0]}, replayed {pair[1]}", flush=True
        )

    def check(self, where: str, field: str, reported: Any, replayed: Any) -> None:
        """Compare one figure."""
        self.compared += 1
        same = reported == replayed
        if isinstance(reported, Real) and isinstance(replayed, Real):
            gap = abs(float(reported) - float(replayed)) / max(1.0, abs(float(replayed)))
            same = gap <= self.tolerance  # False for NaN
            self.largest = max(self.largest, gap) if math.isfinite(gap) else self.largest
        if not same:
            self.differs(where, field, reported, replayed)


def compare_trades(result: Comparison, reported: pd.DataFrame, replayed: pd.DataFrame) -> None:
    """Match trades by entry date, so that one missing trade is one difference."""
    expected = dict(replayed.iterrows())
    for row in reported.to_dict("records"):
        day = row["EntryTime"]
        if day not in expected:
            result.differs(f"trade {day}", "trade", "there", "absent")
            continue
        match = expected.pop(day)
        for field in TRADE_FIELDS:
            result.check(f"trade {day}", field, row[field], match[field])
    for day in expected:
        result.differs(f"trade {day}", "trade", "absent", "there")


def main() -> None:
    """Read, replay, compare, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tolerance", type=float, default=1e-9, metavar="T",
                        help="relative difference that still counts as equal (1e-9)")  # fmt: skip
    result = Comparison(parser.parse_args().tolerance)
    run_date, folder = environment()
    setup, reported = load(folder, run_date)
    source = price_file(setup.prices)
    prices = pd.read_csv(source, index_col=0, parse_dates=True)
    replayed = replay_trades(prices, setup)
    whole = figures(replay_equity(prices, replayed, setup), replayed)

    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    result.check("prices", "sha256", setup.sha256, digest)
    compare_trades(result, reported, replayed)
    for name, value in whole.items():
        result.check("portfolio", name, setup.stats.get(name), value)

    report = {
        "run_date": run_date,
        "agrees": not result.differences,
        "tolerance": result.tolerance,
        "figures_compared": result.compared,
        "largest_difference": result.largest,
        "parameters": {"fast": setup.fast, "slow": setup.slow},
        "replay": whole,
        "differences": result.differences,
    }
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    (folder / "parity_report.json").write_text(text, encoding="utf-8", newline="\n")
    print(
        f"parity: {run_date}: {len(replayed)} trades replayed, {result.compared} figures compared,"
        f" {len(result.differences)} differ",
        flush=True,
    )


if __name__ == "__main__":
    main()
