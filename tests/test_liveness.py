"""Who runs an attempt, and the proof that they are gone."""

from __future__ import annotations

import subprocess

from shim import liveness
from tests.children import until


def test_a_process_of_this_machine_is_told_from_a_later_one() -> None:
    """By its start; a zombie counts as gone, a record of another machine proves nothing."""
    me = liveness.myself()
    with subprocess.Popen(["true"]) as child:
        until(lambda: liveness._started(child.pid) is None)

    assert not liveness.proven_dead(me)
    assert liveness.proven_dead({**me, "started": "1"})
    assert liveness.proven_dead({**me, "pid": child.pid})
    for unknown in ({**me, "machine": "another"}, {**me, "started": None}, {}, {**me, "pid": None}):
        assert not liveness.proven_dead(unknown)
