"""The closing table of launches: one row for each instance, with what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shim.errors import printable

HEAD = ("launch", "instance", "pool", "USD/h", "seconds", "cost", "outcome")


@dataclass(frozen=True)
class Row:
    """One launch. `price` is in USD an hour, `cost` in USD; None where EC2 tells no price."""

    launch: str
    instance: str
    pool: str
    price: float | None
    seconds: float
    cost: float | None
    outcome: str

    @classmethod
    def of(cls, values: Mapping[str, Any], outcome: str, seconds: float) -> Row:
        """Return the row of a launch record's values."""
        parts = [values.get(key) for key in ("type", "market", "zone")]
        price = values.get("price")
        return cls(
            launch=values["launch"],
            instance=values.get("instance") or "-",
            pool=" ".join(filter(None, parts)) or "-",
            price=price,
            seconds=seconds,
            cost=cost(price, seconds),
            outcome=outcome,
        )


def cost(price: float | None, seconds: float) -> float | None:
    """Return what an instance costs: by the second, 60 at least.

    docs.aws.amazon.com/AWSEC2/latest/UserGuide/concepts.html, on billing.
    """
    if price is None:
        return None
    return round(price * max(seconds, 60.0) / 3600, 6) if seconds else 0.0


def table(rows: Sequence[Row]) -> str:
    """Return the rows under a heading, or nothing when there are none."""
    if not rows:
        return ""
    cells = [HEAD, *(tuple(map(printable, _cells(row))) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    price = "-" if row.price is None else f"{row.price:.4f}"
    spent = "-" if row.cost is None else f"{row.cost:.4f}"
    return row.launch, row.instance, row.pool, price, f"{row.seconds:.0f}", spent, row.outcome
