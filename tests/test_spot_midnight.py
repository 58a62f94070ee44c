"""One date for a launch, whatever the clocks here and there say, and whenever midnight comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.children import until
from tests.lab.aws import AwsLab
from tests.lab.clock import Clock
from tests.launches import Spot
from tests.stages import DATE

NIGHT = datetime(2026, 5, 17, 23, 59, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    "when", ["stage", *(pytest.param(w, marks=pytest.mark.slow) for w in ("bootstrap", "relaunch"))]
)
def test_midnight_during_a_launch_splits_nothing(
    aws: AwsLab, tool: Path, tmp_path: Path, when: str
) -> None:
    """I01, I10: during bootstrap, during a stage, between two launches; `today` is asked once.

    The launcher and the instances read one clock, a file that the test writes.
    """
    spot = Spot(aws, tool, tmp_path / "spot")
    clock = Clock(tmp_path / "clock", NIGHT)
    aws.change("dt.datetime.now(dt.timezone.utc)", clock.expression)
    begun, go = tmp_path / "begun", tmp_path / "go"
    # The store's own clock is that of the test: six months away.
    spot.change({**clock.change, "shim.preflight": "SKEW = 1e9"})
    spot.table.stage("a", f"echo $RUN_DATE >> {begun}; while ! [ -e {go} ]; do sleep 0.05; done; "
                     'echo $RUN_DATE > "$ARTIFACTS_DIR/a.txt"')  # fmt: skip
    spot.table.stage("b", 'cp "$ARTIFACTS_DIR/a.txt" "$ARTIFACTS_DIR/b.txt"', needs=["a"],
                     requires=["a.txt"])  # fmt: skip

    def midnight() -> None:
        clock.set(NIGHT + timedelta(hours=1))

    if when == "bootstrap":
        aws.fault("ec2", "CreateFleet", after=1, done=lambda _: midnight())
    launcher = spot.start("--date", "today", EXECUTION_ID="saturday")
    spot.until(launcher, begun.exists)
    if when == "stage":
        midnight()
    if when == "relaunch":
        aws.reclaim(aws.alive()[0], None)
        until(lambda: aws.alive() == [])
        midnight()
        spot.until(launcher, lambda: len(begun.read_text().split()) == 2)
    go.touch()
    done = spot.end(launcher)

    assert done.code == 0, done.err + spot.console()
    assert set(begun.read_text().split()) == {DATE}
    assert spot.table.commit("b") is not None
    keys = spot.table.keys()
    assert {key.split("/")[0] for key in keys} == {"_bundles", "_ssm_logs", "backtest"}
    for key in keys:
        assert f"/{DATE}/" in key or key.startswith("_bundles/"), key
    assert {record["run_date"] for record in spot.records()} == {DATE}


@pytest.mark.slow
def test_a_reclaim_at_each_second_of_a_stage_ends_in_one_commit(
    aws: AwsLab, tool: Path, tmp_path: Path
) -> None:
    """I09: untold, from the launch until after the commit; the launch that follows commits once."""
    for tenths in range(0, 60, 6):
        folder = tmp_path / str(tenths)
        spot = Spot(aws, tool, folder, attempts=2)
        spot.use(f"{tenths}")
        spot.table.stage("a", 'for i in 1 2 3 4 5; do echo $i; sleep 0.3; done; '
                         'echo a > "$ARTIFACTS_DIR/a.txt"')  # fmt: skip
        before = set(aws.instances)
        launcher = spot.start(EXECUTION_ID="once")
        (name,) = until(lambda known=before: set(aws.alive()) - known)
        aws.ec2.reclaim_after(aws.instances[name], tenths / 10)
        done = spot.end(launcher)
        assert done.code == 0, done.err + spot.console()
        assert until(lambda: aws.alive() == [])
        assert spot.table.commit("a") is not None
        outcomes = [r["outcome"] for r in spot.table.receipts("a")]
        assert outcomes.count("committed") <= 1, outcomes
        assert {record["state"] for record in spot.records()} == {"closed"}
        assert {r["state"] for r in spot.table.receipts("a")} <= {"closed"}
