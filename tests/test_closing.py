"""What launches cost, and the table that ends a run on instances."""

from __future__ import annotations

import pytest

from shim.closing import Row, cost, table


@pytest.mark.parametrize(
    ("price", "seconds", "expected"),
    [(0.036, 3600, 0.036), (0.036, 100, 0.001), (0.036, 1, 0.0006), (0.036, 0, 0.0)],
)
def test_an_instance_costs_by_the_second_and_a_minute_at_least(
    price: float, seconds: float, expected: float
) -> None:
    """In USD; one that was never there costs nothing."""
    assert cost(price, seconds) == pytest.approx(expected)
    assert cost(None, seconds) is None


def test_each_launch_is_a_line_of_the_table() -> None:
    """What is not known is a dash."""
    known = {
        "launch": "l-1",
        "instance": "i-1",
        "type": "c5.large",
        "market": "spot",
        "zone": "eu-west-1a",
        "price": 0.05,
    }
    rows = [
        Row.of(known, "reclaimed", 720.4),
        Row.of({"launch": "l-2"}, "no capacity", 0.0),
    ]
    assert table(rows) == (
        "launch  instance  pool                      USD/h   seconds  cost    outcome\n"
        "l-1     i-1       c5.large spot eu-west-1a  0.0500  720      0.0100  reclaimed\n"
        "l-2     -         -                         -       0        -       no capacity\n"
    )
    assert table([]) == ""
