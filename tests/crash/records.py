"""The records of a run as those outside read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.crash.evidence import Evidence, parsed


def run_prefix(seen: Evidence) -> str:
    """Return the run prefix."""
    return f"backtest/{seen.date}/"


def records(seen: Evidence, shape: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return key and values of every record whose key has a shape under the run prefix."""
    for key, body in sorted(seen.objects.items()):
        if re.fullmatch(re.escape(run_prefix(seen)) + "_stages/" + shape, key):
            yield key, parsed(body)


def launches(seen: Evidence) -> list[dict[str, Any]]:
    """Return every launch record, the oldest first."""
    return [values for _, values in records(seen, r"_launches/.+\.json")]


def receipts(seen: Evidence, stage: str = r"[a-z]\w*") -> list[dict[str, Any]]:
    """Return every receipt of a stage, or of all."""
    return [values for _, values in records(seen, rf"{stage}/.+\.json")]


def commits(seen: Evidence) -> dict[str, dict[str, Any]]:
    """Return the commits by their stages."""
    return {values.get("stage", ""): values for _, values in records(seen, r"[a-z]\w*\.json")}
