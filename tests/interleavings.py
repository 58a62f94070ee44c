"""What the state machines share: dates, waits, what stages do, how a played run ends, a budget.

TEST_STATEFUL_EXAMPLES=200 tries more interleavings, other ones each time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.model import Attempt, Cut, Does, Expected

EXAMPLES = int(os.environ.get("TEST_STATEFUL_EXAMPLES", "0"))
DATES = ("2026-05-17", "2026-05-18", "2024-02-29")
WAITS = "echo $$ > child; touch begun; while ! [ -e go ]; do sleep 0.02; done"
RECEIPT = re.compile(r"_stages/(\w+)/(\d{8}T\d{6}Z-[0-9a-f]{4})\.json")

words = st.sampled_from(["1", "2", "22"])
plain = st.builds(Does, words, st.booleans(), st.booleans())


def last(play: Generator[Attempt, Cut, Expected], cut: Cut | None = None) -> Expected:
    """Return what a played run comes to."""
    try:
        next(play) if cut is None else play.send(cut)
    except StopIteration as end:
        expected: Expected = end.value
        return expected
    raise AssertionError("it is held")


def budget(examples: int, steps: int) -> settings:
    """Return the settings of a machine; to shrink takes minutes, and is done when asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=steps,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
