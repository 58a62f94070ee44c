"""Records as nobody should have written them, for the tests."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from shim import launch, record, status
from shim.record import Attempt
from shim.store import Store
from tests.stages import DATE, PREFIX, Table

WHO = {"host": "ip-10-0-0-7", "machine": "another", "pid": 1, "started": "1"}
ENTRY = {"execution_id": "one", "attempt": "a-1", "code_version": "abc",
         "opened": "2026-05-17T00:00:00Z", "launch": "l-1", **WHO}  # fmt: skip
CLAIM = {"run_date": DATE, "open": {"parity": ENTRY}}
RECEIPT = {"stage": "parity", "run_date": DATE, "state": "open", **ENTRY}
CLOSED = {**RECEIPT, "state": "closed", "outcome": "failed", "code": 1, "error": "why",
          "closed": "2026-05-17T00:01:00Z", "log": "-"}  # fmt: skip
COMMIT = {"stage": "parity", "run_date": DATE, "execution_id": "one", "attempt": "a-1",
          "code_version": "abc", "committed": "2026-05-17T00:00:00Z",
          "artifacts": {"p.txt": {"size": 1, "sha256": "0" * 64, "etag": "e"}},
          "built_on": {"backtest": None}}  # fmt: skip
LAUNCH = {"launch": "l-1", "number": 1, "execution_id": "one", "run_date": DATE,
          "stages": ["parity"], "state": "closed", "outcome": "committed", "code": 0, "error": None,
          "opened": "2026-05-17T00:00:00Z", "launched": "2026-05-17T00:00:01Z",
          "closed": "2026-05-17T00:10:00Z", "deadline": "2026-05-17T02:00:00Z", "price": 0.05,
          "instance": "i-1", "type": "c5.large", "market": "spot", "zone": "eu-west-1a",
          "bundle": {"key": "_bundles/x.tar.gz", "sha256": "0" * 64}, **WHO}  # fmt: skip
MANIFEST = {"files": {"a/b": {"size": 1, "sha256": "0" * 64, "executable": False}}}

CLAIM_KEY = record.claim_key(PREFIX)
RECEIPT_KEY = record.receipt_key(PREFIX, "parity", "a-1")
LAUNCH_KEY = launch.key(PREFIX, "l-1")

UNREADABLE = {
    "nothing": b"",
    "half": b'{"open": {',
    "a list": b"[]",
    "null": b"null",
    "a number": b"5",
    "a text": b'"open"',
    "no UTF-8": b'{"state": "\xff"}',
    "UTF-16": '{"state": "open"}'.encode("utf-16"),
    "an empty object": b"{}",
    "nulls": b'{"open": null, "state": null, "files": null, "artifacts": null}',
    "lists": b'{"open": [], "state": [], "files": [], "artifacts": []}',
    "texts": b'{"open": "x", "state": "x", "files": "x", "artifacts": "x"}',
    "deep": b'{"open": ' * 200 + b"1" + b"}" * 200,
    "deeper": b"[" * 100_000,
    "twice": b'{"open": {}, "open": {}, "state": "open", "state": "closed"}',
    "no number": b'{"open": {}, "state": "open", "x": NaN}',
    "infinite": b'{"open": {}, "state": "open", "x": 1e999}',
    "too long a number": b'{"open": {}, "state": "open", "x": ' + b"9" * 5000 + b"}",
}

SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 256, 1 << 31, 1 << 63, 10**30, 1e300, -0.5])
    | st.sampled_from(["", "open", "closed", "then", "../x", "a/b", "-x", "\x1b[31m", "\ud800"])
    | st.sampled_from(["2026-05-17T00:00:00", "0001-01-01T00:00:00+23:59", "\u202e", "x" * 2000])
    | st.text(st.characters(), max_size=8)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of every value in a document, its own too."""
    yield at
    inner = value.items() if isinstance(value, dict) else ()
    for name, below in inner:
        yield from places(below, (*at, name))


@st.composite
def changed(draw: st.DrawFn, *records: dict[str, Any]) -> bytes:
    """Return one of the records with anything, or nothing, in one of its places."""
    found = copy.deepcopy(draw(st.sampled_from(records)))
    path = draw(st.sampled_from(list(places(found))))
    if not path:
        return json.dumps(draw(ANYTHING)).encode()
    inside = found
    for name in path[:-1]:
        inside = inside[name]
    how = draw(st.sampled_from(["value", "value", "name", "gone"]))
    old = inside.pop(path[-1]) if how != "value" else None
    if how == "value":
        inside[path[-1]] = draw(ANYTHING)
    elif how == "name":
        inside[draw(st.text(max_size=8) | st.sampled_from(["../x", "a/b", "", "_x"]))] = old
    return json.dumps(found).encode()


def put(there: Store, key: str, value: Any) -> None:
    """Write a record: a document, or bytes as they are."""
    there.put(key, value if isinstance(value, bytes) else json.dumps(value).encode())


def later(there: Store, seconds: float) -> None:
    """Put a store's clock forward, for this store alone."""
    now = there.now
    there.now = lambda: now() + timedelta(seconds=seconds)  # type: ignore[method-assign]


@contextmanager
def attempt(table: Table, stage: str = "parity", execution: str = "two") -> Iterator[Attempt]:
    """Open an attempt, and end its heartbeat."""
    made = Attempt(table.store, table.plan(execution_id=execution), stage, "a-2")
    try:
        made.open()
        yield made
    finally:
        made.release()


def looked(table: Table) -> status.Status:
    """Look, and print what was seen both ways: neither may fail."""
    found = status.of(table.store, PREFIX, DATE, "--date", ("backtest", "parity"))
    json.loads(found.to_json())
    assert all(line.isprintable() for line in found.to_text().splitlines())
    return found
