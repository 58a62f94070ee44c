"""What an outage of the store may do to a run: to who begins, and to who is at work (11)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.crash.cases import STORE
from tests.crash.ends import STAGES
from tests.crash.evidence import Evidence

GIVEN_UP = 69
HINT = re.compile(r"^spot_backtest: .+; .+", re.MULTILINE)  # what is wrong; what to do


def begun(seen: Evidence) -> Iterator[str]:
    """Return what is wrong with a launcher that found no store: it waits, or says what to do."""
    if not (seen.fault.startswith(STORE) and seen.reached and "launcher" in seen.side):
        return
    first = seen.launchers[0]
    if first["code"] not in (0, GIVEN_UP):
        yield f"a launcher without a store ended with {first['code']}"
    if first["code"] == GIVEN_UP and not HINT.search(str(first["err"])):
        yield "a launcher without a store does not say what to do"
    if first["code"] and any(began < first["at"] for began, _ in seen.lives.values()):
        yield "a launcher without a store launched an instance"


def no_work_lost(seen: Evidence) -> Iterator[str]:
    """11: a stage is run once, whenever the store goes away while there is an instance."""
    if not (seen.fault.startswith(STORE) and seen.reached and "launcher" not in seen.side):
        return
    runs = Counter(tag.partition("-")[0] for tag in {line.tag for line in seen.truth})
    for stage in STAGES:
        if runs[stage] != 1:
            yield f"the store was away for a while, and {stage} was run {runs[stage]} times"
